"""Writes down where a running job is: its stage, its steps, previews, and how long each stage took."""

from __future__ import annotations

import time
from typing import Any

import redis
import structlog

from service.jobs import metrics
from service.jobs.record import Job, JobError
from service.jobs.store import Jobs
from service.observe import tracing
from worker.engine import previews
from worker.task.engine_client import EngineReport
from worker.task.lease import Lease, Reason

REPORT_SECONDS = 0.25
"""Progress is written down at most this often; previews come seldom enough by themselves."""

OUTAGE_SECONDS = 10.0
"""How long nothing is written after Redis did not answer: each try would hold up the work for seconds."""

log = structlog.get_logger("task")


class Reporter:
    """Writes down where a job is, and adds up how long each stage took."""

    def __init__(self, job: Job, jobs: Jobs, lease: Lease) -> None:
        self._job, self._jobs, self._lease = job, jobs, lease
        self._stage = "starting"
        self._since = time.monotonic()
        self._began = tracing.now()
        self._seconds: dict[str, float] = {}
        self._numbers: dict[str, Any] = {}
        self._sampling_since: float | None = None
        self._written = 0.0
        self._silent_until = 0.0
        self._gpu_seconds = 0.0
        self._on_gpu_since: float | None = None

    def stage(self, name: str) -> None:
        """Begin a new stage: `fetching`, `waiting`, `sampling`, `encoding` or `uploading`."""
        if self._enter(name):
            self._write(None)

    def heard(self, event: EngineReport) -> None:
        """Pass on a step. Most are left out when they come fast; a job's last one never is."""
        if event.stage == "sampled":
            self._gpu_seconds, self._on_gpu_since = event.values["seconds"], None
            return
        changed = self._enter(event.stage)
        now = time.monotonic()
        if event.stage == "sampling" and self._sampling_since is None:
            self._sampling_since = now
            self._on_gpu_since = now if self._job.lane == "gpu" else None
        if event.values:
            self._numbers = {
                **{name: event.values[name] for name in ("step", "steps", "takes", "segment", "segments", "fraction")},
                "take": event.values["take"] + 1,
                "eta": self._eta(event.values["fraction"], now),
            }
        last = self._numbers.get("fraction") == 1
        if changed or last or event.preview is not None or now - self._written >= REPORT_SECONDS:
            self._write(event.preview)

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent in each stage so far."""
        self._enter(self._stage)
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}

    def gpu_seconds(self) -> float:
        """Return what this attempt has taken: as the engine said at its end, until then the time since it began."""
        if self._on_gpu_since is not None:
            return time.monotonic() - self._on_gpu_since
        return self._gpu_seconds

    def count(self) -> None:
        """Add the job's seconds to the running totals; left out when Redis does not answer."""
        amounts = metrics.counted("gpu_seconds_total", self._gpu_seconds)
        for name, seconds in self.seconds().items():
            amounts |= metrics.observed("stage_seconds", seconds, stage=name)
        try:
            self._jobs.count(amounts)
        except redis.RedisError as error:
            log.info("seconds not counted", error=str(error))

    def close(self) -> None:
        """End the stage: a span of its trace."""
        ended = tracing.now()
        tracing.record(f"job.{self._stage}", self._began, ended)
        self._began = ended

    def _enter(self, name: str) -> bool:
        now = time.monotonic()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._since = now
        changed = name != self._stage
        if changed:
            self.close()
        self._stage = name
        return changed

    def _eta(self, fraction: float, now: float) -> float | None:
        """Estimate the seconds until the last step, at the pace so far."""
        if self._sampling_since is None or not fraction:
            return None
        return round((now - self._sampling_since) * (1 - fraction) / fraction, 1)

    def _write(self, preview: bytes | None) -> None:
        self._written = time.monotonic()
        if self._written < self._silent_until:
            return
        picture = previews.data_uri(preview) if preview is not None else None
        try:
            verdict = self._jobs.progress(
                self._job.id, self._job.attempt, {"stage": self._stage, **self._numbers}, picture, self.gpu_seconds()
            )
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # Progress is a hint; the lease's own thread knows of the outage and goes on trying.
            self._silent_until = time.monotonic() + OUTAGE_SECONDS
            log.info("progress not written", error=str(error))
        except JobError:
            self._lease.interrupt(Reason.superseded)
            self._lease.check()
        else:
            self._lease.heed(verdict)
