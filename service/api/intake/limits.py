"""What a key may ask for: requests a minute, jobs under way, GPU-seconds a day; and how long a queue may grow.

Requests are counted here, with the library `limits`, in a sliding window: what the last minute had, weighed by how
much of it is still within sixty seconds, and what this one has. Jobs and GPU time are counted where jobs are written
down (`allowance.lua`); this says how many are allowed and turns a refusal into a `Problem`. Requests belong to a key;
jobs and GPU time to its owner, whichever of the owner's keys they came by, and the key that asks decides how much is
too much. Knows nothing of the web framework.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import Redis
from redis.exceptions import RedisError

from service.auth import Key
from service.database.outages import takes_no_writes
from service.jobs.record import Allowance, Refused
from service.problems import Problem
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

RATE = 600
"""Requests a minute where RATE_LIMIT says nothing: ten a second, enough to poll dozens of jobs."""

ACTIVE_JOBS = 100
"""Jobs under way where MAX_ACTIVE_JOBS says nothing: a hundredth of the queue."""

JOB_SECONDS = 10
"""Until it is worth asking whether one of the owner's jobs is over: few take less."""

QUEUE_SECONDS = 30
"""Until it is worth asking again for room in a queue of which nobody knows how fast it moves."""

LONGEST = 600
"""However long the queue needs: an estimate may be wrong by then."""


log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Quota:
    """A key's requests after one more."""

    #: In a minute.
    most: int
    #: Now.
    left: int
    #: Until there may be more.
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """As in the IETF's draft-ietf-httpapi-ratelimit-headers, from its version 8 on."""
        return {
            "RateLimit-Policy": f'"requests";q={self.most};w=60',
            "RateLimit": f'"requests";r={self.left};t={self.seconds}',
        }


class Limits:
    """One per process; threads may share it. Every method that counts raises redis' errors."""

    def __init__(self, connection: Redis, settings: ServiceSettings) -> None:
        self._settings = settings
        self._full = False
        keys = settings.auth == "keys"
        self._rate = (RATE if keys else 0) if settings.rate_limit is None else settings.rate_limit
        self._jobs = (ACTIVE_JOBS if keys else 0) if settings.max_active_jobs is None else settings.max_active_jobs
        storage = RedisStorage(
            settings.redis_url,
            connection_pool=connection.connection_pool,
            key_prefix=RedisKeys(settings.namespace).rate,
        )
        self._windows = SlidingWindowCounterRateLimiter(storage)

    def count(self, key: Key) -> tuple[Quota | None, bool]:
        """Count a request, and tell where the key stands after it and whether it may go on.

        The first is None when the key has no limit. A Redis that is full counts nothing, and lets what reads and what
        makes room go on uncounted.
        """
        most = self._rate if key.rate is None else key.rate
        if most == 0:
            return None, True
        item = RateLimitItemPerMinute(most)
        try:
            accepted = self._windows.hit(item, key.id)
        except RedisError as error:
            if not takes_no_writes(error):
                raise
            if not self._full:
                log.warning("requests not counted while Redis takes no writes", error=str(error))
            self._full = True
            return None, True
        self._full = False
        window = self._windows.get_window_stats(item, key.id)
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        return Quota(most, window.remaining if accepted else 0, seconds), accepted

    def allowance(self, key: Key) -> Allowance:
        """Return what may be under way for a job of this key to be taken."""
        return Allowance(
            active_jobs=self._jobs if key.active_jobs is None else key.active_jobs,
            gpu_seconds=self._settings.gpu_seconds_per_day if key.gpu_seconds is None else key.gpu_seconds,
            queue=self._settings.max_queue,
        )


def too_fast(quota: Quota) -> Problem:
    """Make the refusal of a request beyond the quota."""
    detail = f"This key may send {quota.most} requests a minute."
    remedy = f"Wait {quota.seconds} seconds."
    headers = {"Retry-After": str(quota.seconds)}
    return Problem(429, "rate-limited", detail, remedy=remedy, headers=headers, limit=quota.most)


def check_alone(estimate: float | None, allowance: Allowance) -> None:
    """Raise `Problem` for a job that by itself takes more GPU-seconds than a day has, by its estimate."""
    most = allowance.gpu_seconds
    if most and estimate is not None and estimate > most:
        detail = f"The job takes about {estimate:.0f} GPU-seconds, and this key has {most:g} a day."
        raise Problem(422, "beyond-allowance", detail, estimate=estimate, limit=most)


def refusal(
    refused: Refused, allowance: Allowance, estimate: float | None = None, wait: float | None = None
) -> Problem:
    """Make the problem that tells the caller why a job was not taken.

    estimate: GPU-seconds of the job. wait: seconds until the next job leaves the queue. Both None where not known.
    """
    figures = refused.figures
    if refused.reason == "too-many-jobs":
        active, most = round(figures["active"]), allowance.active_jobs
        detail = f"{active} jobs are queued or running, and this key's owner may have {most}."
        headers = {"Retry-After": str(JOB_SECONDS)}
        return Problem(429, refused.reason, detail, headers=headers, active=active, limit=most)
    if refused.reason == "gpu-seconds-spent":
        used, promised = figures["used"] / 1000, figures["promised"] / 1000
        job = "an unknown number" if estimate is None else f"about {estimate:.0f}"
        detail = (
            f"Of {allowance.gpu_seconds:g} GPU-seconds a day {used:.0f} are used and {promised:.0f} promised to jobs "
            f"under way; this job takes {job}."
        )
        headers = {"Retry-After": str(round(figures["resets_in"]))}
        about: dict[str, Any] = {"used": used, "promised": promised, "estimate": estimate}
        return Problem(429, refused.reason, detail, headers=headers, limit=allowance.gpu_seconds, **about)
    seconds = QUEUE_SECONDS if wait is None else min(LONGEST, max(1, math.ceil(wait)))
    detail = f"{round(figures['queued'])} jobs wait already, as many as the queue holds."
    headers = {"Retry-After": str(seconds)}
    return Problem(503, refused.reason, detail, headers=headers, queued=round(figures["queued"]), wait_seconds=wait)
