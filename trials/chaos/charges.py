"""What jobs paid for: a death only where what ran them was killed or stopped, and never for a machine or a storage."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from service.jobs.record import Job, State
from service.jobs.store import Jobs
from trials.chaos.databases import Lost

LOST = "keyframe-lost"


def charged(
    jobs: Jobs,
    found: Iterable[Job],
    struck: Collection[tuple[str, int]],
    lost: Lost,
    wronged: Collection[str] = (),
) -> Iterator[str]:
    """Tell of jobs that failed, met an error of the application or died without having been struck.

    struck: attempts (job, number) that may have died. What a restored copy has of a job that went on after it is
    charged to the copy, and to the storage that a job of `wronged` failed for its keyframe.
    """
    turned = lost.rewound | lost.revived
    for job in found:
        if not _for_its_keyframe(job, lost.revived) and not _for_its_keyframe(job, wronged):
            if job.errors:
                yield f"{job.id} met {job.errors} errors: {job.error}"
            if job.state is State.failed and not job.quarantined:
                yield f"{job.id} failed: {job.error}"
        for attempt in _deaths(jobs, job):
            if (job.id, attempt) not in struck and job.id not in turned:
                yield f"{job.id} died at attempt {attempt}, and nothing was killed that ran it"


def _for_its_keyframe(job: Job, due: Collection[str]) -> bool:
    """Tell whether a job of which that was due failed for its keyframes.

    Due: they were erased with it before a copy brought it back, or were others for too long.
    """
    return job.id in due and job.error is not None and str(job.error.get("type", "")).endswith(LOST)


def _deaths(jobs: Jobs, job: Job) -> Iterator[int]:
    """Yield the attempts that died, as the job's event stream tells."""
    deaths = attempt = 0
    entries: Any = jobs.redis.xrange(jobs.keys.events(job.id))
    for _, fields in entries:
        if fields[b"type"] != b"state":
            continue
        told = json.loads(fields[b"data"])
        if told["deaths"] > deaths:
            yield attempt
        deaths, attempt = told["deaths"], told["attempt"]
