"""What goes wrong is said where a person sees it: nothing on the page fails in silence."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from pillow_heif import from_pillow
from playwright.sync_api import Browser, FilePayload, Page, Route, expect

from service.auth import CALLER, ApiKeys
from service.fleet import engines
from service.fleet.engines import Engine, EngineState
from service.problems import Problem
from tests.playground import test_page
from tests.playground.conftest import Visitor, take_sample
from tests.service.conftest import Api
from trials.pictures import photo

pytestmark = pytest.mark.needs("chromium")
api = test_page.api
visitor = test_page.visitor
AWAY = "The server does not answer"


def told(page: Page, words: str) -> None:
    """A box over the page says it, until it is closed."""
    box = page.locator("#faults .problem")
    expect(box).to_contain_text(words)
    box.get_by_role("button", name="Close").click()
    expect(box).to_have_count(0)


def pick(page: Page, *files: tuple[str, str, bytes]) -> None:
    page.locator("#picker").set_input_files([FilePayload(name=n, mimeType=t, buffer=b) for n, t, b in files])


def test_a_press_that_fails_is_told(api: Api, visitor: Visitor) -> None:
    visitor.expected = ["net::ERR_FAILED", "404"]
    page = visitor.open()
    page.route("**/coffee-end.jpg", lambda route: route.abort())
    page.get_by_role("button", name="Coffee").click()
    told(page, AWAY)
    page.unroute("**/coffee-end.jpg")

    job = api.start(test_page.made(api, visitor).id)
    page.route("**/cancel", lambda route: route.abort())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#faults")).to_contain_text(AWAY)
    visitor.accessible()
    page.unroute("**/cancel")
    page.get_by_role("button", name="Cancel").click()
    test_page.words(page, "Stopping at the next step")
    told(page, AWAY)

    api.jobs.stopped(job.id, job.attempt)
    done = api.succeed(api.submit({"method": "flow"})["id"])
    page.goto(f"{api.url}/#job={done.id}")
    expect(page.locator(".player .problem")).to_contain_text("could not be loaded")
    api.client.delete(f"/inbetween/{done.id}")
    page.get_by_role("button", name="Contact sheet").click()
    told(page, "There is no such job")
    page.get_by_role("button", name="This frame").click()
    expect(page.locator("#faults")).to_contain_text("There is no such job")
    page.get_by_role("link", name="Votes").click()
    expect(page.locator(".tallies")).to_be_visible()
    assert page.inner_text("#faults") == "", "it belonged to the view before"


def test_what_the_page_cannot_fetch_is_said(api: Api, visitor: Visitor) -> None:
    visitor.expected = ["net::ERR_FAILED"]
    page = visitor.page
    page.route("**/inbetween?*", lambda route: route.abort())
    visitor.open()
    expect(page.locator(".welcome .problem")).to_contain_text(AWAY)
    job = api.submit({"method": "flow"})
    page.route("**/objects/*", lambda route: route.abort())
    page.goto(f"{api.url}/#job={job['id']}")
    expect(page.locator(".remark")).to_contain_text("cannot be read back")


def test_a_fault_of_the_pages_own_is_told(visitor: Visitor) -> None:
    visitor.expected = ["went wrong in a test"]
    page = visitor.open()
    page.evaluate("void Promise.reject(new TypeError('went wrong in a test'))")
    told(page, "went wrong in a test")
    page.evaluate("void Promise.reject(new DOMException('given up', 'AbortError'))")
    page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    assert page.inner_text("#faults") == ""
    visitor.expected.append("given up")


def test_files_that_are_left_out_are_named(visitor: Visitor) -> None:
    page = visitor.open()
    pick(page, ("a.txt", "text/plain", b"words"))
    expect(page.locator(".remark")).to_have_text("Only pictures can be keyframes.")
    pick(page, *[(f"{number}.png", "image/png", photo()) for number in range(34)])
    expect(page.locator(".keyframe")).to_have_count(32)
    expect(page.locator(".remark")).to_have_text("There can be 32 keyframes; 2 were left out.")
    page.get_by_role("button", name="Remove Start").click()
    expect(page.locator(".remark")).to_be_hidden()


def test_a_keyframe_that_the_browser_does_not_know_and_a_name_that_never_ends(
    api: Api, visitor: Visitor, pictures: Path
) -> None:
    heic = io.BytesIO()
    from_pillow(Image.new("RGB", (64, 48), "navy")).save(heic)
    page = visitor.open()
    pick(page, ("from my phone.heic", "image/heic", heic.getvalue()), (f"{'a' * 150}.png", "image/png", photo()))
    expect(page.locator(".unshown")).to_have_text("from my phone.heic")
    page.get_by_role("button", name="Make the video").click()
    page.wait_for_selector(".progress")
    job = api.jobs.list("local", 1).jobs[0]
    api.succeed(job.id)
    expect(page.locator(".ends .unshown")).to_have_text("HEIC, not shown by this browser")
    page.get_by_text("The exact request").click()
    expect(page.locator(".request pre")).to_contain_text("a" * 150)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling on a phone"


def test_a_sample_is_seen_to_be_taken(visitor: Visitor) -> None:
    """On a phone the form is far below the samples."""
    visitor.page.set_viewport_size({"width": 360, "height": 600})
    page = visitor.open()
    take_sample(page, "Coffee")
    expect(page.locator(".keyframe").first).to_be_in_viewport(ratio=0.9)
    expect(page.get_by_role("button", name="Make the video")).to_be_in_viewport()


@pytest.mark.parametrize("view", ["compare", "rank"])
def test_nothing_to_show_is_said(api: Api, visitor: Visitor, view: str) -> None:
    page = visitor.open(f"#{view}=")
    expect(page.get_by_role("heading", name="Two pictures.")).to_be_visible()
    first, second = (api.submit({"method": "flow", "formats": ["gif"]})["id"] for _ in range(2))
    page.goto(f"{api.url}/#{view}={first},{second}")
    page.wait_for_selector(".progress >> nth=1")
    for job in map(api.start, (first, second)):
        result = api.store(job)
        result["files"] = [file for file in result["files"] if file["format"] != "mp4"]
        api.jobs.succeed(job.id, job.attempt, result)
    if view == "rank":
        expect(page.locator(".ballot .problem")).to_contain_text("There is nothing to vote on")
        page.get_by_role("link", name="See what became of them").click()
    expect(page.get_by_text("This browser plays none of its formats.")).to_have_count(2)
    visitor.accessible()


def test_half_a_comparison_is_none(api: Api, visitor: Visitor) -> None:
    visitor.expected = ["503"]
    ready = Engine("e1", EngineState.ready, "m", "cpu", 0, methods=("mpd",), native_frames=12, native_size=(64, 64))
    engines.publish(api.services.redis, api.settings, ready, ttl=600)
    page = visitor.open()
    take_sample(page, "Coffee")
    page.locator("[data-mode=several]").click()
    refusal = Problem(503, "queue-full", "The queue is full.").to_dict()
    sent: list[str] = []

    def only_one(route: Route) -> None:
        if sent:
            return route.fulfill(status=503, json=refusal)
        sent.append("one")
        return route.continue_()

    page.route("**/inbetween", only_one)
    page.get_by_role("button", name="Make 2 videos").click()
    expect(page.locator(".send .problem")).to_contain_text("The queue is full.")
    expect(page.get_by_role("button", name="Make 2 videos")).to_be_enabled()
    assert [job.state for job in api.jobs.list("local", 5).jobs] == ["canceled"]


def test_a_key_that_no_header_can_carry(browser: Browser, api: Api, pictures: Path) -> None:
    settings = api.settings.model_copy(update={"auth": "keys"})
    _, secret = ApiKeys(api.services.redis, settings).create("browser", CALLER)
    with Api(settings).running() as locked:
        context = browser.new_context()
        visitor = Visitor(context, locked.url, pictures)
        visitor.expected = ["401"]
        page = visitor.page
        page.goto(locked.url)
        page.fill("#api-key", "ibk_…")
        page.press("#api-key", "Enter")
        expect(page.locator("#key-fault")).to_contain_text("Copy it again")
        page.reload()
        page.fill("#api-key", secret)
        page.press("#api-key", "Enter")
        page.wait_for_selector("html[data-ready]")
        visitor.check()
        context.close()
