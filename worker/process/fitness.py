"""Whether a worker may take jobs: not while its machine lacks what they need.

A work-horse that meets a fault of the machine says so twice, over pipes inherited through the forks: to its RQ worker,
which takes no further job, and to the launcher, which has all its workers end. The launcher starts them again once the
machine is well, and not at once: until then, another machine may take what was given back.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable

import redis
import structlog
from rq import Worker
from rq.serializers import JSONSerializer

from service.fleet import unwell
from service.fleet.engines import ENGINE_ID
from service.jobs.record import Job
from service.jobs.store import Jobs
from service.settings import ServiceSettings

LAUNCHER_FD = "INBETWEEN_FAULT_FD"
LISTENER_FD = "INBETWEEN_LISTENER_FAULT_FD"
"""Environment variables: file descriptors that take the words of a fault, a line each."""

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0
"""Seconds without jobs after a fault on a machine that seems well, twice as many after each further one."""
FORGIVEN_SECONDS = 900.0
"""After this long without a fault, the next one counts as the first."""
LOOK_SECONDS = 5.0
"""Between two looks at a machine that is not well, and two words about it."""

log = structlog.get_logger("launcher")


def worker_name() -> str:
    """Name the launcher that this process is below, the same for all of its processes."""
    return os.environ.get(ENGINE_ID) or socket.gethostname()


def listener_name() -> str:
    """Make a name for an RQ worker, from which `others` reads whose it is."""
    return f"{worker_name()}.{uuid.uuid4().hex}"


def others(jobs: Jobs, job: Job) -> set[str]:
    """Name the other launchers with workers that listen to the queue of this job, as RQ knows them."""
    queue = jobs.tickets.queue(job.lane, job.priority)
    listening = Worker.all(queue=queue, serializer=JSONSerializer)
    return {one.name.rpartition(".")[0] or one.name for one in listening} - {worker_name()}


def report(why: str) -> None:
    """Say that the machine failed, to whoever has left us a pipe for it."""
    for name in (LISTENER_FD, LAUNCHER_FD):
        if descriptor := os.environ.get(name):
            try:
                os.write(int(descriptor), f"{why}\n".encode())
            except OSError as error:
                # A full pipe holds many such words already, and a closed one belongs to nobody any more.
                log.warning("the fault is not reported", error=str(error))


class Pipe:
    """Takes reports. `writable` is to be inherited."""

    def __init__(self) -> None:
        self.readable, self.writable = os.pipe2(os.O_NONBLOCK)
        os.set_inheritable(self.writable, True)

    def taken(self) -> list[str]:
        """Take the words that have come since the last call."""
        try:
            return os.read(self.readable, 65536).decode(errors="replace").splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.readable)
        os.close(self.writable)


class Fitness:
    """The launcher's judgement. name: of this worker, in Redis. look: why the machine is not well, or None."""

    def __init__(
        self, settings: ServiceSettings, connection: redis.Redis, name: str, look: Callable[[], str | None]
    ) -> None:
        self.pipe = Pipe()
        self._settings, self._redis, self._name = settings, connection, name
        self._look = look
        self._faults = 0
        self._last_fault = -FORGIVEN_SECONDS
        self._trouble = look()
        self._look_at = 0.0
        self._said_at = -LOOK_SECONDS
        if self._trouble is not None:
            log.error("the machine is not well, taking no jobs", why=self._trouble)

    def well(self, now: float | None = None) -> bool:
        """Tell whether jobs may be taken.

        To be asked again and again; says in Redis when not. now: of a monotonic clock.
        """
        now = time.monotonic() if now is None else now
        before = self._trouble
        for why in self.pipe.taken():
            self._faults = 1 if now - self._last_fault >= FORGIVEN_SECONDS else self._faults + 1
            self._last_fault = now
            self._look_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._faults - 1))
            self._trouble = why
        if self._trouble is not None and before is None:
            log.error("the machine is not well, taking no jobs", why=self._trouble)
        if self._trouble is not None and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._trouble = self._look()
            if self._trouble is None:
                log.info("the machine is well again, taking jobs")
        if self._trouble is not None and now >= self._said_at + LOOK_SECONDS:
            self._said_at = now
            self._tell(unwell.publish)
        elif self._trouble is None and before is not None:
            self._said_at = -LOOK_SECONDS
            self._tell(unwell.withdraw)
        return self._trouble is None

    def _tell(self, word: Callable[[redis.Redis, ServiceSettings, str], None]) -> None:
        try:
            word(self._redis, self._settings, self._name)
        except redis.RedisError as error:
            log.warning("how the machine is stands not in Redis", error=str(error))
