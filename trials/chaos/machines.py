"""What a launcher has of the machine for itself, and how it runs out of it.

A small file system for temporary files, that fills up; where none can be mounted, descriptors, of which the RQ workers
and their work-horses get no more. Knows nothing of jobs.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

SIZE = 176 * 2**20
"""Bytes of the file system: more than the room that work needs, and little memory when it is full."""
SPARE = 8
"""Descriptors that a process may still open when it has run out of them."""


class Machine:
    """A context manager: inside it, `folder` is there for one launcher's temporary files.

    Its name is short, as a socket's must be. lacking: what it runs out of, `disk`, or `descriptors` where none can be
    mounted.
    """

    def __init__(self) -> None:
        self.folder = Path()
        self.lacking = "disk"
        self.sick = False

    def __enter__(self) -> Machine:
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "none", str(self.folder)]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            # Not root, or in a container that may not mount.
            self.lacking = "descriptors"
        return self

    def __exit__(self, *_: object) -> None:
        if self.lacking == "disk":
            # What a process that is just ending still holds there does not keep it mounted.
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True, capture_output=True)
        shutil.rmtree(self.folder)

    def sicken(self, workers: Iterable[psutil.Process]) -> None:
        """Run out of what a machine has, in the middle of whatever is going on.

        workers: below the launcher, with their work-horses.
        """
        self.sick = True
        if self.lacking == "descriptors":
            for worker in workers:
                _limit(worker, SPARE)
            return
        with self._ballast.open("wb", buffering=0) as file:
            # To the last page, whatever others write and remove meanwhile.
            for piece in (2**20, 2**12):
                while _extend(file.fileno(), piece):
                    pass

    def heal(self, workers: Iterable[psutil.Process]) -> None:
        """Have everything again. workers: as they are now."""
        self.sick = False
        if self.lacking == "descriptors":
            for worker in workers:
                _limit(worker, None)
            return
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"


def _extend(descriptor: int, size: int) -> bool:
    """Add so many more bytes to the end of a file, and tell whether there was room."""
    try:
        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def _limit(process: psutil.Process, spare: int | None) -> None:
    """Let a process open so many more files; None is as many as it may."""
    try:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        soft = hard if spare is None else min(hard, process.num_fds() + spare)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    except (ProcessLookupError, psutil.NoSuchProcess):
        # It ended by itself in this moment.
        return
