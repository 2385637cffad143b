"""The lease of a running attempt: renewed by itself, and heard when the attempt must stop."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
import structlog

from service.jobs.record import Job, NewJob, Renewal, State
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from trials.servers import RedisProcess
from worker.task.lease import DRAIN_FD, Interrupted, Lease, Reason

SOON = 20.0


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, lease_ttl=1.0))


@pytest.fixture
def job(jobs: Jobs) -> Job:
    submitted = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    return jobs.start(submitted.id, submitted.attempt, "this-1")


def reason_of(lease: Lease) -> Reason:
    """Why the lease wants the attempt to stop, once it does."""
    with pytest.raises(Interrupted) as caught:
        lease.wait(SOON)
    return caught.value.reason


def score(jobs: Jobs, job: Job) -> float | None:
    found = jobs.redis.zscore(jobs.keys.running, job.ticket)
    return float(found) if found is not None else None


def test_it_renews_while_the_work_goes_on(jobs: Jobs, job: Job) -> None:
    with Lease(jobs, job.id, job.attempt) as lease:
        before, deadline = score(jobs, job), time.monotonic() + SOON
        while score(jobs, job) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        lease.check()


def test_a_cancellation_is_heard_long_before_the_next_renewal(redis_url: str, job: Job, jobs: Jobs) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        patient = Jobs(connection, ServiceSettings(_env_file=None, lease_ttl=600.0))
        with Lease(patient, job.id, job.attempt) as lease:
            deadline = time.monotonic() + SOON
            while connection.pubsub_numsub(jobs.keys.cancel)[0][1] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            jobs.cancel(job.id)
            assert reason_of(lease) is Reason.cancel
            assert select.select([lease.fileno()], [], [], 0)[0], "whoever waits with fileno must wake"
            lease.settle(Reason.cancel)
    ended = jobs.get(job.id)
    assert ended is not None
    assert ended.state is State.canceled


def test_a_cancellation_of_another_job_or_attempt_stops_nothing(jobs: Jobs, job: Job) -> None:
    """The hint is by job and attempt, and even a hint that names this attempt is checked against the record."""
    jobs.release(job.id, 1)
    second = jobs.start(job.id, 2, "this-1")
    other = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    jobs.start(other.id, 1, "that-1")
    with Lease(jobs, job.id, second.attempt) as lease:
        deadline = time.monotonic() + SOON
        while jobs.redis.pubsub_numsub(jobs.keys.cancel)[0][1] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        jobs.cancel(other.id)
        jobs.redis.publish(jobs.keys.cancel, f"{job.id}-1")
        jobs.redis.publish(jobs.keys.cancel, f"{job.id}-2")
        for _ in range(2):
            before = score(jobs, second)
            while score(jobs, second) == before:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        lease.check()
        jobs.cancel(job.id)
        assert reason_of(lease) is Reason.cancel, "its own is heard"


def test_a_newer_attempt_ends_this_one(jobs: Jobs, job: Job) -> None:
    with Lease(jobs, job.id, job.attempt) as lease:
        jobs.died(job.id, job.attempt, "lease")
        assert reason_of(lease) is Reason.superseded
        lease.settle(Reason.superseded)
    newer = jobs.get(job.id)
    assert newer is not None
    assert (newer.state, newer.attempt) == (State.queued, 2)


@pytest.mark.parametrize("gone", ["deleted", "expired", "superseded"])
def test_files_that_came_after_their_job_was_erased_are_erased_too(jobs: Jobs, gone: str) -> None:
    """From an attempt that was stopped for longer than the keeper waits. A job that goes on keeps its files."""
    submitted = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=0))
    job = jobs.start(submitted.id, 1, "this-1")
    lease = Lease(jobs, job.id, job.attempt)
    if gone == "deleted":
        jobs.delete(job.id)
    else:
        jobs.died(job.id, 1, "lease")
        if gone == "expired":
            jobs.cancel(job.id)
            jobs.expire(job.id)
    jobs.redis.delete(jobs.keys.erasures)
    with lease:
        assert reason_of(lease) is Reason.superseded
        lease.settle(Reason.superseded)
    due = jobs.redis.zscore(jobs.keys.erasures, job.id)
    assert (due is None) == (gone == "superseded")


def test_draining_gives_the_job_back(jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setenv(DRAIN_FD, str(read))
    with Lease(jobs, job.id, job.attempt) as lease:
        lease.check()
        os.close(write)
        assert reason_of(lease) is Reason.drain
        lease.settle(Reason.drain)
    os.close(read)
    released = jobs.get(job.id)
    assert released is not None
    assert (released.state, released.attempt, released.deaths) == (State.queued, 2, 0)


def test_a_verdict_to_stop_stops_at_once(jobs: Jobs, job: Job) -> None:
    with Lease(jobs, job.id, job.attempt) as lease:
        lease.heed(Renewal.go)
        with pytest.raises(Interrupted):
            lease.heed(Renewal.cancel)


def test_the_first_reason_counts(jobs: Jobs, job: Job) -> None:
    with Lease(jobs, job.id, job.attempt) as lease:
        lease.interrupt(Reason.drain)
        lease.interrupt(Reason.cancel)
        assert reason_of(lease) is Reason.drain


def test_work_that_does_not_stop_is_ended_with_its_process(redis_url: str, jobs: Jobs, job: Job) -> None:
    """In a process of its own, whose main thread sleeps through the cancellation."""
    code = f"""
import time, redis
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from worker.task import lease
lease.UNWIND_SECONDS = 0.1
jobs = Jobs(redis.Redis.from_url({redis_url!r}), ServiceSettings(_env_file=None, lease_ttl=1.0))
with lease.Lease(jobs, {job.id!r}, {job.attempt}):
    time.sleep(60)
"""
    jobs.cancel(job.id)
    assert subprocess.run([sys.executable, "-c", code], timeout=50, check=False).returncode == 1
    ended = jobs.get(job.id)
    assert ended is not None
    assert ended.state is State.canceled


def test_it_outlives_a_redis_that_is_busy_with_somebodys_script(redis_process: RedisProcess) -> None:
    """It goes on renewing, and hears of a cancellation without waiting for its next renewal."""
    with (
        redis.Redis.from_url(redis_process.url) as connection,
        redis.Redis.from_url(redis_process.url) as hog,
        structlog.testing.capture_logs() as lines,
    ):
        connection.config_set("lua-time-limit", 1)
        jobs = Jobs(connection, ServiceSettings(_env_file=None, lease_ttl=1.0))
        submitted = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
        job = jobs.start(submitted.id, submitted.attempt, "this-1")
        script = threading.Thread(target=run_until_killed, args=(hog,))
        script.start()
        wait_until(lambda: is_busy(connection))
        with Lease(jobs, job.id, job.attempt) as lease:
            wait_until(lambda: any("BUSY" in line.get("error", "") for line in lines))
            connection.script_kill()
            script.join(SOON)
            lease.check()
            before = score(jobs, job)
            wait_until(lambda: score(jobs, job) != before)
            wait_until(lambda: connection.pubsub_numsub(jobs.keys.cancel)[0][1] == 1)
            jobs.cancel(job.id)
            assert reason_of(lease) is Reason.cancel


HOG = "local t = redis.call('TIME')[1]; while true do t = t + 1 end"


def is_busy(connection: redis.Redis) -> bool:
    try:
        connection.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def run_until_killed(connection: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError):
        connection.eval(HOG, 0)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
