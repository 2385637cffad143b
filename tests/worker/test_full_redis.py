"""A Redis that is up and takes no writes, because its memory is full: sat out like one that is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from service.jobs.record import Job, NewJob, State
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from trials.servers import RedisProcess
from worker import tasks
from worker.task.lease import Lease
from worker.task.reporter import Reporter

SOON = 20.0


@pytest.fixture
def jobs(redis_process: RedisProcess) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_process.url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, lease_ttl=1.0))


@pytest.fixture
def job(jobs: Jobs) -> Job:
    submitted = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    return jobs.start(submitted.id, submitted.attempt, "this-1")


def fill(jobs: Jobs, full: bool) -> None:
    jobs.redis.config_set("maxmemory", 1 if full else 0)


def test_every_verb_says_that_redis_is_away(jobs: Jobs, job: Job) -> None:
    fill(jobs, True)
    with pytest.raises(redis.ConnectionError, match="takes no writes"):
        jobs.renew(job.id, job.attempt)
    with pytest.raises(redis.ConnectionError, match="takes no writes"):
        jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    fill(jobs, False)
    with pytest.raises(redis.ResponseError):
        jobs._call("no such verb", job.id, "1")


def test_the_lease_goes_on_when_there_is_room_again(jobs: Jobs, job: Job) -> None:
    with Lease(jobs, job.id, job.attempt) as lease:
        deadline = time.monotonic() + SOON
        with capture_logs() as logs:
            fill(jobs, True)
            while not any(entry["event"].startswith("lease not renewed") for entry in logs):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        fill(jobs, False)
        before = jobs.redis.zscore(jobs.keys.running, job.ticket)
        while jobs.redis.zscore(jobs.keys.running, job.ticket) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        lease.check()


def test_a_report_is_left_out_and_the_commit_waits(
    jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(jobs, True)
    Reporter(job, jobs, Lease(jobs, job.id, job.attempt)).stage("fetching")
    succeed, refused = jobs.succeed, []

    def watched(*arguments: object) -> Job:
        try:
            return succeed(*arguments)  # type: ignore[arg-type]
        except redis.RedisError:
            refused.append(arguments)
            fill(jobs, False)
            raise

    monkeypatch.setattr(jobs, "succeed", watched)
    monkeypatch.setattr(tasks, "make", lambda *_: {"files": []})
    tasks.settle(job, jobs, Lease(jobs, job.id, job.attempt))
    after = jobs.get(job.id)
    assert after is not None
    assert (len(refused), after.state, after.attempt, after.errors) == (1, State.succeeded, 1, 0)
