"""The page against an API whose worker the test plays: what it shows of every turn that a job can take."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from redis.exceptions import RedisError

from mpd.methods import METHODS
from mpd.options import Option
from service.api.routes.playground import policy
from service.auth import CALLER, ApiKeys
from service.fleet import engines
from service.fleet.engines import Engine, EngineState
from service.jobs.record import Job
from service.jobs.request_options import REQUEST_OPTIONS
from service.problems import Problem
from service.settings import ServiceSettings
from tests.playground.conftest import WAIT, Visitor, take_sample
from tests.service.conftest import Api
from trials.pictures import photo

PREVIEW = "data:image/gif;base64,R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="
expect.set_options(timeout=WAIT)
pytestmark = pytest.mark.needs("chromium")


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[Api]:
    settings = ServiceSettings(_env_file=None, auth="off", redis_url=redis_url, storage_url=str(tmp_path / "storage"))
    with Api(settings).running() as running:
        yield running


@pytest.fixture
def visitor(browser: Browser, api: Api, pictures: Path) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark", reduced_motion="reduce")
    met = Visitor(context, api.url, pictures)
    yield met
    met.check()
    context.close()


def made(api: Api, visitor: Visitor) -> Job:
    """The coffee, submitted by the page; its job."""
    page = visitor.open()
    take_sample(page, "Coffee")
    page.get_by_role("button", name="Make the video").click()
    page.wait_for_selector(".progress")
    return api.jobs.list("local", 1).jobs[0]


def step(api: Api, job: Job, number: int) -> None:
    numbers: dict[str, Any] = {"step": number, "steps": 25, "take": 1, "takes": 1, "segment": 0, "segments": 1}
    progress = {"stage": "sampling", "fraction": number / 25, "eta": 12.3, **numbers}
    api.jobs.progress(job.id, job.attempt, progress, PREVIEW)


def cut(api: Api) -> None:
    """End every event stream, as an outage of Redis does."""

    async def fail() -> None:
        for watcher in {each for watching in api.services.fanout._watchers.values() for each in watching}:
            watcher.fail(RedisError("cut"))

    task = api.services.fanout._task
    assert task is not None
    asyncio.run_coroutine_threadsafe(fail(), task.get_loop()).result(30)


def words(page: Page, text: str) -> None:
    expect(page.locator(".words")).to_have_text(text)


def test_queue_steps_preview_and_cancel(api: Api, visitor: Visitor) -> None:
    before = api.submit({"method": "flow"})["id"]
    job = made(api, visitor)
    page = visitor.page
    words(page, "1 job before this one")
    api.client.delete(f"/inbetween/{before}")
    words(page, "Next in line")
    job = api.start(job.id)
    step(api, job, 7)
    words(page, "Step 7 of 25")
    expect(page.locator(".left")).to_have_text("about 12 s left")
    assert page.get_attribute(".preview", "src") == PREVIEW
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling on a phone"
    visitor.picture("phone")
    visitor.accessible()
    page.get_by_role("button", name="Cancel").click()
    words(page, "Stopping at the next step")
    api.jobs.stopped(job.id, job.attempt)
    expect(page.locator(".cell .notice")).to_have_text("Canceled. Nothing was made.")


def test_a_broken_stream_is_taken_up_where_it_was_and_polling_stands_in(api: Api, visitor: Visitor) -> None:
    visitor.expected = ["net::ERR_FAILED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING"]
    job = api.start(made(api, visitor).id)
    page = visitor.page
    step(api, job, 3)
    words(page, "Step 3 of 25")
    page.route("**/events?*", lambda route: route.abort())
    cut(api)
    expect(page.get_by_text("The connection to the server broke")).to_be_visible()
    step(api, job, 4)
    words(page, "Step 4 of 25")
    page.unroute("**/events?*")
    expect(page.get_by_text("The connection to the server broke")).to_be_hidden()
    resumed = [one.headers.get("last-event-id") for one in visitor.asked if "/events?" in one.url]
    assert resumed[0] is None
    assert resumed[-1] is not None
    step(api, job, 5)
    words(page, "Step 5 of 25")
    page.reload()
    words(page, "Step 5 of 25")
    api.jobs.fail(job.id, job.attempt, Problem(500, "internal", "The engine said no.").to_dict(), False)
    expect(page.locator(".cell .problem")).to_contain_text("The engine said no.")


def test_an_answer_that_comes_late_does_not_take_an_ended_job_back(api: Api, visitor: Visitor) -> None:
    ids = [api.submit({"method": "flow"})["id"] for _ in range(2)]
    refusal = Problem(500, "internal", "The engine said no.").to_dict()
    page = visitor.open(f"#compare={','.join(ids)}")
    page.wait_for_selector(".progress >> nth=1")
    held: list[Route] = []
    page.route(f"**/inbetween/{ids[0]}", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request(f"**/inbetween/{ids[0]}"):
        job = api.start(ids[0])
    before = api.client.get(f"/inbetween/{job.id}").text
    api.jobs.fail(job.id, job.attempt, refusal, False)
    expect(page.locator(".cell .problem")).to_have_count(1)
    [route] = held
    with page.expect_event("requestfinished", lambda request: request == route.request):
        route.fulfill(body=before, content_type="application/json")
    page.evaluate("fetch('livez').then((answer) => answer.text())")
    other = api.start(ids[1])
    api.jobs.fail(other.id, other.attempt, refusal, False)
    expect(page.locator(".left-out .problem")).to_have_count(2)


def test_a_refusal_is_shown_at_its_field(api: Api, visitor: Visitor) -> None:
    visitor.expected = ["422"]
    page = visitor.open()
    page.get_by_role("button", name="Make the video").click()
    expect(page.locator(".send .problem")).to_contain_text("Choose the keyframes first.")
    take_sample(page, "Coffee")
    page.fill("#field-frames", "1000")
    page.get_by_role("button", name="Make the video").click()
    expect(page.locator("#fault-frames")).to_contain_text("241")
    assert page.get_attribute("#field-frames", "aria-invalid") == "true"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visitor.accessible()


UNDRAWN = {"method", "formats", "seeds", "webhook", "loop_frame"}
"""Options that the page asks for by other means, or not at all."""


def said(page: Page, one: Option) -> Any:
    """Give the option's field another value than its default; what the request should have."""
    field = page.locator(f"#field-{one.name}")
    expect(page.locator(f"label[for=field-{one.name}]")).to_have_text(one.label)
    expect(page.locator(f"#about-{one.name}")).to_have_text(one.hint)
    if one.kind == "boolean":
        field.check()
        return True
    if one.kind == "choice":
        assert field.locator("option").evaluate_all("all => all.map((each) => each.value)") == ["", *one.choices]
        value = next(choice for choice in one.choices if choice != one.default)
        field.select_option(value)
        return value
    if one.limit is not None:
        assert (field.get_attribute("min"), field.get_attribute("max")) == (f"{one.limit.low:g}", str(one.limit.high))
    if one.kind == "numbers":
        page.get_by_label(f"{one.label} at the first frame").fill("2")
        page.get_by_label(f"{one.label} at the last frame").fill("2.5")
        return [2, 2.5]
    values: dict[str, object] = {"number": 0.5, "colour": "#abcdef", "text": "word", "integer": 64}
    filled = values[one.kind] if one.limit is None or one.kind == "number" else min(64, int(one.limit.high) - 1)
    field.fill(str(filled))
    return filled


