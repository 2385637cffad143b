"""Progress of a running job, while Redis answers and while it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from service.jobs.record import Job, NewJob
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from worker.task.engine_client import EngineReport
from worker.task.lease import Interrupted, Lease, Reason
from worker.task.reporter import Reporter


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, namespace="reporter"))


@pytest.fixture
def job(jobs: Jobs) -> Job:
    """Running."""
    submitted = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    return jobs.start(submitted.id, submitted.attempt, "this-1")


def step(number: int, steps: int, take: int = 0, takes: int = 1) -> EngineReport:
    """A step of a take, both counted as the engine does: steps from 1, takes from 0."""
    fraction = (take * steps + number) / (takes * steps)
    told = {"step": number, "steps": steps, "take": take, "takes": takes, "segment": 1, "segments": 1}
    return EngineReport("sampling", {**told, "fraction": fraction})


def written(jobs: Jobs, job_id: str) -> list[dict[str, Any]]:
    """All progress that readers of the job's events have heard, oldest first."""
    entries: Any = jobs.redis.xrange(jobs.keys.events(job_id))
    return [json.loads(fields[b"data"]) for _, fields in entries if fields[b"type"] == b"progress"]


@pytest.fixture
def lease(jobs: Jobs, job: Job) -> Iterator[Lease]:
    """One that nobody renews. What it heard ends this process later, unless it is over by then."""
    made = Lease(jobs, job.id, job.attempt)
    yield made
    made._over.set()


def test_a_job_that_is_to_stop_hears_so_from_its_own_report(jobs: Jobs, job: Job, lease: Lease) -> None:
    """From the report alone: no thread of the lease is at work here."""
    report = Reporter(job, jobs, lease)
    report.stage("fetching")
    jobs.cancel(job.id)
    with pytest.raises(Interrupted) as heard:
        report.stage("sampling")
    assert heard.value.reason is Reason.cancel
    with pytest.raises(Interrupted):
        lease.check()


def test_a_job_that_another_attempt_has_taken_over_hears_so_from_its_own_report(
    jobs: Jobs, job: Job, lease: Lease
) -> None:
    report = Reporter(job, jobs, lease)
    jobs.died(job.id, job.attempt, "lease")
    with pytest.raises(Interrupted) as heard:
        report.stage("sampling")
    assert heard.value.reason is Reason.superseded


def test_the_last_step_is_written_down_however_soon_it_comes(
    jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Any = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr("worker.task.reporter.time", clock)
    report = Reporter(job, jobs, Lease(jobs, job.id, job.attempt))
    for number in range(1, 26):
        report.heard(step(number, 25))
    assert [each["step"] for each in written(jobs, job.id)] == [1, 25], "those between came too fast"
    now = jobs.get(job.id)
    assert now is not None
    assert now.progress is not None
    assert (now.progress["step"], now.progress["fraction"]) == (25, 1)


def test_takes_are_counted_from_one_as_their_files_are(jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.task.reporter.REPORT_SECONDS", 0.0)
    report = Reporter(job, jobs, Lease(jobs, job.id, job.attempt))
    for take in (0, 1, 2):
        report.heard(step(1, 1, take, takes=3))
    assert [(each["take"], each["takes"]) for each in written(jobs, job.id)] == [(1, 3), (2, 3), (3, 3)]


def test_progress_says_where_the_job_is_in_the_order_in_which_it_was_there(
    jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.task.reporter.REPORT_SECONDS", 0.0)
    report = Reporter(job, jobs, Lease(jobs, job.id, job.attempt))
    report.stage("fetching")
    for number in (1, 2, 3):
        report.heard(step(number, 3))
    report.stage("encoding")
    told = [(each["stage"], each.get("step"), each.get("steps")) for each in written(jobs, job.id)]
    assert told == [
        ("fetching", None, None),
        ("sampling", 1, 3),
        ("sampling", 2, 3),
        ("sampling", 3, 3),
        ("encoding", 3, 3),
    ]


def stages(jobs: Jobs, job_id: str) -> list[str]:
    entries: Any = jobs.redis.xrange(jobs.keys.events(job_id))
    return [json.loads(fields[b"data"])["stage"] for _, fields in entries if fields[b"type"] == b"progress"]


def test_gpu_time_is_the_engines_own_figure_and_until_then_the_time_since_it_began(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Any = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("worker.task.reporter.time", clock)
    submitted = jobs.submit(NewJob("local", {}, [], "gpu", result_ttl=600))
    job = jobs.start(submitted.id, submitted.attempt, "this-1")
    report = Reporter(job, jobs, Lease(jobs, job.id, job.attempt))
    report.stage("waiting")
    assert report.gpu_seconds() == 0
    report.heard(EngineReport("sampling", {}))
    clock.now += 7.5
    report.stage("encoding")
    assert jobs.redis.hget(jobs.keys.job(job.id), "gpu_used") == b"7500"
    clock.now += 1
    report.heard(EngineReport("sampled", {"seconds": 7.25}))
    report.stage("uploading")
    assert report.gpu_seconds() == 7.25
    assert jobs.redis.hget(jobs.keys.job(job.id), "gpu_used") == b"7250"


def test_an_outage_holds_up_the_work_once_and_not_with_every_report(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
    job = jobs.start(submitted.id, submitted.attempt, "this-1")
    report = Reporter(job, jobs, Lease(jobs, job.id, job.attempt))
    report.stage("fetching")
    tried = []

    def away(*arguments: object) -> None:
        tried.append(arguments)
        raise redis.ConnectionError("gone")

    with monkeypatch.context() as outage:
        outage.setattr(jobs, "progress", away)
        for stage in ("waiting", "sampling", "encoding"):
            report.stage(stage)
    assert len(tried) == 1
    report._silent_until = 0.0
    report.stage("uploading")
    assert stages(jobs, job.id) == ["fetching", "uploading"]
    assert set(report.seconds()) >= {"fetching", "waiting", "sampling", "encoding"}, "time is counted all the same"
