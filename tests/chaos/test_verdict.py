"""The verdict sees what it is there to see: one job that ended well, and each way in which it might not have."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image

from mpd.output import video
from mpd.output.clip import Clip
from service.jobs.record import NewJob, State, files_prefix
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import Storage, open_storage
from trials.chaos.customers import CustomerLedger
from trials.chaos.verdict import Excuses, Heard, Judgement, at_rest, judge

COLOURS = (40, 60, 90), (230, 200, 60)
"""Of the first and the last keyframe."""


def picture(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def film(folder: Path, *colours: tuple[int, int, int]) -> bytes:
    """A video with a frame of each colour."""
    frames = np.stack([np.full((64, 64, 3), colour, np.uint8) for colour in colours])
    video.encode(Clip(frames, 8), "mp4", folder / "film.mp4")
    return (folder / "film.mp4").read_bytes()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class World:
    """One job, ordered as `order-1`, that succeeded and was announced."""

    jobs: Jobs
    storage: Storage
    ledger: CustomerLedger
    heard: list[Heard]
    job: str
    folder: Path
    excuses: Excuses = field(default_factory=Excuses)

    def verdict(self) -> Judgement:
        return judge(self.jobs, self.storage, self.ledger, self.heard, self.excuses)

    @property
    def prefix(self) -> str:
        return f"{files_prefix(self.job)}1/"

    def say(self, **state: Any) -> None:
        """Append a state to the job's event stream."""
        event = {"type": "state", "data": json.dumps({"attempt": 1, "deaths": 0, **state})}
        self.jobs.redis.xadd(self.jobs.keys.events(self.job), event)  # type: ignore[arg-type]


@pytest.fixture
def world(redis_url: str, tmp_path: Path) -> Iterator[World]:
    settings = ServiceSettings.model_validate({"redis_url": redis_url, "storage_url": str(tmp_path)})
    with redis.Redis.from_url(redis_url) as connection:
        jobs, storage = Jobs(connection, settings), open_storage(settings, connection)
        webhook = {"url": "http://127.0.0.1/", "events": ["inbetween.succeeded"]}
        sent = tuple(picture(colour) for colour in COLOURS)
        keyframes = [{"key": f"jobs/x/keyframes/{n}", "sha256": digest(data)} for n, data in enumerate(sent)]
        options = {"reference": "order-1", "method": "flow"}
        job = jobs.submit(NewJob("local", options, keyframes, "cpu", result_ttl=600, webhook=webhook))
        jobs.tickets.queue("cpu", "default").empty()
        jobs.start(job.id, 1, "worker")
        result = _result(film(tmp_path, *COLOURS), *sent)
        storage.put(f"{files_prefix(job.id)}1/take-1.mp4", film(tmp_path, *COLOURS), "video/mp4")
        manifest = json.dumps({**result, "stills": []}).encode()
        storage.put(f"{files_prefix(job.id)}1/manifest.json", manifest, "application/json")
        jobs.succeed(job.id, 1, result)
        jobs.delivered(job.id, 1)
        ledger = CustomerLedger()
        ledger.accepted["order-1"] = job.id
        ledger.ended[job.id] = State.succeeded
        ledger.sent["order-1"] = sent
        yield World(jobs, storage, ledger, [Heard("msg_1", job.id, "inbetween.succeeded", 1)], job.id, tmp_path)


def _result(data: bytes, *sent: bytes) -> dict[str, Any]:
    files = [{"name": "take-1.mp4", "size": len(data), "sha256": digest(data)}]
    return {"attempt": 1, "files": files, "keyframes": [{"sha256": digest(one)} for one in sent]}


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
    torn = film(world.folder, *COLOURS)[:-1] + b"?"
    world.storage.put(world.prefix + "take-1.mp4", torn, "video/mp4")


def _lack_a_file(world: World) -> None:
    world.storage.delete(world.prefix + "take-1.mp4")


def _mix(world: World) -> None:
    manifest = json.dumps({"attempt": 2, "files": [], "stills": []}).encode()
    world.storage.put(world.prefix + "manifest.json", manifest, "application/json")


def _stay_silent(world: World) -> None:
    world.heard.clear()


def _announce_another_end(world: World) -> None:
    world.heard.append(Heard("msg_2", world.job, "inbetween.failed", 1))


def _leave_files(world: World) -> None:
    world.storage.put("jobs/job_of_nobody/keyframes/0", b"a picture", "image/png")


def _tell_a_customer_that_it_is_gone(world: World) -> None:
    world.ledger.missing.add(world.job)


