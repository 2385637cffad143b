"""A job that is being run while Redis is killed and comes back."""

from __future__ import annotations

import time
from pathlib import Path

from rq import Worker

from service.jobs import State, files_prefix
from tests.conftest import RedisProcess
from tests.worker.site import LARGE, PATIENCE, Site

LISTENERS = 3
"""Two for jobs, one for webhooks."""

OUTAGE = 10.0
"""Seconds: five leases, and longer than a Redis client tries on by itself."""


def test_a_result_finished_while_redis_is_down_is_committed_when_it_is_back(
    redis_process: RedisProcess, tmp_path: Path
) -> None:
    site = Site(redis_process.url, tmp_path)
    try:
        launcher = site.start("worker")
        site.start("keeper")
        began = time.monotonic()
        while Worker.count(connection=site.redis) < LISTENERS:  # one that is still starting would end without Redis
            assert time.monotonic() < began + PATIENCE, site.log()
            time.sleep(0.05)
        job = site.submit("flow", LARGE, frames=20)
        site.until(job, "progress", stage="sampling")
        site.said("keeper", "keeping")
        below = {child.pid for child in launcher.children(recursive=True)}
        redis_process.kill()
        began = time.monotonic()
        manifest = f"{files_prefix(job.id)}1/manifest.json"
        while time.monotonic() < began + OUTAGE or manifest not in site.storage.list(files_prefix(job.id)):
            assert time.monotonic() < began + PATIENCE, site.log()
            time.sleep(0.1)
        assert {child.pid for child in launcher.children(recursive=True)} == below, "nothing ended"
        redis_process.start()
        done = site.ended(job)
        assert (done.state, done.attempt, done.deaths) == (State.succeeded, 1, 0)
        assert "reclaims_total" not in str(site.jobs.counters())
        after = site.ended(site.submit("flow"))
        assert (after.state, after.attempt) == (State.succeeded, 1)
    finally:
        site.close()
