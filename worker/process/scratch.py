"""The launcher's folder for temporary files: removed with it, or by the next launcher on this machine.

A folder belongs to a living launcher as long as its file `lock` is locked; the kernel unlocks it however the launcher
ends. Knows nothing of what is kept in it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

SCRATCH_PREFIX = "inbetween-worker-"
_LOCK = "lock"

log = structlog.get_logger("launcher")


@contextmanager
def folder() -> Iterator[Path]:
    """Make a private folder of our own under the temporary folder. Removes those that killed launchers left there."""
    _remove_leavings(Path(tempfile.gettempdir()))
    while True:
        path = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
        lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if _locked(lock) and os.fstat(lock).st_nlink:
            break
        # Between its making and our locking it, another launcher took it for a leaving.
        os.close(lock)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _remove_leavings(parent: Path) -> None:
    for path in parent.glob(f"{SCRATCH_PREFIX}*"):
        try:
            known = path.lstat()
            if not stat.S_ISDIR(known.st_mode) or known.st_uid != os.geteuid():
                continue
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            # Just being made, or just being removed by another launcher.
            continue
        try:
            if _locked(lock):
                log.info("removing what a killed launcher left", folder=str(path))
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _locked(descriptor: int) -> bool:
    """Lock the file, unless somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
