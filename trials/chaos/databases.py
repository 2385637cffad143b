"""Another database where the service's own should be, under everything that is connected, and the right one back.

Redis' numbered databases are exchanged in one step, as FLUSHALL empties one: 0 is what the service sees, 1 waits, 2
keeps a copy. So what comes back is exactly what was there, or exactly the copy. Knows nothing of what comes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.jobs.record import Job
from service.jobs.store import Jobs
from service.settings import ServiceSettings

MARK = "stand-in"
"""A key that only another database has."""
EPOCHS_BEHIND = 10
"""By which an old copy is older than its database: more than storage can have missed while it was away."""


@dataclass
class Lost:
    """What a restored copy did not have, which is lost by definition."""

    #: Keys of the keyframes by job, for jobs that are younger than the copy.
    forgotten: dict[str, list[str]] = field(default_factory=dict)
    #: Ids whose files have become due for erasure since the copy.
    reserved: set[str] = field(default_factory=set)
    #: Jobs that were deleted after the copy.
    revived: set[str] = field(default_factory=set)
    #: Jobs that went on after the copy.
    rewound: set[str] = field(default_factory=set)


class Databases:
    """The databases of one Redis. Every method may raise redis' errors, and can then be called again.

    away: whether the service sees another database now.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.away = False
        self._settings = settings
        server, _, _ = settings.redis_url.rpartition("/")
        self._connections = [
            redis.Redis.from_url(f"{server}/{number}", socket_timeout=10, retry=Retry(NoBackoff(), 0))
            for number in range(3)
        ]
        self._jobs = [Jobs(connection, settings) for connection in self._connections]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def copy(self) -> None:
        """Keep a copy of the service's database as it is now."""
        self._run(_COPY, 2)

    def empty(self) -> None:
        """Have the service see a database without anything."""
        self._run(_EMPTY)
        self.away = True

    def age(self) -> None:
        """Have the service see the copy, as if it were minutes old."""
        self._run(_AGE, EPOCHS_BEHIND, f"{self._settings.namespace}:database")
        self.away = True

    def bring_back(self) -> None:
        """Have the service see its own database again, just as it was."""
        self._run(_BRING_BACK)
        self.away = False

    def restore(self, lost: Lost) -> None:
        """Have the service see the copy, for good, and add to `lost` what it does not have."""
        if self._connections[0].exists(MARK):
            now, before = ({job.id: job for job in _records(jobs)} for jobs in self._jobs[1:])
            for name in now.keys() | before.keys():
                if name not in before:
                    lost.forgotten[name] = [keyframe["key"] for keyframe in now[name].keyframes]
                elif name not in now:
                    lost.revived.add(name)
                elif _stage(now[name]) != _stage(before[name]):
                    lost.rewound.add(name)
            listed: list[Any] = [jobs.redis.zrange(jobs.keys.erasures, 0, -1) for jobs in self._jobs[1:]]
            mine, its = map(set, listed)
            lost.reserved |= {name.decode() for name in mine - its}
            self._run(_RESTORE)
        self.away = False

    def _run(self, script: str, *arguments: str | int) -> None:
        self._connections[0].eval(script, 0, MARK, *arguments)


def _records(jobs: Jobs) -> Iterator[Job]:
    prefix = jobs.keys.job("")
    names = [key.decode().removeprefix(prefix) for key in jobs.redis.scan_iter(f"{prefix}*", count=1000)]
    yield from jobs.get_many(names)


def _stage(job: Job) -> tuple[object, ...]:
    return job.state, job.attempt, job.deaths, job.errors, job.cancel_requested, job.faults, job.result


_COPY = """
redis.call('SELECT', ARGV[2]) redis.call('FLUSHDB') redis.call('SELECT', 0)
for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', key, key, 'DB', ARGV[2]) end
"""

_EMPTY = """
if redis.call('EXISTS', ARGV[1]) == 1 then return end
redis.call('SELECT', 1) redis.call('FLUSHDB') redis.call('SET', ARGV[1], '') redis.call('SELECT', 0)
redis.call('SWAPDB', 0, 1)
"""

_AGE = """
if redis.call('EXISTS', ARGV[1]) == 1 then return end
redis.call('SWAPDB', 1, 2)
redis.call('SELECT', 1) redis.call('SET', ARGV[1], '') redis.call('HINCRBY', ARGV[3], 'epoch', -tonumber(ARGV[2]))
redis.call('SELECT', 0) redis.call('SWAPDB', 0, 1)
"""

_BRING_BACK = """
if redis.call('EXISTS', ARGV[1]) == 1 then redis.call('SWAPDB', 0, 1) end
"""

_RESTORE = """
if redis.call('EXISTS', ARGV[1]) == 1 then redis.call('SWAPDB', 0, 2) end
"""
