"""A TCP balancer on loopback, as simple as one can be: the next backend in turn that takes a connection has it.

It looks at nothing that is said, so whatever a backend does to a connection reaches the client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import count

CHUNK = 65_536
_NUMBERS = count()


class Balancer:
    """A context manager: inside it, connections to `port` reach one of the `targets` that listens."""

    def __init__(self, port: int, targets: Sequence[int]) -> None:
        self._port = port
        self._targets = list(targets)
        self._turn = count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"balancer-{next(_NUMBERS)}", daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Balancer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await self._connect()
            if there is None:
                return
            answers, to = there
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, to))
                    both.create_task(_pump(answers, writer))
            except* OSError:
                # One side broke off: so does the other, below.
                pass
            finally:
                to.close()
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connect to whoever takes a connection, beginning with whose turn it is; None when nobody does."""
        first = next(self._turn)
        for n in range(len(self._targets)):
            try:
                return await asyncio.open_connection("127.0.0.1", self._targets[(first + n) % len(self._targets)])
            except OSError:
                continue
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end. A side that is done closes both, as HTTP has no use for half a connection."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
