"""The layer that keeps one key's flood from being felt by others: turns for its requests, a brake on its refusals."""

from __future__ import annotations

import random
from collections.abc import Container
from contextlib import AsyncExitStack

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.caller_semaphores import CallerSemaphore
from service.api.edge.problem_response import response
from service.problems import Problem

AT_WORK = 4
"""Requests of one key at work at once: more would not be done sooner, and would only keep others waiting."""

HELD_SECONDS = 1.0
"""How late a caller hears, at the least, that it sends too much. It has to wait for longer anyway."""

MOST_HELD = 200


class FairShare:
    """Who sends an API key has `AT_WORK` requests at work at once, each until its answer begins.

    Answers with 429 begin late, so that a client that waits for its answers costs next to nothing: `HELD_SECONDS`, and
    up to twice that, lest those who hear at once come again at once. At most `MOST_HELD` answers are held at once:
    whoever does not wait cannot take all connections with them.
    """

    def __init__(self, app: ASGIApp, apart: Container[tuple[str, str]] = ()) -> None:
        """Put the turns of callers around an application.

        apart: methods and paths whose requests wait for a long body. They have a line of their own, and a turn only
        until they ask for the body.
        """
        self.app = app
        self._apart = apart
        self._turns = CallerSemaphore(AT_WORK)
        self._turns_apart = CallerSemaphore(AT_WORK)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = Headers(scope=scope).get("authorization", "").split() if scope["type"] == "http" else []
        if not sent:
            return await self.app(scope, receive, send)
        async with AsyncExitStack() as turn:
            apart = (scope["method"], scope["path"]) in self._apart
            try:
                await turn.enter_async_context((self._turns_apart if apart else self._turns).of(sent[-1]))
            except Problem as refusal:
                await self._hold()
                return await response(refusal)(scope, receive, send)

            async def begun(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await turn.aclose()
                    if message["status"] == 429:
                        await self._hold()
                await send(message)

            async def asked() -> Message:
                await turn.aclose()
                return await receive()

            return await self.app(scope, asked if apart else receive, begun)

    async def _hold(self) -> None:
        if self._held < MOST_HELD:
            self._held += 1
            try:
                await anyio.sleep(random.uniform(HELD_SECONDS, 2 * HELD_SECONDS))
            finally:
                self._held -= 1
