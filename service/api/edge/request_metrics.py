"""Requests by route, counted in this process and added to Redis' totals every two seconds.

In Redis because there the figures of several API processes are one, and those of a process that ended are kept;
together because a request must not wait for its own count. A process that is killed takes the last seconds with it.
Knows nothing of HTTP beyond the words it is given.
"""

from __future__ import annotations

import threading
from collections import Counter

import anyio
import redis
import structlog
from anyio import to_thread

from service.jobs import metrics
from service.jobs.store import Jobs

WRITE_EVERY = 2.0
HTTP_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
"""Anything else a stranger may write there counts as `other`."""

log = structlog.get_logger(__name__)


class RequestMetrics:
    """One per process; threads may share it."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._amounts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request. route: the template of a path. seconds: until the answer began."""
        known = method if method in HTTP_METHODS else "other"
        amounts = metrics.counted("http_requests_total", route=route, method=known, status=str(status))
        amounts |= metrics.observed("http_request_seconds", seconds, route=route, method=known)
        with self._lock:
            self._amounts.update(amounts)

    def flush(self) -> None:
        """Add to Redis what has been counted. Raises redis' errors, and keeps the counts for the next time."""
        with self._lock:
            amounts, self._amounts = self._amounts, Counter()
        if not amounts:
            return
        try:
            self._jobs.count(amounts)
        except redis.RedisError:
            with self._lock:
                self._amounts.update(amounts)
            raise

    async def run(self) -> None:
        """Flush the counts to Redis until cancelled. An outage of Redis is logged once, and sat out."""
        silent = False
        while True:
            await anyio.sleep(WRITE_EVERY)
            try:
                await to_thread.run_sync(self.flush)
                silent = False
            except redis.RedisError as error:
                if not silent:
                    log.warning("requests not counted, trying on", error=str(error))
                silent = True
