"""What the routes work with: one of each part, made from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.api.caller_semaphores import CallerSemaphore, ThreadCallerSemaphore
from service.api.edge.request_metrics import RequestMetrics
from service.api.erasure import Eraser
from service.api.intake.byte_budget import ByteBudget, ThreadByteBudget
from service.api.intake.idempotency import Idempotency
from service.api.intake.limits import Limits
from service.api.intake.submission import Submission
from service.api.readiness import Readiness
from service.api.streams.events import MOST_STREAMS, Readers
from service.api.streams.fanout import READ_SECONDS, Fanout
from service.api.votes import Votes
from service.auth import ApiKeys
from service.database.connections import connect, connect_async
from service.database.identity import Database
from service.jobs.store import Jobs
from service.jobs.uploads import Uploads
from service.machine import most_connections
from service.outbound.client import Outbound
from service.settings import ServiceSettings
from service.storage import LocalStorage, Storage, open_storage
from service.webhooks.deliveries import Webhooks

REDIS_SECONDS = 5.0
"""An answer of Redis that takes longer counts as none."""
STORAGE_TIMEOUT = 5.0
"""A storage that is silent for longer, twice, counts as away: a caller is told so, and need not wait for it."""

STREAMING_CONNECTIONS = 8
"""To Redis, for all event streams of a process together: one waits for events, the others answer what takes no wait."""

BODIES, PICTURES = 25, 8
"""Percent of MAX_BODIES_BYTES for bodies, and for images that did not come as bytes, while they are in hand."""

SUBMISSIONS = 16
"""Submissions at work at once. One owner has a quarter of them, all where everybody is one."""


@dataclass(frozen=True)
class Services:
    """One per process. `streaming` and `fanout` are the event loop's own; the others are for threads."""

    settings: ServiceSettings
    redis: Redis
    streaming: AsyncRedis
    fanout: Fanout
    database: Database
    jobs: Jobs
    storage: Storage
    keys: ApiKeys
    limits: Limits
    turns: CallerSemaphore
    bodies: ByteBudget
    uploads: Uploads
    submission: Submission
    idempotency: Idempotency
    webhooks: Webhooks
    votes: Votes
    eraser: Eraser
    readers: Readers
    readiness: Readiness
    traffic: RequestMetrics


def open_services(settings: ServiceSettings) -> Services:
    """Make everything that the routes ask for; no connection is opened yet.

    Raises `CannotConnect`, and `StorageUnavailable` for a STORAGE_URL that is none.
    """
    connection = connect(settings, timeout=REDIS_SECONDS, health_check_interval=30)
    # A reader of events blocks: its socket may be silent for longer than redis-py allows by default.
    streaming = connect_async(
        settings,
        most=STREAMING_CONNECTIONS,
        timeout=READ_SECONDS + REDIS_SECONDS,
        # A connection that lay in the pool while Redis went away and came back is found out by its use.
        retry=Retry(NoBackoff(), 1),
    )
    storage = open_storage(settings, connection, timeout=STORAGE_TIMEOUT, attempts=2)
    database = Database(connection, settings, lambda: storage)
    jobs = Jobs(connection, settings, database)
    uploads = Uploads(connection, storage, settings)
    outbound = Outbound(settings.fetch_allow_hosts)
    # Where everybody is one owner, turns would keep everybody waiting.
    turns = ThreadCallerSemaphore(SUBMISSIONS if settings.auth == "off" else 1)
    storing = turns if isinstance(storage, LocalStorage) else ThreadCallerSemaphore(SUBMISSIONS)
    shared = settings.auth != "off"
    pictures = ThreadByteBudget(settings.max_bodies_bytes * PICTURES // 100, shared)
    return Services(
        settings=settings,
        redis=connection,
        streaming=streaming,
        fanout=Fanout(streaming, jobs.keys),
        database=database,
        jobs=jobs,
        storage=storage,
        keys=ApiKeys(connection, settings),
        limits=Limits(connection, settings),
        turns=CallerSemaphore(SUBMISSIONS if settings.auth == "off" else SUBMISSIONS // 4),
        bodies=ByteBudget(settings.max_bodies_bytes * BODIES // 100, shared, whole=False),
        uploads=uploads,
        submission=Submission(settings, jobs, storage, outbound, uploads, turns, storing, pictures),
        idempotency=Idempotency(connection, settings, lambda job_id: jobs.get(job_id) is not None),
        webhooks=Webhooks(connection, settings, database),
        votes=Votes(connection, settings),
        eraser=Eraser(storage),
        # Nobody's streams take the connections that others need.
        readers=Readers(min(MOST_STREAMS, most_connections(settings.max_connections) // (2 if shared else 1))),
        readiness=Readiness(lambda: _ask(connection, storage, database)),
        traffic=RequestMetrics(jobs),
    )


def _ask(connection: Redis, storage: Storage, database: Database) -> None:
    connection.ping()
    storage.check()
    database.check(fresh=True)
