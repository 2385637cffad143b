"""Keeping one caller's many requests from being felt by the others: turns at the work, and a brake on refusals.

Knows nothing of keys: whose turn it is, is whatever text names the caller. All of it belongs to one event loop and is
not for threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

AT_WORK = 4
"""Requests of one caller at work at once: more would not be done sooner, and would only keep others waiting."""

HELD_SECONDS = 1.0
"""How late a caller hears that it sends too much. It has to wait for longer anyway."""

MOST_HELD = 200


@dataclass
class _Line:
    free: anyio.Semaphore
    length: int = 0
    """Requests at work or waiting."""


class Turns:
    """Each caller has up to `most` requests at work at a time; the next begins when one of them is done."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """A turn of this caller, once there is one."""
        line = self._lines.setdefault(caller, _Line(anyio.Semaphore(self._most)))
        line.length += 1
        try:
            async with line.free:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[caller]


class FairShare:
    """An ASGI layer: who sends an API key has `AT_WORK` requests at work at once, each until its answer begins.

    Answers with 429 begin `HELD_SECONDS` late, so that a client that waits for its answers costs next to nothing.
    At most `MOST_HELD` answers are held at once: whoever does not wait cannot fill the memory with them.
    """

    def __init__(self, app: ASGIApp, apart: Container[tuple[str, str]] = ()) -> None:
        """apart: methods and paths whose requests wait for a long body, and so take no turns here."""
        self.app = app
        self._apart = apart
        self._turns = Turns(AT_WORK)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = Headers(scope=scope).get("authorization") if scope["type"] == "http" else None
        if caller is None:
            return await self.app(scope, receive, send)
        async with AsyncExitStack() as turn:
            if (scope["method"], scope["path"]) not in self._apart:
                await turn.enter_async_context(self._turns.of(caller))

            async def begun(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await turn.aclose()
                    if message["status"] == 429:
                        await self._hold()
                await send(message)

            return await self.app(scope, receive, begun)

    async def _hold(self) -> None:
        if self._held < MOST_HELD:
            self._held += 1
            try:
                await anyio.sleep(HELD_SECONDS)
            finally:
                self._held -= 1
