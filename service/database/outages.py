"""Outages of Redis, which are sat out: which of its errors are one, and a retry for commands that may be sent twice.

Knows nothing of how connections are made, nor of what is kept in Redis.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import AbstractBackoff
from redis.retry import Retry

_NO_WRITES = re.compile(
    r"\b(OOM|MISCONF|READONLY|NOREPLICAS|MASTERDOWN|UNBLOCKED)\b|maxmemory|read only replica|MASTER is down"
)

_BUSY = re.compile(r"\bBUSY\b")

T = TypeVar("T")


def takes_no_writes(error: BaseException) -> bool:
    """Tell whether Redis refused a write.

    It does when it is full, cannot write to its disk, lacks replicas, or is itself a replica for now.
    """
    return isinstance(error, redis.ResponseError) and _NO_WRITES.search(str(error)) is not None


def is_outage(error: BaseException) -> bool:
    """Tell whether it is Redis that is away, takes no writes, or is busy.

    Any other error is a fault of what was asked.
    """
    away = isinstance(error, redis.ConnectionError | redis.TimeoutError)
    return away or takes_no_writes(error) or is_busy(error)


def is_busy(error: BaseException) -> bool:
    """Tell whether Redis answers nothing because a script runs for too long, anybody's who uses the same server."""
    return isinstance(error, redis.ResponseError) and _BUSY.search(str(error)) is not None


class OutageRetry(Retry):
    """Sends a command again while there is an outage. redis-py's own `Retry` gives up when Redis takes no writes."""

    def __init__(self, backoff: AbstractBackoff, retries: int) -> None:
        super().__init__(backoff, retries, (redis.ConnectionError, redis.TimeoutError, redis.ResponseError))

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[[Exception], Any] | Callable[[Exception, int], Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        def judged(error: Exception) -> bool:
            return is_outage(error) and (is_retryable is None or is_retryable(error))

        def failed(*about: Any) -> None:
            try:
                fail(*about)
            except redis.WatchError:
                # Whoever watched begins anew, and would at once.
                time.sleep(self._backoff.compute(1))
                raise

        return super().call_with_retry(do, failed, judged, with_failure_count)
