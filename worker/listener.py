"""One RQ worker: `python -m worker.listener [--scheduler] QUEUE…`, highest priority first.

Adds to RQ only that its work-horses and its scheduler die with it, that what a job needs is imported before the fork,
so that a work-horse starts in milliseconds, that a job whose work-horse was killed goes back to the queue at once, and
that it sits out an outage of Redis instead of ending, which would end its work-horse too, but not when told to end.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from redis.backoff import ExponentialWithJitterBackoff
from rq import Queue, Worker
from rq.job import Job as Carried
from rq.serializers import JSONSerializer

from service.database import connections
from service.database.identity import Database, open_database
from service.database.outages import OutageRetry, is_outage
from service.jobs import spans
from service.jobs.record import JobError
from service.jobs.store import Jobs
from service.jobs.tickets import TASK as RUN
from service.observe import logs, tracing
from service.settings import ServiceSettings
from worker.process import exit_codes, parent_death
from worker.process.fitness import LISTENER_FD, Pipe, listener_name, report
from worker.task.lease import holder
from worker.task.retrying import persist

TASKS = ("worker.tasks", "worker.deliveries")
DELIVERIES = ("worker.deliveries",)
"""What webhooks need: neither torch nor anything that makes pictures."""

LATE = ("av.subtitles.stream", "importlib.readers", "numpy.ma", "pillow_heif")
"""What libraries import only when it is first used, which in a work-horse would be in every job."""

log = structlog.get_logger("listener")

LONGEST_PAUSE = 2.0
RETRIES = 900
"""With pauses of a second on average: as long as a finished result waits for Redis (`retrying.REDIS_PATIENCE`)."""

DATABASE_PAUSE = 1.0
"""Seconds between two looks at a Redis that is not the known database."""

FAREWELL_SECONDS = 5.0
"""How long a worker that has no more work says goodbye to a Redis that is away. RQ forgets it by itself too."""


class Listener(Worker):  # type: ignore[misc]
    """RQ's worker. It takes nothing from a Redis that is not the known database, and says no goodbye to one away.

    A job that the machine failed is its last.
    """

    database: Database | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._faults = Pipe()
        os.environ[LISTENER_FD] = str(self._faults.writable)

    def check_for_suspension(self, burst: bool) -> None:
        """Wait for the known database: RQ calls this before it takes anything."""
        super().check_for_suspension(burst)
        while self.database is not None and not self._stop_requested:
            try:
                return self.database.check(fresh=True)
            except redis.RedisError as error:
                if not is_outage(error):
                    raise
                time.sleep(DATABASE_PAUSE)
        return None

    def fork_work_horse(self, job: Carried, queue: Queue) -> None:
        try:
            super().fork_work_horse(job, queue)
        except OSError as error:
            # The keeper finds the job, which nobody has touched, in no list.
            report(os.strerror(error.errno or 0))
            raise

    def execute_job(self, job: Carried, queue: Queue) -> None:
        super().execute_job(job, queue)
        if self._faults.taken():
            self._stop_requested = True

    def teardown(self) -> None:
        overdue = threading.Timer(FAREWELL_SECONDS, os._exit, [0])
        overdue.daemon = True
        overdue.start()
        super().teardown()
        overdue.cancel()


def main(arguments: list[str]) -> int:
    """Work until SIGTERM; a job at hand is finished first. With `--scheduler`, its queue is that of webhooks."""
    settings = exit_codes.settings()
    logs.configure(settings)
    tracing.load(settings)
    parent_death.bind_forks()
    # Else Python takes another folder, such as /tmp, when this one is full, and nobody hears of it.
    tempfile.tempdir = os.environ.get("TMPDIR")
    queues = [argument for argument in arguments if argument != "--scheduler"]
    for module in DELIVERIES if "--scheduler" in arguments else (*TASKS, *LATE):
        importlib.import_module(module)
    exit_codes.need_redis(settings).close()
    # RQ sets the time-out that its blocking reads need, on a connection that has not been used yet.
    worker = Listener(
        queues,
        name=listener_name(),
        connection=connect(settings),
        serializer=JSONSerializer,
        work_horse_killed_handler=reclaim(_jobs(settings)),
        job_monitoring_interval=max(1, round(settings.lease_ttl)),
    )
    # A connection of its own: what waits on the worker's would hold up its farewell.
    looking = connections.connect(settings)
    worker.database = open_database(looking, settings)
    worker.work(logging_level="WARNING", with_scheduler="--scheduler" in arguments)
    return 0


def _jobs(settings: ServiceSettings) -> Jobs:
    connection = connect(settings)
    return Jobs(connection, settings, open_database(connection, settings))


def reclaim(jobs: Jobs) -> Callable[..., None]:
    """Make RQ's `work_horse_killed_handler`: the attempt that the work-horse ran died with it.

    One that was killed before it had started its attempt has not touched the job; the keeper finds that in no list. Nor
    has one whose ticket was in RQ's list twice, as an enqueueing sent again may leave it: another runs the attempt.
    """

    def killed(carried: Carried, pid: int | None, *_: object) -> None:
        if carried.func_name != RUN:
            return
        job_id, attempt = carried.args
        job = persist(jobs.get, job_id)
        if job is None or pid is None or job.worker != holder(pid):
            log.info("nothing to take back", job=job_id, attempt=attempt, reason="this work-horse did not run it")
            return
        try:
            persist(jobs.died, job_id, attempt, "work-horse")
        except JobError as refusal:
            log.info("nothing to take back", job=job_id, attempt=attempt, reason=str(refusal))
        else:
            log.warning("the work-horse died", job=job_id, attempt=attempt, trace=tracing.trace_id(job.traceparent))
            # Only for this: a fork beside a thread that holds a lock would be one too many.
            tracing.start(jobs.settings, "worker")
            spans.lost(job, "work-horse")
            tracing.stop()

    return killed


def connect(settings: ServiceSettings) -> redis.Redis:
    """Connect to Redis so that every command is repeated for as long as it is away or takes no writes.

    That is up to a quarter of an hour.
    """
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=LONGEST_PAUSE)
    return connections.connect(settings, retry=OutageRetry(backoff, RETRIES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
