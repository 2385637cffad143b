"""The keeper: every two seconds it makes true what should be true of all jobs.

Takes jobs back from dead workers, enqueues what RQ lost, expires results and uploads, erases files that must go, and
hands final events to webhook delivery. Any number of replicas may run; one holds the lock and works, the others wait
for it. The lock saves work, it protects nothing: every verb is a compare-and-set, so two at once do no harm.

Runs no job and needs no GPU. What is wrong, and for how long it must be, is decided in `service.jobs.reconcile`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import redis
import structlog
from redis.exceptions import LockError

from service.database.connections import connect
from service.database.identity import open_database
from service.database.outages import is_outage
from service.jobs.reconcile import Watch, announce_due, erase_due, expire_due, reclaim_dead, requeue_lost
from service.jobs.store import Jobs
from service.jobs.sweeps import Sweeps
from service.jobs.uploads import Uploads
from service.observe import tracing
from service.settings import ServiceSettings
from service.storage import LocalStorage, Storage, StorageError, open_storage
from service.webhooks.deliveries import Webhooks, announce

INTERVAL = 2.0
"""Seconds between two sweeps."""

LOCK_TTL = 3 * INTERVAL
"""Seconds after which another replica takes over from one that no longer sweeps."""

LONGEST_PAUSE = 5.0
"""Seconds between two attempts while Redis does not answer."""

log = structlog.get_logger(__name__)


class Keeper:
    """One replica. `clock` counts seconds and never goes back."""

    def __init__(
        self,
        jobs: Jobs,
        storage: Storage,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        patience = jobs.settings.lease_ttl
        self._leases = Watch(patience, stride=2 * INTERVAL, clock=clock)
        self._unlisted = Watch(patience, stride=2 * INTERVAL, clock=clock)
        self._lock = jobs.redis.lock(jobs.keys.keeper, timeout=LOCK_TTL, blocking=False, thread_local=False)
        self._leading = False
        self._duties: tuple[Callable[[], object], ...] = (
            partial(reclaim_dead, jobs, self._leases),
            partial(requeue_lost, jobs, self._unlisted),
            partial(expire_due, jobs),
        )
        hooks = Webhooks(jobs.redis, jobs.settings, jobs.database)
        errands: dict[str, Callable[[], object]] = {
            "events": partial(announce_due, jobs, partial(announce, jobs, jobs.settings)),
            "deliveries": hooks.sweep,
            "files": partial(erase_due, jobs, storage, hooks.forget),
            "uploads": Uploads(jobs.redis, storage, jobs.settings).sweep,
        }
        if jobs.database is not None:
            errands["epoch"] = jobs.database.beat
        if isinstance(storage, LocalStorage):
            errands["leavings"] = storage.tidy
        self._errands = tuple(_Errand(name, work, jobs.sweeps) for name, work in errands.items())

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set. Sits out any outage of Redis."""
        silent, pause = False, 0.0
        while not stop.wait(pause):
            try:
                self.sweep()
            except redis.RedisError as error:
                if not silent:
                    log.warning("redis does not answer, waiting for it", error=str(error))
                # While it was away nobody could renew a lease, so every one is judged anew.
                self._start_anew()
                silent, pause = True, min(LONGEST_PAUSE, 2 * pause or INTERVAL / 4)
                continue
            if silent:
                log.info("redis answers again")
            silent, pause = False, INTERVAL
        self.close()

    def sweep(self) -> bool:
        """Look at everything once and put right what is wrong. False when another replica holds the lock.

        Raises redis' errors while it is away, or is not the known database; whatever else a duty raises is logged,
        counted, and ends that duty alone.
        """
        if self._jobs.database is not None:
            self._jobs.database.check(fresh=True)
        if not self._leads():
            return False
        for duty in self._duties:
            try:
                duty()
            except Exception as error:
                if is_outage(error):
                    raise
                # One duty that cannot be done keeps nobody from the others; it is tried again with the next sweep.
                self._jobs.sweeps.fault("whole")
        for errand in self._errands:
            errand.start()
        return True

    def wait(self, timeout: float) -> None:
        """Wait until the errands of the last sweep are done, or `timeout` seconds."""
        for errand in self._errands:
            errand.join(timeout)

    def close(self) -> None:
        """Finish and let another replica take over at once."""
        self.wait(timeout=INTERVAL)
        if self._leading:
            self._leading = False
            try:
                self._lock.release()
            except (LockError, redis.RedisError) as error:
                log.info("lock not released, it runs out by itself", error=str(error))

    def _leads(self) -> bool:
        """Hold the keepers' lock, or take it when it is free."""
        if self._leading:
            try:
                self._lock.reacquire()
            except LockError:
                log.info("another keeper has taken over")
                self._leading = False
        if not self._leading and self._lock.acquire(blocking=False):
            log.info("keeping")
            self._leading = True
            self._start_anew()
        return self._leading

    def _start_anew(self) -> None:
        self._leases.reset()
        self._unlisted.reset()


class _Errand:
    """Work that leaves the house: in its own thread, so that slow storage never delays the next sweep.

    An outage of what it needs is logged once and left to the next sweep. Anything else is logged with its traceback and
    counted each time, and keeps neither the other errands nor the next sweep.
    """

    def __init__(self, name: str, work: Callable[[], object], sweeps: Sweeps) -> None:
        self._name = name
        self._work = work
        self._sweeps = sweeps
        self._thread: threading.Thread | None = None
        self._failing = False

    def start(self) -> None:
        """Begin the errand, unless the last one is still at it."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._attempt, name=f"keeper-{self._name}", daemon=True)
            self._thread.start()

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _attempt(self) -> None:
        try:
            self._work()
            self._failing = False
        except Exception as error:  # noqa: BLE001  it is logged whole, and the next sweep tries again
            if isinstance(error, StorageError) or is_outage(error):
                if not self._failing:
                    log.warning("left to the next sweep", errand=self._name, error=str(error))
                self._failing = True
            else:
                self._sweeps.fault("whole", errand=self._name)


def run(settings: ServiceSettings, stop: threading.Event | None = None) -> None:
    """Be a keeper until `stop` is set; without one, until SIGTERM or SIGINT (then in the main thread only)."""
    if stop is None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_, ended=stop: ended.set())
    with connect(settings, timeout=5) as connection:
        tracing.start(settings, "keeper")
        storage = open_storage(settings, connection)
        # Its database asks storage briefly: however silent that is, the next sweep comes.
        Keeper(Jobs(connection, settings, open_database(connection, settings)), storage).run(stop)
        tracing.stop()
