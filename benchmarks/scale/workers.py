"""So many workers on one Redis: jobs a second, and what each job costs Redis."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.scale.site import ScaleSite, keyframes_of, submit
from service.jobs.record import Job, State


def measure(site: ScaleSite, count: int, seconds: float, each: int) -> dict[str, Any]:
    """Measure so many workers, each with so many jobs to do."""
    with tempfile.TemporaryDirectory(prefix="engines-") as sockets:
        site.processes.start(
            "engines", [sys.executable, "-m", "benchmarks.scale.engines", sockets, str(count), str(seconds)]
        )
        for number in range(count):
            folder = Path(sockets) / str(number)
            site.processes.start(
                "listener",
                [sys.executable, "-m", "worker.listener", *site.settings.queues["gpu"]],
                ENGINE_DIR=str(folder),
            )
        site.until(lambda: site.redis.scard("rq:workers") == count, "the workers do not start")
        keyframes = keyframes_of(site)
        _ended(site, [submit(site.jobs, keyframes) for _ in range(count)])
        before, used, cpu = site.commands(), time.monotonic(), site.processor()
        jobs = _ended(site, [submit(site.jobs, keyframes) for _ in range(count * each)])
        took, calls, busy = time.monotonic() - used, site.commands() - before, site.processor() - cpu
        assert all(job.state is State.succeeded for job in jobs), [job.error for job in jobs]
        return {
            "workers": count,
            "jobs": len(jobs),
            "per_second": round(len(jobs) / took, 3),
            "engines_busy": round(len(jobs) * seconds / (took * count), 3),
            "redis_commands_each": round(calls / len(jobs), 1),
            "redis_milliseconds_each": round(1000 * busy / len(jobs), 2),
        }


def _ended(site: ScaleSite, jobs: list[Job]) -> list[Job]:
    """Wait until all jobs have ended, and give their records.

    Waiting costs Redis one command a look, which counts with the others.
    """
    ids = [job.id for job in jobs]
    before = site.redis.zcard(site.jobs.keys.expiry) - sum(job.state.is_terminal for job in site.jobs.get_many(ids))
    site.until(lambda: site.redis.zcard(site.jobs.keys.expiry) >= before + len(jobs), "the jobs do not end")
    return site.jobs.get_many(ids)
