"""At most so many requests of one caller at work that takes long; the others of that caller wait, and nobody else's.

Knows nothing of keys or owners: whatever text names the caller will do. `CallerSemaphore` is of one event loop,
`ThreadCallerSemaphore` is for threads.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio

from service.problems import Problem

MOST_WAITING = 100
"""Requests of one caller that may wait for their turn: a tenth of the connections that a server holds."""


@dataclass
class _Line:
    free: anyio.Semaphore
    #: Requests at work or waiting.
    length: int = 0


class CallerSemaphore:
    """Each caller has up to `most` requests at work at a time; the next begins when one of them is done."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Hold a turn of this caller, once there is one. Raises `Problem` 429 when too many wait for theirs."""
        line = self._lines.setdefault(caller, _Line(anyio.Semaphore(self._most)))
        if line.length >= self._most + MOST_WAITING:
            detail = f"{MOST_WAITING} requests of this caller wait already."
            remedy = "Wait for answers before you send more."
            raise Problem(429, "rate-limited", detail, remedy=remedy, headers={"Retry-After": "1"}, limit=MOST_WAITING)
        line.length += 1
        try:
            async with line.free:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[caller]


@dataclass
class _ThreadLine:
    free: threading.BoundedSemaphore
    #: Threads at work or waiting.
    length: int = 0


class ThreadCallerSemaphore:
    """Up to `most` threads work for each caller at a time; more of them wait, in no order."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, _ThreadLine] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, caller: str) -> Iterator[None]:
        """Hold a turn of this caller, once there is one."""
        with self._lock:
            line = self._lines.setdefault(caller, _ThreadLine(threading.BoundedSemaphore(self._most)))
            line.length += 1
        try:
            with line.free:
                yield
        finally:
            with self._lock:
                line.length -= 1
                if not line.length:
                    del self._lines[caller]
