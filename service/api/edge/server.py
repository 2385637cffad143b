"""The HTTP server: uvicorn with its plain-Python parser, and time limits for what a client may keep us waiting for.

uvicorn itself gives up on idle connections alone, and only between requests. Here a client has CLIENT_SECONDS to send
the headers of a request, and as long again, and longer by CLIENT_RATE, to read what was written to it; where there are
more than MAX_CONNECTIONS, the one that has waited longest for its request goes. How long a body may take is
`service.api.edge.middleware`'s. What cannot be parsed is answered as a problem. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import resource
import socket
import sys
from typing import Any

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from service import machine
from service.problems import MEDIA_TYPE, Problem
from service.settings import ServiceSettings

MOST_HEADER_BYTES = 32_768
"""Request line and headers together. Browsers stay below 8 kB; a bare W3C trace or a long cookie fits too."""
_READ_SIZE = 65_536
"""Bytes parsed in one go. A million tiny chunks take the parser a while, and others come in between."""
_MOST_FILES = 65_536
BACKLOG = 64
"""Connections that asyncio takes in one go, before any of them is looked at: there have to be so many files."""
TOLD_EVERY = 60.0
"""Seconds between two lines that say the same of the machine's limits."""

_M_MMAP_THRESHOLD = -3
_LARGE = 524_288
"""Bytes from which on a block of memory is asked for by itself. To set it keeps glibc from raising it, to 32 MB."""

log = structlog.get_logger(__name__)


class Config(uvicorn.Config):
    """uvicorn's configuration for our settings. app: the application, or where uvicorn finds its factory.

    more: uvicorn's own options.
    """

    def __init__(self, settings: ServiceSettings, app: Any, **more: Any) -> None:
        self.settings = settings
        self.most_connections = machine.most_connections(settings.max_connections)
        own: dict[str, Any] = {
            "host": settings.host,
            "port": settings.port,
            "http": Protocol,
            "ws": "none",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            # Nothing of X-Forwarded-* is believed: links behind a proxy come from PUBLIC_URL.
            "proxy_headers": False,
            "h11_max_incomplete_event_size": MOST_HEADER_BYTES,
            "timeout_graceful_shutdown": 5,
            "backlog": BACKLOG,
        }
        super().__init__(app, **{**own, **more})


class Protocol(H11Protocol):
    """One connection. It is looked at a few times within each limit, so a limit ends up to a quarter late."""

    config: Config
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own has it
            transport.max_size = _READ_SIZE
        self._seconds = self.config.settings.client_seconds
        self._waiting_since = self.loop.time()
        self._heard = False
        self._owed_until: float | None = None
        """When what was written must have been read; None while the client keeps up."""
        self._next_look = self.loop.call_later(self._seconds / 4, self._look)
        if len(self.connections) > self.config.most_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._waiting_since = self.loop.time()
        self._heard = False
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._owe()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._owed_until = None

    @property
    def waits(self) -> bool:
        """Whether no request is being answered: the client is to send one."""
        return self.cycle is None or self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed.

        uvicorn calls this while it handles the parser's error, which says what is wrong.
        """
        hint = getattr(sys.exception(), "error_status_hint", 400)
        if hint == 431:
            detail = f"The request line and headers have more than {MOST_HEADER_BYTES} bytes."
            self._refuse(Problem(431, "headers-too-large", detail, limit=MOST_HEADER_BYTES))
        else:
            self._refuse(Problem(400, "bad-request", "This is not HTTP/1.1 as RFC 9112 has it."))

    def _look(self) -> None:
        now = self.loop.time()
        if self.transport.is_closing() and self._owed_until is None:
            self._owe()
        if self._owed_until is not None and now > self._owed_until:
            return self.transport.abort()
        if self.waits and not self.transport.is_closing() and now > self._waiting_since + self._seconds:
            self._late()
        self._next_look = self.loop.call_later(self._seconds / 4, self._look)
        return None

    def _late(self) -> None:
        """End a connection whose request's headers took too long. Who has said nothing at all is not answered."""
        if not self._heard:
            return self.transport.close()
        detail = f"The headers were not complete after {self._seconds:g} seconds."
        return self._refuse(Problem(408, "too-slow", detail, field="headers"))

    def _owe(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._owed_until = self.loop.time() + self._seconds + unread / self.config.settings.client_rate

    def _make_room(self) -> None:
        """Close the connection that has waited longest for its request, where there is one more than there may be.

        A client means well, and sends its request soon, or it may go.
        """
        # Those that go are still among the connections: many come in one go, and each is to end another.
        staying = [each for each in self.connections if isinstance(each, Protocol) and not each.transport.is_closing()]
        if len(staying) <= self.config.most_connections:
            return None
        oldest = min((each for each in staying if each.waits), key=lambda each: each._waiting_since)
        if oldest is not self:
            return oldest.transport.abort()
        detail = f"{self.config.most_connections} requests are being answered."
        return self._refuse(Problem(503, "busy", detail, headers={"Retry-After": "5"}))

    def _refuse(self, problem: Problem) -> None:
        """Answer without the application, and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            # The application gives up on a request whose body breaks off in nonsense.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return self.transport.abort()
        body = json.dumps(problem.to_dict()).encode()
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            **problem.headers,
        }
        phrase = STATUS_PHRASES[problem.status]
        start = h11.Response(status_code=problem.status, headers=list(headers.items()), reason=phrase)
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        return self.transport.close()


class EdgeServer(uvicorn.Server):
    """uvicorn's server, which says briefly what asyncio says of each connection that it cannot take."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_Shortages())
        await super().startup(sockets)


class _Shortages:
    """asyncio's handler of exceptions, but for shortages of the machine, which are told once in a while."""

    def __init__(self) -> None:
        self._told = -TOLD_EVERY
        self._untold = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or machine.fault(error) is None:
            return loop.default_exception_handler(context)
        self._untold += 1
        if loop.time() >= self._told + TOLD_EVERY:
            log.error("no new connections", error=str(error), times=self._untold)
            self._told, self._untold = loop.time(), 0
        return None


def raise_file_limit() -> None:
    """Let this process have as many open files as it may: each connection is one, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def give_memory_back() -> None:
    """Have what a large body or picture took go back to the system with it.

    glibc, once such a block was freed, takes the next one from the heap, where whatever comes to lie above it keeps it.
    Other C libraries know no such thing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
