"""Both clients against a real API; the test plays the worker."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import pytest
from PIL import Image

import inbetween
from inbetween import (
    AsyncClient,
    Client,
    Event,
    InbetweenError,
    Job,
    JobCanceled,
    JobFailed,
    Keyframe,
    NoResult,
    NotFound,
    RequestRefused,
    Retries,
    Unreachable,
    WaitTimeout,
    options,
)
from mpd import methods
from service.auth import Scope
from service.jobs import options as served
from service.problems import Problem
from tests.client.conftest import QUICK, Either
from tests.service.conftest import Api, Make
from trials.pictures import photo
from trials.servers import free_port

FLOW: dict[str, Any] = {"method": "flow"}


def stored(api: Api, job: Any) -> list[bytes]:
    """The keyframes as the server keeps them."""
    record = api.jobs.get(job.id)
    assert record is not None
    return [api.storage.get(keyframe["key"]) for keyframe in record.keyframes]


def works(api: Api) -> Callable[[Any], None]:
    """A worker that does a job's next thing whenever its owner hears of the last."""
    seen: list[str] = []

    def on_news(job: Any) -> None:
        state = "progress" if job.progress else job.state
        if state in seen:
            return
        seen.append(state)
        record = api.jobs.get(job.id)
        assert record is not None
        if state == "queued":
            api.start(job.id)
        elif state == "running":
            api.jobs.progress(job.id, record.attempt, {"stage": "sampling", "step": 1, "steps": 2, "fraction": 0.5})
        elif state == "progress":
            api.jobs.succeed(job.id, record.attempt, api.store(record))

    return on_news


def test_two_keyframes_to_a_saved_video(api: Api, either: Either, pictures: list[Path], tmp_path: Path) -> None:
    client = either.client(api.url)
    job = either.do(client.inbetween(*pictures[:2], **FLOW, reference="shot-1"))
    assert (job.state, job.position, job.reference, job.over) == ("queued", 0, "shot-1", False)
    assert stored(api, job) == [path.read_bytes() for path in pictures[:2]]
    told: list[tuple[str, Any]] = []
    work = works(api)

    def progress(news: Any) -> None:
        told.append((news.state, news.progress and news.progress.step))
        work(news)

    assert either.do(job.wait(progress)) is job
    assert told == [("queued", None), ("running", None), ("running", 1), ("succeeded", None)]
    saved = either.do(job.save(tmp_path / "new" / "out.mp4"))
    assert saved.read_bytes() == bytes(range(256)) * 8
    assert either.do(job.save(tmp_path / "out.GIF")).read_bytes() == b"GIF89a" * 10
    assert either.do(job.save(tmp_path / "other", format="gif")).read_bytes() == b"GIF89a" * 10
    assert either.do(job.poster())[:2] == either.do(job.frame(0))[:2] == b"\xff\xd8"
    assert len(either.do(_frames(job))) == job.result.frames == 3
    assert {path.name for path in either.do(job.save_all(tmp_path / "all"))} == {file.name for file in job.files}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "new", "other", "out.GIF"]


def _frames(job: Any) -> Any:
    found = job.frames()
    return list(found) if isinstance(job, Job) else found


def test_events_to_the_end_and_from_the_middle(api: Api, either: Either) -> None:
    client = either.client(api.url)
    job = either.do(client.inbetween(photo(), photo(), **FLOW))
    record = api.start(job.id)
    api.jobs.progress(job.id, record.attempt, {"step": 1, "steps": 2})
    api.jobs.succeed(job.id, record.attempt, api.store(record))
    events: list[Event] = either.do(_listed(job))
    assert [event.type for event in events] == ["state", "state", "progress", "state"]
    assert [event.state for event in events if event.type == "state"] == ["queued", "running", "succeeded"]
    assert events[2].progress is not None
    assert events[2].progress.step == 1
    assert job.state == "succeeded"
    assert job.result.frames == 3
    again = either.do(client.job(job.id))
    assert [event.id for event in either.do(_listed(again, events[2].id))] == [event.id for event in events[3:]]


def test_a_preview_is_seen_while_the_job_runs(api: Api, client: Client) -> None:
    job = client.inbetween(photo(), photo(), method="flow")
    record = api.start(job.id)
    api.jobs.progress(job.id, record.attempt, {"step": 1, "steps": 2}, "data:image/jpeg;base64,/9j/")
    previews = []
    for event in job.events():
        if event.preview is not None:
            previews.append(event.preview)
            api.jobs.succeed(job.id, record.attempt, api.store(record))
    assert previews == [b"\xff\xd8\xff"]


