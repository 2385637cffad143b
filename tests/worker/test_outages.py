"""A job that is being run while Redis is killed and comes back, or takes no writes for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from rq import Worker

from service.jobs.record import Job, State, files_prefix
from trials.processes import LONGEST_WAIT
from trials.servers import RedisProcess
from trials.site import LARGE, Site, gone

OUTAGE = 10.0
"""Seconds: five leases, and longer than a Redis client tries on by itself."""


@pytest.fixture
def site(redis_process: RedisProcess, tmp_path: Path) -> Iterator[Site]:
    site = Site(redis_process.url, tmp_path)
    yield site
    site.close()


def busy(site: Site) -> tuple[psutil.Popen, Job, set[int]]:
    """A launcher, a job that one of its workers samples, and all processes below it."""
    launcher = site.start("worker")
    site.start("keeper")
    began = time.monotonic()
    listeners = site.settings.workers_per_engine + site.settings.webhook_workers
    while Worker.count(connection=site.redis) < listeners:  # one that is still starting would end without Redis
        assert time.monotonic() < began + LONGEST_WAIT, site.log()
        time.sleep(0.05)
    job = site.submit("flow", LARGE, frames=20)
    site.until(job, "progress", stage="sampling")
    site.until_said("keeper", "keeping")
    return launcher, job, below(launcher)


def below(launcher: psutil.Popen) -> set[int]:
    return {child.pid for child in launcher.children(recursive=True)}


def unharmed(site: Site, job: Job) -> None:
    done = site.ended(job)
    assert (done.state, done.attempt, done.deaths) == (State.succeeded, 1, 0)
    assert "reclaims_total" not in str(site.jobs.counters())
    after = site.ended(site.submit("flow"))
    assert (after.state, after.attempt) == (State.succeeded, 1)


def test_a_result_finished_while_redis_is_down_is_committed_when_it_is_back(
    site: Site, redis_process: RedisProcess
) -> None:
    launcher, job, running = busy(site)
    redis_process.kill()
    began = time.monotonic()
    manifest = f"{files_prefix(job.id)}1/manifest.json"
    while time.monotonic() < began + OUTAGE or manifest not in site.storage.list(files_prefix(job.id)):
        assert time.monotonic() < began + LONGEST_WAIT, site.log()
        time.sleep(0.1)
    assert running <= below(launcher), "nothing ended"
    redis_process.start()
    unharmed(site, job)


def test_a_worker_sits_out_a_primary_without_replicas(site: Site) -> None:
    launcher, job, running = busy(site)
    site.redis.config_set("min-replicas-to-write", 1)
    began = time.monotonic()
    # Only RQ's workers expire something by itself: when they say that they live.
    while refused(site.redis, "expire") < 8:
        assert running <= below(launcher), site.log()
        assert time.monotonic() < began + LONGEST_WAIT, site.log()
        time.sleep(0.05)
    assert running <= below(launcher), site.log()
    site.redis.config_set("min-replicas-to-write", 0)
    unharmed(site, job)


def test_a_worker_told_to_end_says_no_long_goodbye_to_a_redis_that_is_away(site: Site) -> None:
    worker = site.start("webhooks")
    began = time.monotonic()
    # Once it waits for work it hears signals, which from its first sign of life on it does not yet.
    while not blocked(site.redis):
        assert time.monotonic() < began + LONGEST_WAIT, site.log()
        time.sleep(0.05)
    family = worker.children(recursive=True)
    site.redis.config_set("min-replicas-to-write", 1)
    worker.terminate()
    assert worker.wait(LONGEST_WAIT) == 0, site.log()
    assert gone(family)


def blocked(connection: redis.Redis) -> int:
    """How many wait for an entry of a list."""
    told: Any = connection.info("clients")
    return int(told["blocked_clients"])


def refused(connection: redis.Redis, command: str) -> int:
    """How often Redis has refused a command."""
    counted: Any = connection.info("commandstats")
    return int(counted.get(f"cmdstat_{command}", {}).get("rejected_calls", 0))