def _remake(world: World, data: bytes, *named: bytes) -> None:
    """Have the job's result be another video, of these keyframes as it says, and be whole."""
    result = _result(data, *named)
    world.jobs.redis.hset(world.jobs.keys.job(world.job), "result", json.dumps(result))
    world.storage.put(world.prefix + "take-1.mp4", data, "video/mp4")
    world.storage.put(world.prefix + "manifest.json", json.dumps({**result, "stills": []}).encode(), "application/json")


def _use_another_keyframe(world: World) -> None:
    _remake(world, film(world.folder, COLOURS[0], (250, 30, 240)), *world.ledger.sent["order-1"])


def _name_another_keyframe(world: World) -> None:
    _remake(world, film(world.folder, *COLOURS), world.ledger.sent["order-1"][0], b"another")


def _accept_another_keyframe(world: World) -> None:
    world.ledger.sent["order-1"] = (picture((0, 0, 0)), world.ledger.sent["order-1"][1])


def _another(world: World) -> str:
    """A running job of nobody's order."""
    job = world.jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    world.jobs.tickets.queue("cpu", "default").empty()
    return world.jobs.start(job.id, 1, "worker").id


def _charge_a_death(world: World) -> None:
    job = _another(world)
    world.jobs.died(job, 1, "lease")
    world.jobs.cancel(job)


def _charge_an_error(world: World) -> None:
    job = _another(world)
    world.jobs.fail(job, 1, {"type": "/problems/generation-failed"}, True)
    world.jobs.cancel(job)


def _fail_for_the_storage(world: World) -> None:
    world.jobs.fail(_another(world), 1, {"type": "/problems/keyframe-lost"}, False)


def _erase_what_a_copy_lacks(world: World) -> None:
    world.excuses.lost.forgotten["job_of_somebody"] = ["jobs/job_of_somebody/keyframes/0"]


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
        (_tell_a_customer_that_it_is_gone, "lost"),
        (_use_another_keyframe, "forged"),
        (_name_another_keyframe, "forged"),
        (_accept_another_keyframe, "forged"),
        (_charge_a_death, "charged"),
        (_charge_an_error, "charged"),
        (_fail_for_the_storage, "charged"),
        (_erase_what_a_copy_lacks, "erased"),
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


def test_who_was_struck_may_die_of_it(world: World) -> None:
    _charge_a_death(world)
    dead = next(job for job in world.jobs.list("local", 10).jobs if job.deaths)
    world.excuses.struck.add((dead.id, 2))
    assert world.verdict().breaches["charged"], "another attempt of it was"
    world.excuses.struck.add((dead.id, 1))
    assert world.verdict().clean, world.verdict().told()


def test_a_job_whose_keyframe_was_another_for_too_long_may_fail_for_it_alone(world: World) -> None:
    _fail_for_the_storage(world)
    failed = next(job for job in world.jobs.list("local", 10).jobs if job.error)
    world.excuses.wronged.add(failed.id)
    assert not world.verdict().breaches["charged"]
    _charge_an_error(world)
    world.excuses.wronged.update(job.id for job in world.jobs.list("local", 10).jobs)
    assert world.verdict().breaches["charged"], "another error is another matter"


def test_what_is_younger_than_a_restored_copy_is_not_there_and_keeps_its_files(world: World) -> None:
    key = "jobs/job_of_somebody/keyframes/0"
    world.storage.put(key, b"a picture", "image/png")
    world.ledger.accepted["order-2"] = "job_of_somebody"
    world.ledger.missing.add("job_of_somebody")
    world.excuses.lost.forgotten["job_of_somebody"] = [key]
    verdict = world.verdict()
    assert verdict.clean, verdict.told()
    assert verdict.outcomes["younger than a restored copy"] == 1
    assert verdict.outcomes["deleted"] == 0


def test_nobody_waits_for_a_receiver_that_is_ill_and_no_other_event_may_wait(world: World) -> None:
    for owner in ("ill", "well"):
        world.jobs.redis.hset(f"{world.jobs.keys.namespace}:delivery:msg_{owner}", "owner", owner)
    due = f"{world.jobs.keys.namespace}:deliveries-due"
    world.jobs.redis.zadd(due, {"msg_ill": 0})
    assert at_rest(world.jobs, ["ill"])
    assert not at_rest(world.jobs)
    world.jobs.redis.zadd(due, {"msg_well": 0})
    assert not at_rest(world.jobs, ["ill"])
