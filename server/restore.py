"""Going on with a database that was restored, or began anew: adopted as it is, and honest about what is gone.

Files of jobs that the database does not have are left alone: that it does not know them is no proof that they were
deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from service.database.identity import Database
from service.jobs.record import Job, JobError, State, file_key
from service.jobs.store import Jobs
from service.storage import ObjectMissing, Storage

_AT_ONCE = 500
_THREADS = 16
"""Looks at storage at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Adopted:
    """What became of the jobs when a database was made the known one."""

    #: Its id.
    database: str
    #: Ids of jobs whose results are gone.
    lost: tuple[str, ...]
    #: Ids whose files would have been erased soon.
    kept: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"database {self.database} is the known one from now on; "
            f"{len(self.lost)} jobs expired whose files are gone, files of {len(self.kept)} unfinished requests kept"
        )


def adopt(database: Database, jobs: Jobs, storage: Storage) -> Adopted:
    """Make the database that is there the known one. Raises redis' errors and `StorageUnavailable`; may be repeated."""
    # Before it is the known one: from then on the keeper erases what is due.
    kept = jobs.keep_reserved()
    identity = database.adopt()
    lost = []
    with ThreadPoolExecutor(_THREADS) as threads:
        for page in _ended(jobs):
            whole = threads.map(lambda job: _is_whole(job, storage), page)
            for job, there in zip(page, whole, strict=True):
                if not there and _lose(jobs, job):
                    lost.append(job.id)
    return Adopted(identity.id, tuple(lost), tuple(kept))


def _ended(jobs: Jobs) -> Iterator[list[Job]]:
    """Read the succeeded jobs, page by page. All ids are read before the first one leaves the set."""
    ids: Any = jobs.redis.zrange(jobs.keys.expiry, 0, -1)
    for start in range(0, len(ids), _AT_ONCE):
        found = jobs.get_many(name.decode() for name in ids[start : start + _AT_ONCE])
        yield [job for job in found if job.state is State.succeeded]


def _is_whole(job: Job, storage: Storage) -> bool:
    try:
        for file in (job.result or {}).get("files", ()):
            storage.stat(file_key(job, file["name"]))
    except ObjectMissing:
        return False
    return True


def _lose(jobs: Jobs, job: Job) -> bool:
    try:
        jobs.lose(job.id)
    except JobError:
        return False
    log.warning("the files of a job are gone", job=job.id)
    return True