def _listed(job: Any, after: str | None = None) -> Any:
    found = job.events(after)
    return list(found) if isinstance(job, Job) else found


def test_a_failed_and_a_canceled_job_say_so(api: Api, either: Either) -> None:
    client = either.client(api.url)
    failing, stopped = (either.do(client.inbetween(photo(), photo(), **FLOW)) for _ in range(2))
    record = api.start(failing.id)
    api.jobs.fail(failing.id, record.attempt, Problem(507, "storage-full", "No room.").to_dict(), retry=False)
    with pytest.raises(JobFailed, match="No room") as failed:
        either.do(failing.wait())
    assert (failed.value.problem.slug, failed.value.job_id) == ("storage-full", failing.id)
    assert either.do(failing.wait(check=False)).error.status == 507
    either.do(stopped.cancel())
    assert stopped.state == "canceled"
    with pytest.raises(JobCanceled, match=stopped.id):
        either.do(stopped.wait())
    with pytest.raises(JobCanceled):
        either.do(stopped.save("nowhere.mp4"))


def test_waiting_ends_in_time_and_the_job_goes_on(api: Api, either: Either) -> None:
    client = either.client(api.url)
    job = either.do(client.inbetween(photo(), photo(), **FLOW))
    with pytest.raises(WaitTimeout, match="still queued"):
        either.do(job.wait(timeout=0.2))
    with pytest.raises(NoResult, match="wait"):
        either.do(job.save("nowhere.mp4"))
    assert either.do(job.refresh()).state == "queued"


@pytest.mark.parametrize("cancel", [True, False])
def test_an_interrupt_cancels_or_leaves_the_job(api: Api, either: Either, cancel: bool) -> None:
    client = either.client(api.url)
    job = either.do(client.inbetween(photo(), photo(), **FLOW))

    def interrupt(_: Any) -> None:
        if isinstance(client, Client):
            raise KeyboardInterrupt
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
        either.do(job.wait(interrupt, cancel_on_interrupt=cancel))
    record = api.jobs.get(job.id)
    assert record is not None
    assert str(record.state) == ("canceled" if cancel else "queued")


