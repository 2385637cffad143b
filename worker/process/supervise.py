"""One process that is kept running: started, watched, and started again after growing pauses.

Knows nothing of what the process does, nor when it should run: that is decided by whoever calls `start` and `stop`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Callable

import structlog

from service import machine

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0
"""A process that ran this long was no failed start: the next pause is the first one again."""

log = structlog.get_logger("launcher")


class Child:
    """A process by name. Times are monotonic seconds given by the caller."""

    def __init__(self, name: str, spawn: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._spawn = spawn
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._not_before = 0.0
        self._failures = 0
        self._asked_to_stop = False

    @property
    def running(self) -> bool:
        """Whether it has been started and its end has not been seen by `ended` yet."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self, now: float) -> bool:
        """Start the process unless it runs or its pause is not over. Returns whether it was started."""
        if self.running or now < self._not_before:
            return False
        try:
            self._process = self._spawn()
        except OSError as error:
            # No memory, process or descriptor left: the machine's fault, which may pass.
            if error.errno != errno.EAGAIN and machine.fault(error) is None:
                raise
            log.error("cannot be started", process=self.name, error=str(error), again_in=self._pause(now))
            return False
        self._began = now
        self._asked_to_stop = False
        return True

    def stop(self) -> None:
        """Ask the process to end (SIGTERM), once."""
        if self._process is not None and not self._asked_to_stop:
            self._asked_to_stop = True
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def ended(self, now: float) -> int | None:
        """Return the exit code (negative: the signal) the first time it is seen to have ended, else None.

        An end that nobody asked for is logged and followed by a pause.
        """
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._process = None
        if self._asked_to_stop:
            self._failures = 0
            self._not_before = 0.0
            return code
        if now - self._began >= STEADY_SECONDS:
            self._failures = 0
        log.warning("ended", process=self.name, code=code, again_in=self._pause(now))
        return code

    def _pause(self, now: float) -> float:
        """Choose the seconds until the next start after one more failure."""
        self._failures += 1
        pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._failures - 1))
        self._not_before = now + pause
        return pause


class Wakeups:
    """Signals as something to wait for. SIGCHLD only wakes; the others are returned by `wait`.

    To be made in the main thread; from then on SIGTERM and SIGINT do nothing else.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def wait(self, seconds: float, *others: int) -> list[int]:
        """Sleep until a signal comes or the time is over, and give the signals that asked us to end.

        others: file descriptors that wake too, once they are readable.
        """
        if self._read not in select.select([self._read, *others], [], [], seconds)[0]:
            return []
        return [number for number in os.read(self._read, 512) if number != signal.SIGCHLD]
