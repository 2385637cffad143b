"""The machine that a process runs on: which errors are its own, and whether it has what work needs.

A full disk, no more memory, descriptors or threads, a file system that has become read-only or fails: none of these is
the fault of a request or of a job, though each meets them as an exception from the middle of something else.
"""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from pathlib import Path

from service.storage import StorageError

ROOM = 64 * 2**20
"""Bytes that the temporary folder must have free, and a process must get: less is too little for any video."""

_OF_PROCESSES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OF_DISKS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_DESCRIPTORS = 16
FILES_KEPT = 128
"""Open files of an API that are no connections: those to Redis and the storage, and what is being written."""


class RanOut(Exception):
    """The machine failed in the middle of a job. The message says of what, and names nothing of the machine."""


def fault(error: BaseException) -> str | None:
    """Name what of the machine failed, when that is behind an error or what led to it; None for any other.

    A disk of the storage's is the storage's, even where it is this machine's.
    """
    seen: BaseException | None = error
    numbers = _OF_PROCESSES | _OF_DISKS
    while seen is not None:
        if isinstance(seen, StorageError):
            numbers = _OF_PROCESSES
        if isinstance(seen, RanOut):
            return str(seen)
        if isinstance(seen, MemoryError) or "Insufficient memory" in str(seen):  # the latter are OpenCV's words
            return os.strerror(errno.ENOMEM)
        if isinstance(seen, RuntimeError) and str(seen) == "can't start new thread":
            return "No more threads"
        if isinstance(seen, OSError) and seen.errno in numbers:
            return os.strerror(seen.errno)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def trouble(folder: Path | None = None) -> str | None:
    """Say why no work can be done here now, in words without a path; None when all is well. Takes some milliseconds.

    folder: for temporary files; default is the process' own.
    """
    # Python itself would pass over a TMPDIR that is full.
    folder = folder or Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    try:
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
        if free < ROOM:
            return f"the temporary folder has {free / 1e6:.1f} MB free, and work needs {ROOM / 1e6:.0f} MB"
        if disk.f_files and not disk.f_favail:
            return "the file system of the temporary folder has no inode left"
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
            copies: list[int] = []
            try:
                copies.extend(os.dup(file.fileno()) for _ in range(_DESCRIPTORS))
            finally:
                for copy in copies:
                    os.close(copy)
        bytearray(ROOM)
    except (OSError, MemoryError) as error:
        return fault(error) or type(error).__name__
    return None


def most_connections(wanted: int) -> int:
    """Give how many connections this process can hold: as wanted, but leaving it files; half of those where few."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(soft - FILES_KEPT, soft // 2, 1))
