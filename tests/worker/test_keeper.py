"""The keeper against a real Redis, real files and real processes: what it puts right, and when it steps aside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from structlog.testing import capture_logs
from tenacity import retry, stop_after_delay, wait_fixed

from service.jobs.metrics import SWEEP_NAMES
from service.jobs.reconcile import announce_due
from service.jobs.record import Job, NewJob, Renewal, State, Superseded, files_prefix
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import LocalStorage, Storage, StorageUnavailable
from service.webhooks.deliveries import Webhooks
from worker import keeper
from worker.keeper import INTERVAL, Keeper


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Replica:
    """One replica with all it needs, and the clock it judges by."""

    jobs: Jobs
    storage: LocalStorage
    clock: Clock
    keeper: Keeper

    def sweep(self, seconds: float) -> bool:
        """Sweep as the keeper's loop would while `seconds` go by."""
        led = True
        for _ in range(round(seconds / INTERVAL)):
            self.clock.now += INTERVAL
            led = self.keeper.sweep()
        self.keeper.wait(timeout=10)
        return led


@pytest.fixture
def move_in(redis_url: str, tmp_path: Path) -> Iterator[Callable[[], Replica]]:
    houses: list[Replica] = []

    def make() -> Replica:
        connection = redis.Redis.from_url(redis_url)
        jobs = Jobs(connection, ServiceSettings(_env_file=None, redis_url=redis_url))
        storage = LocalStorage(tmp_path / "files", lambda: b"key")
        clock = Clock()
        houses.append(Replica(jobs, storage, clock, Keeper(jobs, storage, clock)))
        return houses[-1]

    yield make
    for house in houses:
        house.keeper.close()
        house.jobs.redis.close()


def submit(jobs: Jobs, **changes: Any) -> Job:
    fields: dict[str, Any] = {"owner": "ann", "options": {}, "keyframes": [], "lane": "gpu", "result_ttl": 600}
    return jobs.submit(NewJob(**fields | changes))


def running(jobs: Jobs, **changes: Any) -> Job:
    job = submit(jobs, **changes)
    jobs.tickets.queue(job.lane, job.priority).remove(job.ticket)
    return jobs.start(job.id, 1, "horse")


def now(jobs: Jobs, job: Job) -> Job:
    found = jobs.get(job.id)
    assert found is not None
    return found


