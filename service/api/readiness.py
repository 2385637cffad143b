"""Whether what the API needs answers: asked by one at a time, however many want to know.

Anybody may ask, without a key, and an outage makes each answer wait. So all who ask meanwhile share one thread and one
answer: a crowd cannot take the threads that requests need, nor keep the disk busy with proofs that it can be written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread


class Readiness:
    """ask: returns where all is well, else raises what is wrong. Belongs to one event loop at a time."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        self._limiter = CapacityLimiter(1)

    async def check(self) -> None:
        """Ask once for all who wait, and raise what `ask` raises."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._in_thread())
            self._asking.add_done_callback(self._forget)
        # Who gives up leaves the answer to the others.
        await asyncio.shield(self._asking)

    async def _in_thread(self) -> None:
        await to_thread.run_sync(self._ask, limiter=self._limiter)

    def _forget(self, asked: asyncio.Task[None]) -> None:
        self._asking = None
        if not asked.cancelled():
            # Everybody may have left: then nobody else takes note of it.
            asked.exception()
