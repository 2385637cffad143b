"""Progress of a running job, while Redis answers and while it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import redis

from service.jobs import Jobs, NewJob
from service.settings import Settings
from worker.lease import Lease
from worker.reporter import Reporter
from worker.sampling import Report


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, Settings(_env_file=None, namespace="reporter"))


def stages(jobs: Jobs, job_id: str) -> list[str]:
    entries = jobs.redis.xrange(jobs.keys.events(job_id))
    return [json.loads(fields[b"data"])["stage"] for _, fields in entries if fields[b"type"] == b"progress"]


def test_gpu_time_is_the_engines_own_figure_and_until_then_the_time_since_it_began(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("worker.reporter.time", clock)
    submitted = jobs.submit(NewJob("local", {}, [], "gpu", result_ttl=600))
    job = jobs.start(submitted.id, submitted.attempt, "this-1")
    report = Reporter(job, jobs, Lease(jobs, job.id, job.attempt))
    report.stage("waiting")
    assert report.gpu_seconds() == 0
    report.heard(Report("sampling", {}))
    clock.now += 7.5
    report.stage("encoding")
    assert jobs.redis.hget(jobs.keys.job(job.id), "gpu_used") == b"7500"
    clock.now += 1
    report.heard(Report("sampled", {"seconds": 7.25}))
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