def test_a_lease_dies_after_its_time_on_the_keepers_clock(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    silent, alive = running(house.jobs), running(house.jobs)
    for _ in range(5):
        house.sweep(INTERVAL)
        house.jobs.renew(alive.id, 1)
    assert now(house.jobs, silent).attempt == 1, "its lease of ten seconds has been watched for eight"
    house.sweep(INTERVAL)
    assert (now(house.jobs, silent).state, now(house.jobs, silent).attempt) == (State.queued, 2)
    assert house.jobs.tickets.queue("gpu", "default").job_ids == [f"{silent.id}-2"]
    assert (now(house.jobs, alive).state, now(house.jobs, alive).attempt) == (State.running, 1)


def test_the_third_dead_lease_quarantines(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    job = running(house.jobs)
    for attempt in (2, 3):
        house.sweep(12)
        house.jobs.start(job.id, attempt, "horse")
    house.sweep(12)
    assert (now(house.jobs, job).state, now(house.jobs, job).quarantined) == (State.failed, True)


def test_a_keeper_that_was_stopped_does_not_blame_the_workers(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    job = running(house.jobs)
    house.sweep(INTERVAL)
    house.clock.now += 3600
    house.sweep(INTERVAL)
    assert house.jobs.renew(job.id, 1) is Renewal.go


def test_a_lost_job_is_enqueued_again(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    job = submit(house.jobs)
    house.jobs.redis.delete(*house.jobs.redis.keys("rq:*"))
    house.sweep(12)
    assert house.jobs.tickets.queue("gpu", "default").job_ids == [f"{job.id}-2"]
    assert house.jobs.position(now(house.jobs, job)) == 0


def test_a_work_horse_slower_than_a_lease_begins_at_last(move_in: Callable[[], Replica]) -> None:
    """From pop to `start` it needs two leases and a half, whatever the attempt."""
    house = move_in()
    job = submit(house.jobs)
    for attempt in (1, 2, 3):
        house.jobs.tickets.queue("gpu", "default").empty()  # popped
        house.sweep(25)
        if now(house.jobs, job).attempt == attempt:
            break
        with pytest.raises(Superseded):
            house.jobs.start(job.id, attempt, "slow")
    assert house.jobs.start(job.id, 3, "slow").state is State.running
    released = house.jobs.release(job.id, 3)
    house.jobs.tickets.queue("gpu", "default").empty()
    house.sweep(12)
    assert now(house.jobs, released).attempt == 5, "once begun, it is missed as soon as any other"


def test_an_expired_result_is_erased(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    gone, kept = running(house.jobs, result_ttl=0), running(house.jobs)
    for job in (gone, kept):
        house.storage.put(f"{files_prefix(job.id)}1/take-1.mp4", b"film", "video/mp4")
        house.jobs.succeed(job.id, 1, {"files": []})
    house.sweep(INTERVAL)
    assert now(house.jobs, gone).state is State.expired
    assert list(house.storage.list("")) == [f"{files_prefix(kept.id)}1/take-1.mp4"]
    assert house.jobs.redis.zcard(house.jobs.keys.erasures) == 0


def test_what_killed_writers_left_in_a_local_storage_goes(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    for name in ("old", "fresh"):
        (house.storage.folder / "tmp" / name).write_bytes(b"half a film")
    os.utime(house.storage.folder / "tmp" / "old", (0, 0))
    house.sweep(INTERVAL)
    assert [path.name for path in (house.storage.folder / "tmp").iterdir()] == ["fresh"]


def test_what_a_deleted_job_still_wrote_is_erased_when_it_cannot_write_any_more(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    job = running(house.jobs)
    house.jobs.delete(job.id)
    house.storage.put(f"{files_prefix(job.id)}1/late.mp4", b"film", "video/mp4")
    house.sweep(INTERVAL)
    assert len(list(house.storage.list(""))) == 1
    house.jobs.redis.zadd(house.jobs.keys.erasures, {job.id: house.jobs.now()})  # as two leases later
    house.sweep(INTERVAL)
    assert list(house.storage.list("")) == []


def _bad_lease(house: Replica) -> None:
    house.jobs.redis.zadd(house.jobs.keys.running, {"no-attempt-at-the-end": 1})


def _lost_of_another_kind(house: Replica) -> None:
    house.jobs.redis.zadd(house.jobs.keys.queued("gpu", "default"), {"bad-1": -9})
    house.jobs.redis.set(house.jobs.keys.job("bad"), "no hash")


def _bad_record(key: str) -> Callable[[Replica], None]:
    def plant(house: Replica) -> None:
        house.jobs.redis.zadd(getattr(house.jobs.keys, key), {"bad": 0})
        house.jobs.redis.set(house.jobs.keys.job("bad"), "no hash")

    return plant


def _webhook_that_cannot_be_read(house: Replica) -> None:
    job = submit(house.jobs, webhook={"url": "https://a.example", "events": ["inbetween.canceled"]})
    house.jobs.cancel(job.id)
    house.jobs.redis.hset(house.jobs.keys.job(job.id), "webhook", "{}")


def _undeletable(house: Replica) -> None:
    house.jobs.redis.zadd(house.jobs.keys.erasures, {"\0bad": 1})


def _bad_upload(house: Replica) -> None:
    house.jobs.redis.zadd("inbetween:uploads", {b"\xff": 1})


def _bad_delivery(house: Replica) -> None:
    house.jobs.redis.zadd("inbetween:deliveries-due", {"bad": 1})
    house.jobs.redis.set("inbetween:delivery:bad", "no hash")


def _no_set_at_all(house: Replica) -> None:
    house.jobs.redis.set("inbetween:uploads", "no set")


POISON: dict[str, Callable[[Replica], None]] = {
    "reclaim": _bad_lease,
    "requeue": _lost_of_another_kind,
    "expire": _bad_record("expiry"),
    "forget": _bad_record("tombstones"),
    "announce": _webhook_that_cannot_be_read,
    "erase": _undeletable,
    "uploads": _bad_upload,
    "deliveries": _bad_delivery,
    "whole": _no_set_at_all,
}


@pytest.mark.parametrize("sweep", SWEEP_NAMES)
def test_what_one_owner_left_keeps_nothing_from_another(move_in: Callable[[], Replica], sweep: str) -> None:
    house = move_in()
    POISON[sweep](house)
    jobs = house.jobs
    dead, lost = running(jobs), submit(jobs)
    jobs.tickets.queue("gpu", "default").remove(lost.ticket)
    told = jobs.cancel(submit(jobs, webhook={"url": "https://b.example", "events": ["inbetween.canceled"]}).id)
    jobs.redis.zadd(jobs.keys.erasures, {"erased": 2})
    house.storage.put(f"{files_prefix('erased')}1/take-1.mp4", b"film", "video/mp4")
    expiring = submit(jobs, result_ttl=0)
    jobs.cancel(expiring.id)
    with capture_logs() as logged:
        house.sweep(14)
    assert [now(jobs, dead).attempt, now(jobs, lost).attempt] == [2, 2]
    assert [one.job for one in Webhooks(jobs.redis, jobs.settings).deliveries("ann", 9).deliveries] == [told.id]
    assert list(house.storage.list("")) == []
    assert now(jobs, expiring).state is State.expired
    faults = {name: amount for name, amount in jobs.counters().items() if name.startswith("sweep_faults")}
    assert set(faults) == {f'sweep_faults_total{{sweep="{sweep}"}}'}
    assert {entry["sweep"] for entry in logged if entry["log_level"] == "error"} == {sweep}


def test_a_duty_that_cannot_be_done_ends_neither_the_keeper_nor_its_other_duties(
    move_in: Callable[[], Replica],
) -> None:
    house = move_in()
    expiring = house.jobs.cancel(submit(house.jobs, result_ttl=0).id)
    house.jobs.redis.set(house.jobs.keys.queued("cpu", "low"), "no set")
    house.sweep(INTERVAL)
    assert now(house.jobs, expiring).state is State.expired
    assert house.jobs.counters()['sweep_faults_total{sweep="whole"}'] == 1


def test_more_poison_than_one_sweep_looks_at(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    jobs = house.jobs
    for number in range(3):
        jobs.redis.set(jobs.keys.job(f"bad{number}"), "no hash")
    jobs.redis.zadd(jobs.keys.undelivered, {f"bad{number}-1": number for number in range(3)})
    job = jobs.cancel(submit(jobs, webhook={"url": "https://b.example", "events": ["inbetween.canceled"]}).id)
    handed: list[str] = []
    for _ in range(2):
        announce_due(jobs, lambda one: handed.append(one.id), limit=3)
    assert handed == [job.id]


class Broken:
    """Storage that is down."""

    def delete_prefix(self, prefix: str) -> None:
        raise StorageUnavailable("down")


def test_storage_that_is_down_is_tried_again_and_stops_nothing_else(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    gone = running(house.jobs, result_ttl=0)
    house.jobs.succeed(gone.id, 1, {})
    silent = running(house.jobs)
    house.keeper = Keeper(house.jobs, cast(Storage, Broken()), house.clock)
    with capture_logs() as logged:
        house.sweep(12)
    said = [entry["event"] for entry in logged if entry["log_level"] == "warning"]
    assert sorted(said) == ["files not erased", "left to the next sweep"], "each once"
    assert house.jobs.redis.zcard(house.jobs.keys.erasures) == 1
    assert now(house.jobs, silent).attempt == 2


def test_final_events_go_to_webhook_delivery(move_in: Callable[[], Replica]) -> None:
    house = move_in()
    job = submit(house.jobs, webhook={"url": "https://a.example", "events": ["inbetween.canceled"]})
    house.jobs.cancel(job.id)
    house.sweep(INTERVAL)
    assert house.jobs.redis.zcard(house.jobs.keys.undelivered) == 0
    delivered = Webhooks(house.jobs.redis, house.jobs.settings).deliveries("ann", 9).deliveries
    assert [(delivery.job, delivery.event) for delivery in delivered] == [(job.id, "inbetween.canceled")]


def test_one_of_two_keepers_works_and_the_other_takes_over(move_in: Callable[[], Replica]) -> None:
    first, second = move_in(), move_in()
    job = running(first.jobs)
    assert (first.sweep(8), second.sweep(60)) == (True, False)
    assert now(first.jobs, job).attempt == 1, "who has no lock takes nothing"
    first.keeper.close()
    assert (second.sweep(INTERVAL), first.sweep(INTERVAL)) == (True, False)

    assert 0 < second.jobs.redis.pttl("inbetween:keeper") <= 1000 * keeper.LOCK_TTL
    second.jobs.redis.delete("inbetween:keeper")  # as when a killed keeper's lock runs out
    assert (first.sweep(INTERVAL), second.sweep(INTERVAL)) == (True, False)
    assert now(first.jobs, job).attempt == 1, "each began to watch anew"
    first.sweep(10)
    assert now(first.jobs, job).attempt == 2


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.02), reraise=True)
def eventually(holds: Callable[[], bool]) -> None:
    assert holds()


def test_an_outage_of_redis_is_sat_out(redis_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "INTERVAL", 0.05)
    settings = ServiceSettings(
        _env_file=None, redis_url=redis_process.url, lease_ttl=1, storage_url=str(tmp_path / "files")
    )
    stop = threading.Event()
    with redis.Redis.from_url(redis_process.url) as connection, capture_logs() as logged:
        jobs = Jobs(connection, settings)
        job, lost = running(jobs), submit(jobs)
        thread = threading.Thread(target=keeper.run, args=(settings, stop))
        thread.start()

        def said(event: str) -> int:
            return sum(entry["event"] == event for entry in logged)

        eventually(lambda: said("keeping") == 1)
        jobs.renew(job.id, 1)
        redis_process.kill()
        eventually(lambda: said("redis does not answer, waiting for it") == 1)
        stop.wait(1.2)  # longer than the lease
        redis_process.start()
        eventually(lambda: said("redis answers again") == 1)
        assert jobs.renew(job.id, 1) is Renewal.go
        assert said("redis does not answer, waiting for it") == 1

        jobs.tickets.queue("gpu", "default").remove(lost.ticket)
        eventually(lambda: now(jobs, lost).attempt == 2)
        eventually(lambda: now(jobs, job).deaths == 1)
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_the_keeper_as_a_process(redis_url: str, tmp_path: Path) -> None:
    settings = ServiceSettings(_env_file=None, redis_url=redis_url)
    program = (
        "from service.settings import ServiceSettings; from worker import keeper\n"
        "keeper.run(ServiceSettings(_env_file=None))"
    )
    environment = {**os.environ, "REDIS_URL": redis_url, "STORAGE_URL": str(tmp_path / "files")}
    with redis.Redis.from_url(redis_url) as connection:
        jobs = Jobs(connection, settings)
        job = jobs.cancel(submit(jobs, result_ttl=0).id)
        process = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        try:
            eventually(lambda: now(jobs, job).state is State.expired)
            assert connection.exists("inbetween:keeper")
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, output
        assert not connection.exists("inbetween:keeper"), "the next keeper need not wait"
