"""When a webhook is tried again: the schedule of tries, and what an answer says of the next one."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MINUTE, _HOUR = 60, 3600
SCHEDULE = (
    0,
    5,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""Seconds before each try, counted from the one before; after the last the delivery has failed."""
JITTER = 0.1
"""Up to this share is added to each wait, so that a receiver that was down is not hit by everything at once."""
MAX_RETRY_AFTER = 24 * _HOUR


def judge(status: int | None, spent: int, asked: float) -> tuple[str, int]:
    """Decide what a try came to and the whole seconds until the next one.

    status: of the answer, None when there was none. spent: tries used up, this one included. asked: seconds the
    receiver asked for, 0 when it did not; a wait is never shorter than the schedule's.
    """
    if status is not None and 200 <= status < 300:
        return "delivered", 0
    if status == 410:
        return "disabled", 0
    if spent >= len(SCHEDULE):
        return "failed", 0
    planned = SCHEDULE[spent] * (1 + JITTER * random.random())
    return "retried", math.ceil(max(planned, min(asked, MAX_RETRY_AFTER)))


def retry_after(value: str) -> float:
    """Read the seconds a Retry-After header asks for, as a number or a date; 0 for none, the past or nonsense."""
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
