"""The verdict sees what it is there to see: one job that ended well, and each way in which it might not have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from service.jobs import Jobs, NewJob, State, files_prefix
from service.settings import Settings
from service.storage import Storage, open_storage
from tests.chaos.customers import Ledger
from tests.chaos.verdict import Heard, Verdict, at_rest, judge

DATA = b"a video"
FILE = {"name": "take-1.mp4", "size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}


@dataclass
class World:
    """One job, ordered as `order-1`, that succeeded and was announced."""

    jobs: Jobs
    storage: Storage
    ledger: Ledger
    heard: list[Heard]
    job: str

    def verdict(self) -> Verdict:
        return judge(self.jobs, self.storage, self.ledger, self.heard)

    @property
    def prefix(self) -> str:
        return f"{files_prefix(self.job)}1/"

    def say(self, **state: Any) -> None:
        """Append a state to the job's event stream."""
        event = {"type": "state", "data": json.dumps({"attempt": 1, **state})}
        self.jobs.redis.xadd(self.jobs.keys.events(self.job), event)  # type: ignore[arg-type]


@pytest.fixture
def world(redis_url: str, tmp_path: Path) -> Iterator[World]:
    settings = Settings.model_validate({"redis_url": redis_url, "storage_url": str(tmp_path)})
    with redis.Redis.from_url(redis_url) as connection:
        jobs, storage = Jobs(connection, settings), open_storage(settings, connection)
        webhook = {"url": "http://127.0.0.1/", "events": ["inbetween.succeeded"]}
        new = NewJob("local", {"reference": "order-1"}, [], "cpu", result_ttl=600, webhook=webhook)
        job = jobs.submit(new)
        jobs.queue("cpu", "default").empty()
        jobs.start(job.id, 1, "worker")
        result = {"attempt": 1, "files": [FILE]}
        storage.put(f"{files_prefix(job.id)}1/take-1.mp4", DATA, "video/mp4")
        manifest = json.dumps({**result, "stills": []}).encode()
        storage.put(f"{files_prefix(job.id)}1/manifest.json", manifest, "application/json")
        jobs.succeed(job.id, 1, result)
        jobs.delivered(job.id, 1)
        ledger = Ledger()
        ledger.accepted["order-1"] = job.id
        ledger.ended[job.id] = State.succeeded
        yield World(jobs, storage, ledger, [Heard("msg_1", job.id, "inbetween.succeeded", 1)], job.id)


def test_a_job_that_ended_well_breaks_nothing(world: World) -> None:
    verdict = world.verdict()
    assert verdict.clean, verdict.told()
    assert verdict.outcomes == {"succeeded": 1, "deleted": 0}
    assert at_rest(world.jobs)


def _lose(world: World) -> None:
    world.ledger.accepted["order-2"] = "job_of_nobody"


def _change_its_mind(world: World) -> None:
    world.ledger.ended[world.job] = State.canceled


def _end_twice(world: World) -> None:
    world.say(state="failed")


def _order_twice(world: World) -> None:
    again = world.jobs.submit(NewJob("local", {"reference": "order-1"}, [], "cpu", result_ttl=600))
    world.jobs.cancel(again.id)


def _stay_queued(world: World) -> None:
    world.jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))


def _leave_an_index(world: World) -> None:
    world.jobs.redis.zadd(world.jobs.keys.owned("local", State.running), {world.job: 0})


def _forget_an_index(world: World) -> None:
    world.jobs.redis.zrem(world.jobs.keys.expiry, world.job)


def _leave_a_stream(world: World) -> None:
    world.jobs.redis.xadd(world.jobs.keys.events("job_of_nobody"), {"type": "state", "data": "{}"})


def _tear(world: World) -> None:
    world.storage.put(world.prefix + "take-1.mp4", DATA[:-1] + b"?", "video/mp4")


def _lack_a_file(world: World) -> None:
    world.storage.delete(world.prefix + "take-1.mp4")


def _mix(world: World) -> None:
    manifest = json.dumps({"attempt": 2, "files": [FILE], "stills": []}).encode()
    world.storage.put(world.prefix + "manifest.json", manifest, "application/json")


def _stay_silent(world: World) -> None:
    world.heard.clear()


def _announce_another_end(world: World) -> None:
    world.heard.append(Heard("msg_2", world.job, "inbetween.failed", 1))


def _leave_files(world: World) -> None:
    world.storage.put("jobs/job_of_nobody/keyframes/0", DATA, "image/png")


@pytest.mark.parametrize(
    ("misdeed", "sort"),
    [
        (_lose, "lost"),
        (_change_its_mind, "lost"),
        (_end_twice, "doubled"),
        (_order_twice, "doubled"),
        (_stay_queued, "stuck"),
        (_leave_an_index, "stuck"),
        (_forget_an_index, "stuck"),
        (_leave_a_stream, "stuck"),
        (_tear, "torn"),
        (_lack_a_file, "torn"),
        (_mix, "torn"),
        (_stay_silent, "unannounced"),
        (_announce_another_end, "unannounced"),
        (_leave_files, "orphaned"),
    ],
)
def test_every_misdeed_is_seen(world: World, misdeed: Callable[[World], None], sort: str) -> None:
    misdeed(world)
    assert world.verdict().breaches[sort]


def test_files_that_are_due_for_erasure_are_not_orphaned(world: World) -> None:
    _leave_files(world)
    world.jobs.abandon_files("job_of_nobody")
    assert not world.verdict().breaches["orphaned"]
    assert not at_rest(world.jobs)
