"""A webhook receiver that falls ill: it takes every webhook, says nothing at all, or answers what is no answer."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from enum import StrEnum
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from service.jobs.record import State
from service.jobs.store import Jobs
from service.webhooks.deliveries import Webhooks

BURST = 10
"""Events that are told to an ill receiver once more, besides what comes by itself."""
HELD_SECONDS = 30.0
"""For which it keeps a connection at most; a caller has long left by then."""

UNREADABLE = (
    "http://[::1/hook",
    "http://127.0.0.1:99999/hook",
    "http://127.1:8080/hook",
    "https://name:word@example.test/hook",
    "https://exa mple.test/hook",
    "gopher://example.test/hook",
    "https://",
)
"""URLs that no version now lets in, as records of an old one may have them."""


class Health(StrEnum):
    well = "well"
    silent = "silent"
    poisoned = "poisoned"


class Ill(ThreadingTCPServer):
    """A context manager, as all servers here: inside it, `url` is answered as the `health` of the moment allows."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.health = Health.well
        self.over = threading.Event()
        self.turn = itertools.count()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    def __enter__(self) -> Ill:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a caller that hangs up, as it should."""


class _Handler(BaseRequestHandler):
    server: Ill
    request: socket.socket

    def handle(self) -> None:
        match self.server.health:
            case Health.silent:
                self.server.over.wait(HELD_SECONDS)
            case Health.poisoned:
                self._poison(next(self.server.turn) % 5)
            case Health.well:
                self.request.recv(65536)
                self.request.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    def _poison(self, turn: int) -> None:
        self.request.recv(65536)
        if turn == 0:
            self.request.sendall(b"\x00\xff this is not HTTP \r\n\r\n")
        elif turn == 1:
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
        elif turn == 2:
            self.request.sendall(f"HTTP/1.1 302 Found\r\nLocation: {self.server.url}\r\n\r\n".encode())
        else:
            opening = b"HTTP/1.1 200 OK\r\n" if turn == 3 else b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
            self._trickle(opening, b"X-Line: more\r\n")

    def _trickle(self, opening: bytes, piece: bytes) -> None:
        """Send headers, or a body, without an end."""
        with contextlib.suppress(OSError):
            self.request.sendall(opening)
            for _ in range(int(HELD_SECONDS / 0.1)):
                self.request.sendall(piece)
                if self.server.over.wait(0.1):
                    return


def afflict(hooks: Webhooks, jobs: Jobs, owner: str, poison: bool) -> bool:
    """Have the owner's latest events told once more; False when there is none.

    poison: as records that an old version wrote, whose URLs none can read now; those of jobs on their way become so
    too. Raises redis' errors.
    """
    latest = hooks.deliveries(owner, BURST).deliveries
    if poison:
        urls = itertools.cycle(UNREADABLE)
        for delivery, url in zip(latest, urls, strict=False):
            key = f"{jobs.keys.namespace}:delivery:{delivery.id}"
            if jobs.redis.exists(key):
                jobs.redis.hset(key, "url", url)
                jobs.redis.hdel(key, "target")
        waiting: Any = jobs.redis.zrange(jobs.keys.owned(owner, State.queued), 0, -1)
        for name in waiting:
            jobs.redis.eval(_POISON, 1, jobs.keys.job(name.decode()), next(urls))
    for delivery in latest:
        with contextlib.suppress(LookupError):  # its job was deleted meanwhile
            hooks.redrive(delivery.id)
    return bool(latest)


_POISON = """
local webhook = redis.call('HGET', KEYS[1], 'webhook')
if webhook then
  local events = cjson.decode(webhook).events
  redis.call('HSET', KEYS[1], 'webhook', cjson.encode({url = ARGV[1], events = events}))
end
"""