def test_the_list_is_fetched_page_by_page(api: Api, either: Either, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inbetween.operations.PAGE", 2)
    client = either.client(api.url)
    ids = [either.do(client.inbetween(photo(), photo(), **FLOW)).id for _ in range(5)]
    either.do(either.do(client.job(ids[0])).cancel())

    def listed(**asked: Any) -> list[str]:
        found = client.jobs(**asked)
        return [job.id for job in (list(found) if isinstance(client, Client) else either.do(found))]

    assert listed() == ids[::-1]
    assert listed(limit=3) == ids[:1:-1]
    assert listed(state="canceled") == ids[:1]


def test_erased_is_erased(api: Api, either: Either) -> None:
    client = either.client(api.url)
    job = either.do(client.inbetween(photo(), photo(), **FLOW))
    either.do(job.delete())
    either.do(job.delete())
    with pytest.raises(NotFound) as missing:
        either.do(client.job(job.id))
    assert missing.value.slug == "job-not-found"
    with pytest.raises(NotFound):
        either.do(job.wait())


def test_a_refusal_carries_everything_the_server_said(api: Api, either: Either) -> None:
    client = either.client(api.url)
    with pytest.raises(RequestRefused) as refused:
        either.do(client.inbetween(photo(), photo(), **FLOW, stepz=3))
    problem = refused.value
    assert (problem.type, problem.slug, problem.status) == ("/problems/invalid-request", "invalid-request", 422)
    assert problem.field == "options.stepz"
    assert problem.remedy
    assert problem.request_id
    assert "options.stepz" in str(problem)


def test_what_it_would_cost_and_what_there_is(api: Api, either: Either) -> None:
    client = either.client(api.url)
    assert either.do(client.estimate(photo(), photo(), **FLOW, frames=5))["cost"]["frames"] == 5
    assert "mpd-vibid" in {method["name"] for method in either.do(client.methods())["methods"]}


def test_every_way_to_hold_a_keyframe(api: Api, either: Either, pictures: list[Path]) -> None:
    client = either.client(api.url)
    path = pictures[0]
    content = path.read_bytes()
    uploaded = either.do(client.upload(path))
    with path.open("rb") as opened, Image.open(path) as picture:
        given = [str(path), content, bytearray(content), opened, uploaded, io.BytesIO(content), picture]
        job = either.do(client.inbetween(*given, **FLOW))
    *files, drawn = stored(api, job)
    assert files == [content] * 6
    with Image.open(io.BytesIO(drawn)) as received, Image.open(path) as sent:
        assert received.tobytes() == sent.tobytes()
    for wrong in (7, io.StringIO("text")):
        with pytest.raises(TypeError):
            either.do(client.inbetween(wrong, content))
    with pytest.raises(FileNotFoundError):
        either.do(client.inbetween("no-such.png", content))


def test_keyframes_stand_where_they_are_put(client: Client, pictures: list[Path]) -> None:
    a, b, c = pictures
    job = client.inbetween((a, 0), Keyframe(b, 4), (c, 10), method="flow")
    assert job.data["options"]["positions"] == [0, 4, 10]
    with pytest.raises(RequestRefused) as refused:
        client.inbetween((a, 0), b, (c, 10), method="flow")
    assert refused.value.field == "at"


def test_images_too_much_for_one_request_are_uploaded(make_api: Make, either: Either) -> None:
    api = make_api(max_body_bytes=3000)
    client = either.client(api.url)
    pictures = [
        photo(width=64 + n, colour=f"#{n * 37 % 256:02x}1060", format="PNG").ljust(1500, b"\0") for n in range(4)
    ]
    job = either.do(client.inbetween(*pictures, **FLOW))
    assert stored(api, job) == pictures


def test_a_submission_is_one_job_however_often_it_is_sent(api: Api, either: Either) -> None:
    client = either.client(api.url)
    first, second = (either.do(client.inbetween(photo(), photo(), **FLOW, idempotency_key="row-7")) for _ in range(2))
    assert first.id == second.id
    with pytest.raises(RequestRefused) as refused:
        either.do(client.inbetween(photo(), photo(), **FLOW, fps=9, idempotency_key="row-7"))
    assert refused.value.slug == "idempotency-key-reused"


class Lossy(httpx.BaseTransport):
    """A network on which the first answer to each submission is lost, and event streams break."""

    def __init__(self, stream: Callable[[httpx.Response], httpx.Response] | None = None) -> None:
        self.real = httpx.HTTPTransport()
        self.lost: list[str] = []
        self.stream = stream
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self.real.handle_request(request)
        if request.url.path.endswith("/events") and self.stream:
            return self.stream(response)
        if request.method == "POST" and request.url.path not in self.lost:
            self.lost.append(request.url.path)
            response.read()
            response.close()
            raise httpx.ReadError("lost on the way back", request=request)
        return response

    def close(self) -> None:
        self.real.close()


def test_an_answer_lost_on_the_way_back_makes_no_second_job(api: Api) -> None:
    with httpx.Client(transport=Lossy()) as http:
        client = Client(api.url, http=http, retries=QUICK)
        job = client.inbetween(photo(), photo(), method="flow")
        assert [each.id for each in client.jobs()] == [job.id]


def test_a_broken_stream_is_taken_up_where_it_was(api: Api, client: Client) -> None:
    job = client.inbetween(photo(), photo(), method="flow")
    record = api.succeed(job.id)
    assert str(record.state) == "succeeded"
    whole = [event.id for event in job.events()]

    class OneEvent(httpx.SyncByteStream):
        def __init__(self, response: httpx.Response) -> None:
            self.response = response

        def __iter__(self) -> Iterator[bytes]:
            got = b""
            assert isinstance(self.response.stream, httpx.SyncByteStream)
            for piece in self.response.stream:
                got += piece
                if b"\n\n" in got:
                    yield got[: got.index(b"\n\n") + 10]
                    raise httpx.ReadError("cut")

        def close(self) -> None:
            self.response.close()

    def cut(response: httpx.Response) -> httpx.Response:
        return httpx.Response(response.status_code, headers=response.headers, stream=OneEvent(response))

    network = Lossy(cut)
    with httpx.Client(transport=network) as http:
        found = Client(api.url, http=http, retries=QUICK).job(job.id)
        # A finished job is asked for after the first cut, and nothing needs to be heard any more.
        events = list(found.events())
    assert events[0].id == whole[0]
    assert events[-1].state == "succeeded"
    assert found.result is not None


def test_resuming_sends_the_last_event_id(api: Api) -> None:
    streams = 0

    def cut(response: httpx.Response) -> httpx.Response:
        nonlocal streams
        streams += 1
        return httpx.Response(200, headers=response.headers, stream=FirstPiece(response)) if streams < 3 else response

    network = Lossy(cut)
    with httpx.Client(transport=network) as http:
        job = Client(api.url, http=http, retries=QUICK).inbetween(photo(), photo(), method="flow")
        seen = []
        work = works(api)
        for event in job.events():
            seen.append((event.type, event.state or event.progress))
            work(job)
    ids = [request.headers.get("last-event-id") for request in network.requests if request.url.path.endswith("events")]
    assert ids[0] is None
    assert None not in ids[1:]
    assert len(set(ids)) == len(ids) == 3
    assert [state for kind, state in seen if kind == "state"] == ["queued", "running", "succeeded"]


class FirstPiece(httpx.SyncByteStream):
    """Breaks off after what came first."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self.response.stream, httpx.SyncByteStream)
        yield next(iter(self.response.stream))
        raise httpx.ReadError("cut")

    def close(self) -> None:
        self.response.close()


@pytest.mark.parametrize("status", [502, 200])
def test_where_no_stream_gets_through_the_job_is_asked_for(
    api: Api, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that refuses streams, and one that answers with a page of its own."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def other(response: httpx.Response) -> httpx.Response:
        response.close()
        return httpx.Response(status, html="<p>proxy</p>")

    network = Lossy(other)
    with httpx.Client(transport=network) as http:
        job = Client(api.url, http=http, retries=QUICK).inbetween(photo(), photo(), method="flow")
        told = []
        work = works(api)

        def progress(news: Job) -> None:
            told.append(news.state)
            work(news)

        job.wait(progress)
    assert list(dict.fromkeys(told)) == ["queued", "running", "succeeded"]
    assert sum(request.url.path.endswith("/events") for request in network.requests) == 3


def test_a_server_that_is_not_there(either: Either) -> None:
    client = either.client(f"http://127.0.0.1:{free_port()}", retries=Retries(most=1, first=0.001))
    with pytest.raises(Unreachable, match="GET /methods"):
        either.do(client.methods())
    assert issubclass(Unreachable, InbetweenError)


def test_the_server_and_the_key_come_from_the_environment(
    make_api: Make, either: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(auth="keys")
    _, secret = api.services.keys.create("test", [Scope.submit, Scope.read])
    monkeypatch.setenv("INBETWEEN_URL", api.url + "/")
    with pytest.raises(inbetween.NotAllowed) as refused:
        either.do(either.client(None).methods())
    assert refused.value.status == 401
    monkeypatch.setenv("INBETWEEN_API_KEY", secret)
    client = either.client(None)
    assert client.url == api.url
    assert either.do(client.methods())["default"]
    assert secret not in repr(client)


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", "http://", "http://exa mple:x"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="no URL"):
        Client(url)


@pytest.mark.parametrize("job_id", ["", "..", "."])
def test_no_id_leads_elsewhere(client: Client, job_id: str) -> None:
    with pytest.raises(ValueError, match="no id"):
        client.job(job_id)
    with pytest.raises(NotFound):
        client.job("a/../b?c")


def test_the_key_goes_to_the_server_alone(receiver: Any) -> None:
    """Uploads and downloads may lead to another host."""
    place = {
        "url": f"{receiver.url}/put",
        "method": "PUT",
        "headers": {"Content-Type": "image/png"},
        "image": "upload:1",
    }
    receiver.answers = [(201, {"content-type": "application/json"}, json.dumps(place).encode()), (200, {}, b"")]
    receiver.RequestHandlerClass.do_PUT = receiver.RequestHandlerClass.do_POST
    with Client(receiver.url, "ibk_secret") as client:
        assert client.upload(photo()) == "upload:1"
    asked, put = receiver.received
    assert asked.headers["authorization"] == "Bearer ibk_secret"
    assert "authorization" not in put.headers
    assert put.body == photo()


def test_options_are_the_servers() -> None:
    """A new option of the server's belongs into the client's types."""
    assert set(get_type_hints(options.Options)) == set(served.Options.model_fields)
    for ours, theirs in (
        (options.Method, served.MethodName),
        (options.Format, served.Format),
        (options.Priority, served.Priority),
        (options.EventType, served.EventType),
        (options.Fit, methods.Fit),
        (options.Anchor, methods.Anchor),
    ):
        assert ours == theirs
    assert set(options.SUFFIXES.values()) <= set(get_args(options.Format))


def test_both_clients_have_the_same_methods() -> None:
    for one, other in ((Client, AsyncClient), (inbetween.Job, inbetween.AsyncJob)):
        assert {name for name in vars(one) if not name.startswith("_")} == {
            name for name in vars(other) if not name.startswith("_")
        }
    assert QUICK.pause(1) is not None
