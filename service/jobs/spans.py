"""The spans of a job, their names and attributes: one trace from the request to the webhook.

    POST /inbetween               the request, of the API
    ├── job.queue                 from being queued to being started, of each attempt
    ├── job.attempt               one work-horse's work
    │   ├── job.fetching …        its stages, as `stage_seconds` has them, the last of them `job.commit`
    │   └── engine.generate       on the GPU: `engine.step` for each step, `engine.take` for each take
    └── webhook.deliver           one try

An attempt's span has an id that follows from the job and the attempt. A work-horse that is killed sends none: who takes
the job back from it does, under that same id, and what the engine sent has its parent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from service.jobs.record import Job
from service.observe import tracing


@contextmanager
def attempt(job: Job) -> Iterator[None]:
    """Trace the work on a job that has just been started."""
    if job.queued_at is not None and job.started_at is not None:
        tracing.record("job.queue", job.queued_at, job.started_at, _about(job), job.traceparent, kind="consumer")
    with tracing.span("job.attempt", _about(job), job.traceparent, kind="consumer", span_id=_span_id(job)):
        yield


def lost(job: Job, cause: str) -> None:
    """Record the attempt that a work-horse did not live to tell of. job: its record from before it was taken back."""
    if job.started_at is not None:
        now, about = tracing.now(), _about(job)
        own = _span_id(job)
        tracing.record(
            "job.attempt", job.started_at, now, about, job.traceparent, kind="consumer", span_id=own, error=cause
        )


def _about(job: Job) -> dict[str, tracing.Value]:
    return {
        "job": job.id,
        "attempt": job.attempt,
        "method": str(job.options.get("method", "unknown")),
        "lane": job.lane,
        "priority": job.priority,
    }


def _span_id(job: Job) -> int:
    return int.from_bytes(hashlib.sha256(job.ticket.encode()).digest()[:8], "big")
