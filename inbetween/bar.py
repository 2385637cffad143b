"""One line that says where a job is: drawn over itself on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from inbetween.records import Record

WIDTH = 30
LINE_SECONDS = 10.0
"""Between lines where no line can be drawn over."""


class Bar:
    """The line that says where a job is. quiet: say nothing at all."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._drawn = False
        self._stage: object = None
        self._at = 0.0

    def show(self, job: Record) -> None:
        """Show what there is to say of the job now."""
        if self._quiet:
            return
        line = text(job)
        if self._terminal:
            room = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[K{line[:room]}")
            self._drawn = True
            return
        progress = job.progress
        stage = (job.state, progress and progress.stage, progress and progress.step is not None)
        if stage != self._stage or time.monotonic() - self._at >= LINE_SECONDS:
            self._stage, self._at = stage, time.monotonic()
            self._write(f"{job.id} {line}\n")

    def say(self, line: str) -> None:
        """Write a line that stays."""
        if not self._quiet:
            self.clear()
            self._write(f"{line}\n")

    def clear(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, words: str) -> None:
        self._stream.write(words)
        self._stream.flush()


def text(job: Record) -> str:
    """Describe a job on one line, such as `sampling [######....]  60%  step 15/25  take 1/2  0:12 left`."""
    progress = job.progress
    if job.state != "running" or progress is None:
        before = f", {job.position} before it" if job.position else ""
        return f"{job.state}{before}"
    parts = [progress.stage or "running"]
    if progress.fraction is not None:
        done = round(WIDTH * progress.fraction)
        parts.append(f"[{'#' * done}{'.' * (WIDTH - done)}] {progress.fraction:4.0%}")
    if progress.step is not None:
        parts.append(f"step {progress.step}/{progress.steps}")
    if (progress.takes or 1) > 1:
        parts.append(f"take {progress.take}/{progress.takes}")
    if progress.eta:
        parts.append(f"{clock(progress.eta)} left")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Write seconds as a clock does: 0:07, 12:30, 1:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
