"""Turns at work that takes long, so that one owner's requests wait for each other and nobody else's do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio


@dataclass
class _Line:
    free: anyio.Semaphore
    length: int = 0
    """Requests at work or waiting."""


class Turns:
    """Each owner has up to `most` requests at work at a time; the next begins when one of them is done.

    Of one event loop: not for threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """A turn of this owner, once there is one."""
        line = self._lines.setdefault(owner, _Line(anyio.Semaphore(self._most)))
        line.length += 1
        try:
            async with line.free:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[owner]