def test_every_option_can_be_asked_for(api: Api, visitor: Visitor) -> None:
    engine = Engine("e1", EngineState.ready, model="m", device="cpu", started_at=0, methods=("mpd-trf", "svd"))
    able = replace(engine, native_frames=12, native_size=(64, 64))
    engines.publish(api.services.redis, api.settings, able, ttl=600)
    page = visitor.open()
    page.get_by_role("button", name="Coffee").click()
    page.get_by_text("More settings").click()
    drawn = page.locator("[data-field]").evaluate_all("all => all.map((each) => each.dataset.field)")
    assert {*drawn, *UNDRAWN} == {*REQUEST_OPTIONS} | {"formats"}
    page.select_option("#method", "svd")
    some = [name for name, one in REQUEST_OPTIONS.items() if one.trait is not None]
    shown = [name for name in some if page.locator(f"#field-{name}").is_visible()]
    assert shown == [name for name in some if METHODS["svd"].has(REQUEST_OPTIONS[name].trait)]
    page.select_option("#method", "mpd-trf")
    fields = {name: one for name, one in REQUEST_OPTIONS.items() if name not in UNDRAWN}
    wanted = {name: said(page, one) for name, one in fields.items() if METHODS["mpd-trf"].has(one.trait)}
    visitor.picture("options")
    visitor.accessible()
    page.get_by_role("button", name="Make the video").click()
    page.wait_for_selector(".progress")
    job = api.jobs.list("local", 1).jobs[0]
    made = {**job.options, "seed": job.options["seeds"][0], "priority": job.priority, "result_ttl": job.result_ttl}
    assert {name: made.get(name) for name in wanted} == wanted


