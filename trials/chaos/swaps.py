"""A storage that gives another file than the one it was given: a keyframe of a job is replaced, and put back later."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from service.jobs.record import Job, State, files_prefix
from service.jobs.store import Jobs
from service.storage import ObjectMissing, Storage


@dataclass(frozen=True)
class Swap:
    """One keyframe that is another for now."""

    job: str
    key: str
    content_type: str
    #: What it was.
    data: bytes


def swap(jobs: Jobs, storage: Storage, pick: float) -> Swap | None:
    """Replace a keyframe of a job that waits or runs; None when there is none.

    pick: 0 to 1; in the lower half it becomes another picture, in the upper half of it only the beginning stays.
    Raises redis' errors and `StorageUnavailable`.
    """
    found = _unfinished(jobs)
    if not found:
        return None
    job = found[int(pick * len(found))]
    keyframe = job.keyframes[int(pick * 1000) % len(job.keyframes)]
    try:
        before = storage.get(keyframe["key"])
    except ObjectMissing:
        # It was deleted in this moment.
        return None
    swapped = Swap(job.id, keyframe["key"], keyframe["content_type"], before)
    _put(jobs, storage, swapped, _other() if pick < 0.5 else before[: len(before) // 2])
    return swapped


def put_back(jobs: Jobs, storage: Storage, swapped: Swap) -> None:
    """Make the file what it was, unless it was erased. Raises redis' errors and `StorageUnavailable`."""
    try:
        storage.stat(swapped.key)
    except ObjectMissing:
        return
    _put(jobs, storage, swapped, swapped.data)


def _put(jobs: Jobs, storage: Storage, swapped: Swap, data: bytes) -> None:
    storage.put(swapped.key, data, swapped.content_type)
    if jobs.get(swapped.job) is None and list(storage.list(files_prefix(swapped.job))) == [swapped.key]:
        # The job was deleted and its files erased while ours was on its way.
        storage.delete(swapped.key)


def _unfinished(jobs: Jobs) -> list[Job]:
    """Yield the unfinished jobs of all owners, those that wait before those that run."""
    owned = jobs.keys.owned("*", State.queued), jobs.keys.owned("*", State.running)
    connection: Any = jobs.redis
    names = [member for key in owned for name in connection.keys(key) for member in connection.zrange(name, 0, -1)]
    return [job for job in jobs.get_many(name.decode() for name in names) if not job.state.is_terminal]


def _other() -> bytes:
    """Draw a picture that looks like no customer's, as a file."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (250, 30, 240)).save(file, "PNG")
    return file.getvalue()
