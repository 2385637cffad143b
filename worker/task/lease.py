"""The lease of a running attempt, kept from threads of its own, and the reasons to stop before the end.

The work-horse's main thread works; it calls `check` between its steps, and waits with `fileno` where it must wait. A
thread that outlives Redis' outages renews, and hears of cancellation; another one hears from the launcher, over a pipe
inherited through the forks, that the job must be given back. Knows nothing of what the job does.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextvars import copy_context
from enum import StrEnum
from functools import partial
from types import TracebackType

import redis
import structlog

from service.database.outages import is_outage
from service.jobs.record import JobError, Renewal, State, ticket
from service.jobs.store import Jobs

DRAIN_FD = "INBETWEEN_DRAIN_FD"
"""Environment variable: file descriptor that reads end-of-file when running jobs must be given back."""

UNWIND_SECONDS = 15.0
"""How long the main thread may take to notice an interruption before the process ends without it."""

LISTEN_SECONDS = 0.05
"""How often it is looked for a cancellation. The end of the work ends the pause between two looks at once."""

log = structlog.get_logger("lease")


def holder(pid: int) -> str:
    """Name a work-horse on this machine, as the record of a running attempt keeps it."""
    return f"{socket.gethostname()}-{pid}"


class Reason(StrEnum):
    cancel = "cancel"
    drain = "drain"
    superseded = "superseded"


class Interrupted(Exception):
    """The attempt must stop: it was cancelled, must be given back, or a newer one has taken its place."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Lease:
    """A context manager around the work on one attempt that has been started."""

    def __init__(self, jobs: Jobs, job_id: str, attempt: int) -> None:
        self._jobs = jobs
        self._id, self._attempt = job_id, attempt
        self._reason: Reason | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        # With this thread's context, so that its log lines say whose lease it is.
        self._keeper = threading.Thread(target=copy_context().run, args=(self._keep,), daemon=True)
        self._readable, self._writable = os.pipe()

    def __enter__(self) -> Lease:
        self._keeper.start()
        if drain := os.environ.get(DRAIN_FD):
            hear = partial(copy_context().run, self._hear_drain, int(drain))
            threading.Thread(target=hear, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._lock:
            self._over.set()
        self._keeper.join()
        os.close(self._readable)
        os.close(self._writable)

    def check(self) -> None:
        """Raise `Interrupted` when the attempt must stop."""
        if self._reason is not None:
            raise Interrupted(self._reason)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until an interruption, which raises."""
        select.select([self._readable], [], [], seconds)
        self.check()

    def fileno(self) -> int:
        """Return the descriptor that is readable from the moment the attempt must stop."""
        return self._readable

    def heed(self, verdict: Renewal) -> None:
        """Take what a renewal answered. Raises `Interrupted` when that is to stop."""
        if verdict is Renewal.cancel:
            self.interrupt(Reason.cancel)
        self.check()

    def interrupt(self, reason: Reason) -> None:
        """Stop the attempt; the first reason counts.

        A main thread that does not notice within `UNWIND_SECONDS` is not waited for.
        """
        with self._lock:
            if self._reason is not None or self._over.is_set():
                return
            self._reason = reason
            os.write(self._writable, b"!")
        timer = threading.Timer(UNWIND_SECONDS, self._end_process)
        timer.daemon = True
        timer.start()

    def settle(self, reason: Reason) -> None:
        """Write down what an interruption means for the job."""
        if reason is Reason.cancel:
            self._jobs.stopped(self._id, self._attempt)
        elif reason is Reason.drain:
            self._jobs.release(self._id, self._attempt)
        else:
            self._clear_up()

    def _clear_up(self) -> None:
        """Have the files erased again of a job that is gone for good.

        This process may have been stopped for so long that its last ones came after.
        """
        job = self._jobs.get(self._id)
        if job is None and not self._jobs.was_deleted(self._id):
            log.warning("the job has no record and nothing says that it was deleted: its files stay", job=self._id)
        elif job is None or job.state is State.expired:
            self._jobs.abandon_files(self._id, self._jobs.settings.lease_ttl)
            self._jobs.stopped_for_good(self._id)

    def _end_process(self) -> None:
        if self._over.is_set() or self._reason is None:
            return
        log.warning("the work does not stop, ending its process", job=self._id, reason=self._reason)
        try:
            self.settle(self._reason)
        finally:
            os._exit(1)

    def _keep(self) -> None:
        """Renew three times per lease, and at once when this attempt's cancellation is announced."""
        interval = self._jobs.settings.lease_ttl / 3
        cancels = self._jobs.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        name = ticket(self._id, self._attempt).encode()
        subscribed = outage = False
        due = 0.0
        while not self._over.is_set():
            try:
                if not subscribed:
                    cancels.subscribe(self._jobs.keys.cancel)
                    subscribed = True
                if time.monotonic() >= due:
                    due = time.monotonic() + interval
                    self._renew()
                    outage = False
                message = cancels.get_message()
                if message is None:
                    self._over.wait(min(LISTEN_SECONDS, max(0.01, due - time.monotonic())))
                elif message["data"] == name:
                    due = 0.0
            except redis.RedisError as error:
                if not is_outage(error):
                    raise
                # A Redis that was busy may have refused it.
                subscribed = False
                if not outage:
                    log.warning("lease not renewed, trying on", job=self._id, error=str(error))
                outage = True
                self._over.wait(min(1.0, interval))
        cancels.close()

    def _renew(self) -> None:
        try:
            if self._jobs.renew(self._id, self._attempt) is Renewal.cancel:
                self.interrupt(Reason.cancel)
        except JobError:
            self.interrupt(Reason.superseded)

    def _hear_drain(self, descriptor: int) -> None:
        os.read(descriptor, 1)
        self.interrupt(Reason.drain)
