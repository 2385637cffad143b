"""Workers that take no jobs because their machine is not well: said by their launchers, and gone when no longer said.

For people and alerts. Who takes a job is decided by who listens to its queue, never from here.
"""

from __future__ import annotations

import redis

from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

NOTE_TTL = 20
"""For how long a launcher's word counts; it repeats it well before."""


def publish(connection: redis.Redis, settings: ServiceSettings, worker: str) -> None:
    """Say that this worker takes no jobs for now."""
    now = _now(connection)
    with connection.pipeline() as pipe:
        pipe.zadd(RedisKeys(settings.namespace).unwell, {worker: now})
        pipe.zremrangebyscore(RedisKeys(settings.namespace).unwell, "-inf", now - NOTE_TTL)
        pipe.execute()


def withdraw(connection: redis.Redis, settings: ServiceSettings, worker: str) -> None:
    """Say that this worker takes jobs again, or has ended."""
    connection.zrem(RedisKeys(settings.namespace).unwell, worker)


def count(connection: redis.Redis, namespace: str) -> int:
    """Count the workers that have said lately that they take no jobs."""
    return int(connection.zcount(RedisKeys(namespace).unwell, _now(connection) - NOTE_TTL, "+inf"))


def _now(connection: redis.Redis) -> float:
    """Read Redis' clock: those of the machines may differ."""
    seconds, micros = connection.time()
    return float(seconds) + float(micros) / 1e6
