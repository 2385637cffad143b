"""What RQ's worker does with the job of a work-horse that was killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from service.jobs.record import Job, NewJob, State
from service.jobs.store import Jobs
from service.jobs.tickets import TASK
from service.settings import ServiceSettings
from worker.listener import reclaim
from worker.task.lease import holder

PID = os.getpid()


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None))


@pytest.fixture
def job(jobs: Jobs) -> Job:
    submitted = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    return jobs.start(submitted.id, submitted.attempt, holder(PID))


def carried(job: Job, task: str = TASK) -> Any:
    return SimpleNamespace(func_name=task, args=(job.id, job.attempt))


def told(jobs: Jobs, job: Job) -> tuple[State, int, int]:
    found = jobs.get(job.id)
    assert found is not None
    return found.state, found.attempt, found.deaths


def test_its_job_goes_back_to_the_queue_and_once(jobs: Jobs, job: Job) -> None:
    killed = reclaim(jobs)
    for _ in range(2):
        killed(carried(job), PID, 9, None)
    assert told(jobs, job) == (State.queued, 2, 1)


@pytest.mark.parametrize("pid", [PID + 1, None], ids=["another", "unknown"])
def test_another_work_horse_with_the_same_ticket_takes_nothing_from_the_one_that_runs_it(
    jobs: Jobs, job: Job, pid: int | None
) -> None:
    reclaim(jobs)(carried(job), pid, 9, None)
    assert told(jobs, job) == (State.running, 1, 0)


def test_other_tasks_and_deleted_jobs_are_left_alone(jobs: Jobs, job: Job) -> None:
    reclaim(jobs)(carried(job, "worker.deliveries.deliver"), PID, 9, None)
    assert told(jobs, job) == (State.running, 1, 0)
    jobs.delete(job.id)
    reclaim(jobs)(carried(job), PID, 9, None)
    assert jobs.get(job.id) is None
