"""A TCP proxy on loopback that can be cut, slowed and restored while connections go through it, or refuse all requests.

Knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import threading
from enum import StrEnum

from trials.chaos.refusals import REFUSALS, Refusal, refuse

CHUNK = 16_384
SLOW_SECONDS = 0.15
"""How long each chunk is held back while the line is slow."""


class Line(StrEnum):
    open = "open"
    slow = "slow"
    cut = "cut"
    refusing = "refusing"


class Proxy:
    """A context manager: inside it, connections to `port` reach `target` as well as `line` lets them."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._line = Line.open
        self._refusal = REFUSALS[0]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def become(self, line: Line, refusal: Refusal = REFUSALS[0]) -> None:
        """Change what the line does from now on.

        A cut drops what is connected in the middle of whatever it says, and takes no connection. One that is refusing
        drops it too, and answers every request with the refusal.
        """
        self._loop.call_soon_threadsafe(self._become, line, refusal)

    def _become(self, line: Line, refusal: Refusal) -> None:
        self._line, self._refusal = line, refusal
        if line in (Line.cut, Line.refusing):
            for writer in self._writers:
                writer.transport.abort()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._line is Line.cut:
            return None
        if self._line is Line.refusing:
            return await refuse(reader, writer, self._refusal)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            # The server behind is down: so is the line.
            return None
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            far_writer.transport.abort()
            self._writers -= {writer, far_writer}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carry one direction, until either end closes."""
        try:
            while data := await source.read(CHUNK):
                if self._line is Line.slow:
                    await asyncio.sleep(SLOW_SECONDS)
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()
        except OSError:
            sink.transport.abort()
