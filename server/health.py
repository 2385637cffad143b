"""Whether a process of the service does its part, as supervisors of containers ask from outside it.

    inbetween-server health api | keeper | webhooks

Looks from the same machine, with the same settings. An outage of Redis is the fault of none of them, they sit it out:
where only Redis could tell, and it does not answer, nothing is wrong. Of workers, `worker/readiness.py` knows.
"""

from __future__ import annotations

import socket

import httpx
import redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from service.database.connections import connect
from service.database.identity import open_database
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings
from service.storage import StorageError
from service.webhooks.deliveries import queue_name

ROLES = ("api", "keeper", "webhooks")
ANSWER_PATIENCE = 5.0
"""Seconds within which each must answer."""


def fault(settings: ServiceSettings, role: str) -> str | None:
    """Say what is wrong with the `role` on this machine, in one line; None when nothing is."""
    if role == "api":
        return _api(settings)
    try:
        with connect(settings, timeout=ANSWER_PATIENCE) as connection:
            return _keeper(settings, connection) if role == "keeper" else _listener(settings, connection)
    except (redis.RedisError, StorageError):
        return None


def _api(settings: ServiceSettings) -> str | None:
    """Say what is wrong when the API does not answer; whether it is ready, `/readyz` says."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/livez"
    try:
        with httpx.Client(trust_env=False, timeout=ANSWER_PATIENCE) as client:
            answer = client.get(url)
    except httpx.HTTPError as error:
        return f"the API does not answer at {url}: {error}"
    return None if answer.status_code == 200 else f"the API answers {answer.status_code}"


def _keeper(settings: ServiceSettings, connection: redis.Redis) -> str | None:
    """Say what is wrong when none of the keepers, this one or another, sweeps.

    One that does holds the lock, which runs out soon after its last sweep. None does while Redis is not the known
    database, and that is no fault of theirs.
    """
    if open_database(connection, settings).difference() is not None:
        return None
    return None if connection.exists(RedisKeys(settings.namespace).keeper) else "no keeper sweeps"


def _listener(settings: ServiceSettings, connection: redis.Redis) -> str | None:
    """Say what is wrong when no RQ worker of this machine waits for deliveries.

    RQ forgets one that is gone after some minutes.
    """
    queue = Queue(queue_name(settings), connection=connection, serializer=JSONSerializer)
    here = socket.gethostname()
    listening = any(worker.hostname == here for worker in Worker.all(queue=queue, serializer=JSONSerializer))
    return None if listening else f"no worker here listens to {queue.name}"