def test_the_request_is_exact_whatever_the_files_are_called(api: Api, visitor: Visitor, tmp_path: Path) -> None:
    names = ['it\'s a "photo" \\ é, 1;2.png', "end.png"]
    for name in names:
        (tmp_path / name).write_bytes(photo())
    page = visitor.open()
    page.locator("#picker").set_input_files([tmp_path / name for name in names])
    page.get_by_role("button", name="Make the video").click()
    page.wait_for_selector(".progress")
    api.succeed(api.jobs.list("local", 1).jobs[0].id)
    page.get_by_text("The exact request").click()
    curl = page.inner_text(".request pre")
    done = subprocess.run(curl, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"state":"queued"' in done.stdout
    page.get_by_role("button", name="Python").click()
    opened = page.inner_text(".request pre").partition("files = ")[2].partition("options = ")[0]
    files = eval(opened.strip(), {"open": lambda name, mode: (tmp_path / name).read_bytes()})
    assert files == [("start", photo()), ("end", photo())]


def test_a_comparison_of_models_waits_until_their_number_of_frames_is_known(api: Api, visitor: Visitor) -> None:
    """Else optical flow would make its own number, and the videos would not play in step."""
    starting = Engine("e1", EngineState.starting, model="m", device="cpu", started_at=0)
    engines.publish(api.services.redis, api.settings, starting, ttl=600)
    page = visitor.open()
    take_sample(page, "Coffee")
    page.locator("[data-mode=several]").click()
    using_both = sum(method.uses_end for method in METHODS.values())
    page.get_by_role("button", name=f"Make {using_both} videos").click()
    expect(page.locator(".send .problem")).to_contain_text("The engine is starting")
    ready = replace(starting, state=EngineState.ready, methods=("mpd",), native_frames=12, native_size=(64, 64))
    engines.publish(api.services.redis, api.settings, ready, ttl=600)
    page.get_by_role("button", name="Make 2 videos").click()
    page.wait_for_selector(".progress >> nth=1")
    assert {job.options["frames"] for job in api.jobs.list("local", 5).jobs} == {12}


def test_rife_is_offered_where_an_engine_has_it_and_is_named_beside_a_small_model(api: Api, visitor: Visitor) -> None:
    model = Engine("e1", EngineState.ready, model="m", device="cpu", started_at=0, methods=("mpd",))
    engines.publish(api.services.redis, api.settings, replace(model, native_frames=12, native_size=(64, 64)), ttl=600)
    page = visitor.open()
    page.select_option("#method", "mpd")
    expect(page.locator("#about-method")).to_contain_text("for photographs choose optical flow.")
    expect(page.locator("#method option[value=rife]")).to_be_disabled()
    interpolator = Engine("a1", EngineState.ready, model="", device="cpu", started_at=0, methods=("rife",))
    engines.publish(api.services.redis, api.settings, interpolator, ttl=600)
    take_sample(visitor.open(), "Coffee")
    page.select_option("#method", "mpd")
    expect(page.locator("#about-method")).to_contain_text("for photographs choose RIFE.")
    expect(page.locator("#field-frames")).to_have_attribute("placeholder", "12")
    page.select_option("#method", "rife")
    expect(page.locator("#about-method")).to_have_text(METHODS["rife"].description)
    page.get_by_text("More settings").click()
    page.select_option("#field-motion", "dis")
    page.locator("[data-mode=several]").click()
    page.get_by_role("button", name="Make 3 videos").click()
    page.wait_for_selector(".progress >> nth=2")
    asked = {job.options["method"]: job.options for job in api.jobs.list("local", 5).jobs}
    assert {name: options["frames"] for name, options in asked.items()} == {"flow": 12, "rife": 12, "mpd": 12}
    assert (asked["rife"]["motion"], asked["flow"].get("motion")) == ("dis", None)


def test_an_interpolator_that_starts_is_waited_for_by_rife_alone(api: Api, visitor: Visitor) -> None:
    interpolator = Engine("a1", EngineState.starting, model="", device="cpu", started_at=0)
    engines.publish(api.services.redis, api.settings, interpolator, ttl=600)
    page = visitor.open()
    expect(page.locator("#method option[value=mpd]")).to_be_disabled()
    page.select_option("#method", "rife")
    expect(page.locator("#about-method")).to_contain_text("The engine is starting; the job will wait for it.")
    ready = replace(interpolator, state=EngineState.ready, methods=("rife",))
    engines.publish(api.services.redis, api.settings, ready, ttl=600)
    expect(page.locator("#about-method")).to_have_text(METHODS["rife"].description)


def test_warnings_are_shown_under_the_video(api: Api, visitor: Visitor) -> None:
    job = api.start(made(api, visitor).id)
    told = ["Most of it is dissolved.", "mp4 holds no transparency."]
    api.jobs.succeed(job.id, job.attempt, {**api.store(job), "warnings": told})
    note = visitor.page.get_by_role("note", name="Warnings")
    expect(note.locator("p")).to_have_text(told)
    visitor.accessible()


@pytest.mark.parametrize("places", [[0, 82, 165], [0, 82, None], []], ids=["shown", "the last is not", "0.1.0"])
def test_a_keyframe_goes_to_the_frame_that_shows_it(api: Api, visitor: Visitor, places: list[int | None]) -> None:
    """25 frames a segment from 7 to 24 frames a second: the middle one is not in the middle."""
    files = [("keyframes", (f"{number}.png", photo(), "image/png")) for number in range(3)]
    sent = api.client.post("/inbetween", files=files, data={"options": '{"method": "flow", "output_fps": 24}'})
    job = api.start(sent.json()["id"])
    shown = [{"sha256": one["sha256"], "frame": at} for one, at in zip(job.keyframes, places, strict=False)]
    api.jobs.succeed(job.id, job.attempt, {**api.store(job), "frames": 166, "fps": 24, "keyframes": shown})
    page = visitor.open(f"#job={job.id}")
    for index, name in enumerate(("Start", "Keyframe 2", "End")):
        place = places[index] if places else None
        label = name if place is None else f"{name}: go to frame {place + 1}"
        button = page.get_by_role("button", name=label, exact=True)
        if place is None:
            expect(button).to_be_disabled()
            continue
        button.click()
        expect(page.locator(".player")).to_have_attribute("data-frame", str(place))
    visitor.accessible()


def test_a_key_is_asked_for_where_the_server_wants_one(browser: Browser, api: Api, pictures: Path) -> None:
    settings = api.settings.model_copy(update={"auth": "keys"})
    _, secret = ApiKeys(api.services.redis, settings).create("browser", CALLER)
    with Api(settings).running() as locked:
        context = browser.new_context()
        visitor = Visitor(context, locked.url, pictures)
        visitor.expected = ["401"]
        page = visitor.page
        page.goto(locked.url)
        page.fill("#api-key", "ibk_wrong")
        page.press("#api-key", "Enter")
        expect(page.locator("#key-fault")).to_contain_text("not known")
        visitor.accessible()
        page.fill("#api-key", secret)
        page.press("#api-key", "Enter")
        page.wait_for_selector("html[data-ready]")
        take_sample(page, "Coffee")
        page.get_by_role("button", name="Make the video").click()
        words(page, "Next in line")
        assert all(one.headers["authorization"] == f"Bearer {secret}" for one in visitor.asked if "/events?" in one.url)
        page.reload()
        words(page, "Next in line")
        assert page.locator("#api-key").count() == 0, "it is kept for the tab"
        visitor.check()
        context.close()


def test_the_page_may_run_its_own_scripts_alone_and_read_the_storage(api: Api) -> None:
    sent = api.client.get("/").headers["content-security-policy"]
    assert sent == policy([])
    assert "unsafe" not in sent
    assert "script-src 'self';" in sent
    s3 = api.settings.model_copy(
        update={
            "storage_url": "s3://bucket/home",
            "storage_endpoint": "https://s3.example.com",
            "storage_access_key": "a",
            "storage_secret_key": "b",
        }
    )
    with Api(
        ServiceSettings(_env_file=None, **{k: v for k, v in s3.model_dump().items() if v is not None})
    ).running() as far:
        allowed = far.client.get("/").headers["content-security-policy"]
        assert allowed == policy(["https://s3.example.com"])


def test_files_of_the_page_are_sent_once(api: Api) -> None:
    first = api.client.get("/playground/page.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = api.client.get("/playground/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("page.py", "..%2Fapp.py", "%2e%2e/app.py", "x"):
        assert api.client.get(f"/playground/{name}").status_code == 404
