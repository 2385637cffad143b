"""Sitting out an outage of storage or Redis: the attempt is kept, and what failed is tried again with growing pauses.

Giving the job back instead would only have it taken up again at once. Knows nothing of jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
import tenacity

from service import machine
from service.database.outages import is_outage
from service.storage import ObjectDamaged, StorageFull, StorageUnavailable

STORAGE_PATIENCE = 900.0
"""Seconds an attempt waits for storage before it is given back."""
FULL_PATIENCE = 30.0
"""Seconds an attempt waits for room in a storage that is full: for the keeper, which may be erasing just then."""
DAMAGE_PATIENCE = 30.0
"""Seconds an attempt waits for a file that storage gives otherwise than it was stored, or not at all: it may lag."""
LONGEST_PAUSE = 10.0
REDIS_PATIENCE = 900.0
"""Seconds a finished result waits for Redis to come back."""

log = structlog.get_logger("task")
T = TypeVar("T")


def patiently(wait: Callable[[float], None], verb: Callable[..., T], *arguments: object) -> T:
    """Call a verb until storage has answered it, or for `STORAGE_PATIENCE`; then raises `StorageUnavailable`.

    A storage that is full is waited for no longer than `FULL_PATIENCE`, and one that gives another file no longer than
    `DAMAGE_PATIENCE`, since it last answered anything else; then raises `StorageFull` and `ObjectDamaged`.

    wait: sleeps so many seconds; what it raises, such as a lease's `Interrupted`, ends the wait and passes through.
    """
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE),
        stop=_StopAtDeadline(),
        sleep=wait,
        before_sleep=_tell_once,
        reraise=True,
    )
    return retry(verb, *arguments)


def persist(verb: Callable[..., T], *arguments: object) -> T:
    """Call a verb of the record until Redis has heard it: repeated by the same attempt, it gets the same answer."""
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_outage),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        stop=tenacity.stop_after_delay(REDIS_PATIENCE),
        reraise=True,
    )
    return retry(verb, *arguments)


def _may_pass(error: BaseException) -> bool:
    """Tell whether storage may answer the next time.

    That this process has no descriptor or memory left is not its fault.
    """
    return isinstance(error, StorageUnavailable) and machine.fault(error) is None


class _StopAtDeadline(tenacity.stop.stop_base):
    """Whether one call has waited for long enough.

    An outage before it is no part of how long a storage has been full, or has given another file.
    """

    def __init__(self) -> None:
        self._kind: type[BaseException | None] = type(None)
        self._since = 0.0

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        waited = state.seconds_since_start or 0.0
        if type(error) is not self._kind:
            self._kind, self._since = type(error), waited
        if isinstance(error, StorageFull):
            return waited - self._since >= FULL_PATIENCE or waited >= STORAGE_PATIENCE
        if isinstance(error, ObjectDamaged):
            return waited - self._since >= DAMAGE_PATIENCE or waited >= STORAGE_PATIENCE
        return waited >= STORAGE_PATIENCE


def _tell_once(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        log.warning("storage does not answer as it should, trying on", error=str(state.outcome.exception()))
