"""A sweep over many owners' items, in which no item keeps another from its turn.

Whatever an item raises is logged and counted, the item is put behind all others, and the sweep goes on: the poison of
one owner is nobody else's. Only an outage ends a sweep, since every further item would meet it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import redis
import structlog

from service.database.outages import is_outage
from service.jobs import metrics
from service.storage import StorageError

POSTPONED_SECONDS = 60.0
"""Until an item that raised has its next turn."""

MOST_OUTAGES = 3
"""Items in a row that storage may fail before the sweep is left to the next one: it is the storage, not the items."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Sweeps:
    """What sweeps of one namespace count by. counters: key of the running totals in Redis."""

    def __init__(self, connection: redis.Redis, counters: str) -> None:
        self._redis = connection
        self._counters = counters

    def each(self, sweep: str, items: Iterable[T], work: Callable[[T], object], postpone: Callable[[T], object]) -> int:
        """Do `work` for every item, and give how many it was done for.

        sweep: its name in the log and the metric `sweep_faults_total`. postpone: puts an item behind the others.
        Raises an outage of Redis at once; one of storage at the end, when others had their turn, or after
        `MOST_OUTAGES` in a row.
        """
        done = failed_in_a_row = 0
        away: StorageError | None = None
        for item in items:
            try:
                work(item)
            except StorageError as error:
                postpone(item)
                away, failed_in_a_row = error, failed_in_a_row + 1
                if failed_in_a_row == MOST_OUTAGES:
                    break
            except Exception as error:
                if is_outage(error):
                    raise
                self.fault(sweep, item=str(item))
                postpone(item)
            else:
                done, failed_in_a_row = done + 1, 0
        if away is not None:
            raise away
        return done

    def fault(self, sweep: str, **about: str) -> None:
        """Log and count the exception being handled as one that a sweep went on from."""
        log.exception("sweep goes on without it", sweep=sweep, **about)
        for field, amount in metrics.counted("sweep_faults_total", sweep=sweep).items():
            self._redis.hincrbyfloat(self._counters, field, amount)

    def postpone_in(self, key: str) -> Callable[[Any], None]:
        """Give a `postpone` for members of a ZSET by due time; a member that has left it meanwhile stays out."""

        def postpone(member: Any) -> None:
            seconds, _ = self._redis.time()
            self._redis.zadd(key, {member: float(seconds) + POSTPONED_SECONDS}, xx=True)

        return postpone
