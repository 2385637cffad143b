"""When to ask again: which answers are worth it, and how long to wait before."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

STATUSES = frozenset((429, 502, 503, 504))
"""Answers after which the same request may have another one."""


@dataclass(frozen=True)
class Retries:
    """How often, and after what waits, a request is tried again."""

    #: Tries after the first one.
    most: int = 5
    #: Seconds before the first of them, doubled with each.
    first: float = 0.5
    #: Seconds beyond which a wait is not worth it; a server that asks for more is taken at its word.
    longest: float = 60.0

    def pause(self, tries: int, asked: float | None = None) -> float | None:
        """Give the seconds to wait after `tries` tries, the first one included; None to give up.

        asked: what the server's Retry-After says.
        """
        if tries > self.most or (asked or 0.0) > self.longest:
            return None
        # Half of it by chance, so that callers who failed together do not come again together.
        planned = self.first * 2.0 ** (tries - 1) * (0.5 + 0.5 * random.random())
        return max(min(planned, self.longest), asked or 0.0)


def retry_after(value: str | None) -> float | None:
    """Read the seconds that a Retry-After header asks for, as a number or a date; None for none and for nonsense."""
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
