"""Server-Sent Events: from the beginning, resumed, several jobs at once, refused before they begin."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fastapi.routing
import httpx
import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from service.api import services
from service.api.streams import events
from tests.service.conftest import Api, Make, problem
from trials.servers import RedisProcess


@dataclass(frozen=True)
class Got:
    id: str
    event: str
    data: dict[str, Any]


@contextmanager
def stream(api: Api, path: str, last: str | None = None) -> Iterator[Iterator[Got]]:
    headers = {"Last-Event-ID": last} if last else {}
    with api.client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        yield parse(answer)


def parse(answer: httpx.Response) -> Iterator[Got]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Got(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


def test_a_jobs_story_as_it_happens(api: Api) -> None:
    made = api.submit({"method": "flow"})
    with stream(api, f"/inbetween/{made['id']}/events") as got:
        first = next(got)
        assert (first.event, first.data["state"], first.data["job"]) == ("state", "queued", made["id"])
        job = api.start(made["id"])
        assert next(got).data["state"] == "running"
        api.jobs.progress(job.id, job.attempt, {"step": 1, "steps": 2}, "data:image/jpeg;base64,AAAA")
        step, preview = next(got), next(got)
        assert (step.event, step.data["step"]) == ("progress", 1)
        assert (preview.event, preview.data["image"]) == ("preview", "data:image/jpeg;base64,AAAA")
        api.jobs.succeed(job.id, job.attempt, {})
        assert next(got).data["state"] == "succeeded"
        assert list(got) == [], "the stream ends with the job"


def test_a_reader_goes_on_after_the_last_event_it_saw(api: Api) -> None:
    made = api.submit({"method": "flow"})
    path = f"/inbetween/{made['id']}/events"
    job = api.start(made["id"])
    for step in range(1, 4):
        api.jobs.progress(job.id, job.attempt, {"step": step})
    with stream(api, path) as got:
        seen = [next(got) for _ in range(3)]
    api.jobs.stopped(api.jobs.cancel(job.id).id, job.attempt)
    with stream(api, path, seen[-1].id) as got:
        rest = list(got)
    assert [one.data.get("step") or one.data["state"] for one in rest] == [2, 3, "running", "canceled"]
    assert len({one.id for one in (*seen, *rest)}) == 7
    with stream(api, path, rest[-1].id) as got:
        assert list(got) == [], "a job that is over has nothing more to say"


def test_a_failed_job_set_going_again_goes_on_in_the_same_stream(api: Api) -> None:
    job = api.start(api.submit({"method": "flow"})["id"])
    api.jobs.fail(job.id, job.attempt, {"detail": "x"}, False)
    api.jobs.redrive(job.id)
    with stream(api, f"/inbetween/{job.id}/events") as got:
        assert [next(got).data["state"] for _ in range(4)] == ["queued", "running", "failed", "queued"]
        api.client.post(f"/inbetween/{job.id}/cancel")
        assert [one.data["state"] for one in got] == ["canceled"]


def test_several_jobs_in_one_stream(api: Api) -> None:
    ids = [api.submit({"method": "flow", "seed": seed})["id"] for seed in range(3)]
    path = f"/events?ids={','.join(ids)}"
    with stream(api, path) as got:
        queued = [next(got) for _ in range(3)]
        assert {(one.data["job"], one.data["state"]) for one in queued} == {(job_id, "queued") for job_id in ids}
        api.succeed(ids[1])
        assert [(one.data["job"], one.data["state"]) for one in (next(got), next(got))] == [
            (ids[1], "running"),
            (ids[1], "succeeded"),
        ]
        api.client.post(f"/inbetween/{ids[0]}/cancel")
        last = next(got)
        assert last.data["state"] == "canceled"
    with stream(api, path, last.id) as got:
        api.client.post(f"/inbetween/{ids[2]}/cancel")
        assert [(one.data["job"], one.data["state"]) for one in got] == [(ids[2], "canceled")]


def test_a_stream_that_cannot_begin_is_refused_as_a_problem(api: Api) -> None:
    made = api.submit({"method": "flow"})
    path = f"/inbetween/{made['id']}/events"
    problem(api.client.get(f"/inbetween/job_{'0' * 26}/events"), 404, "job-not-found")
    problem(api.client.get(f"/events?ids={made['id']},job_{'0' * 26}"), 404, "job-not-found")
    for ids in ("", ",", ",".join(f"job_{n:026d}" for n in range(51))):
        assert problem(api.client.get("/events", params={"ids": ids}), 422, "invalid-request")["field"] == "ids"
    assert problem(api.client.get("/events"), 422, "invalid-request")["field"] == "ids"
    for bad in ("x", "1-1,2-2", "1", "$", "1-99999999999999999999"):
        answer = api.client.get(path, headers={"Last-Event-ID": bad})
        assert problem(answer, 422, "invalid-request")["field"] == "Last-Event-ID"


def test_a_silent_stream_is_kept_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    made = api.submit({"method": "flow"})
    with api.client.stream("GET", made["links"]["events"]) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(":")) == ": ping"
        api.client.post(made["links"]["cancel"])
        assert any('"canceled"' in line for line in lines)


def test_a_blocking_read_is_shorter_than_its_sockets_patience(api: Api) -> None:
    patience = api.services.streaming.connection_pool.connection_kwargs["socket_timeout"]
    assert patience > events.LOOK_AFTER


def test_a_job_deleted_while_it_is_watched_ends_its_stream(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_AFTER", 0.05)
    made = api.submit({"method": "flow"})
    with stream(api, made["links"]["events"]) as got:
        assert next(got).data["state"] == "queued"
        api.client.delete(made["links"]["self"])
        assert [one.data["state"] for one in got] == ["canceled"]


def test_many_readers_at_once(api: Api) -> None:
    made = api.submit({"method": "flow"})
    began = threading.Barrier(31)
    stories: list[list[str]] = []

    def read() -> None:
        with stream(api, made["links"]["events"]) as got:
            first = next(got)
            began.wait(60)
            stories.append([first.data["state"], *(one.data["state"] for one in got)])

    readers = [threading.Thread(target=read) for _ in range(30)]
    for reader in readers:
        reader.start()
    began.wait(60)
    api.succeed(made["id"])
    for reader in readers:
        reader.join(60)
    assert stories == [["queued", "running", "succeeded"]] * 30


def test_a_redis_that_dies_cuts_the_stream_and_a_reader_goes_on_later(
    make_api: Make, redis_process: RedisProcess
) -> None:
    api = make_api(redis_url=redis_process.url)
    made = api.submit({"method": "flow"})
    with stream(api, made["links"]["events"]) as got:
        first = next(got)
        redis_process.kill()
        assert list(got) == []
    assert problem(api.client.get(made["links"]["events"]), 503, "unavailable")
    redis_process.start()
    api.client.post(made["links"]["cancel"])
    with stream(api, made["links"]["events"], first.id) as got:
        assert [one.data["state"] for one in got] == ["canceled"]


def test_an_owners_streams_are_counted_while_they_last(make_api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MOST_STREAMS", 2)
    api = make_api()
    path = f"/inbetween/{api.submit({'method': 'flow'})['id']}/events"
    with stream(api, path), stream(api, path):
        refused = api.client.get(path)
        assert problem(refused, 429, "too-many-streams")["limit"] == 2
        assert refused.headers["retry-after"]

    # A reader who leaves is counted out when the server has seen it leave.
    @retry(stop=stop_after_delay(30), wait=wait_fixed(0.02), reraise=True)
    def again() -> None:
        with stream(api, path) as first, stream(api, path) as second:
            assert next(first).event == next(second).event == "state"

    again()

    @retry(stop=stop_after_delay(30), wait=wait_fixed(0.02), reraise=True)
    def unknown() -> None:
        problem(api.client.get("/inbetween/job_x/events"), 404, "job-not-found")

    for _ in range(3):
        unknown()
    again()
