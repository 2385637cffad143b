"""A real HTTP server that callers' URLs can point to, and that remembers what it receives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from trials.servers import serving


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver(ThreadingHTTPServer):
    """A real HTTP server on loopback that remembers what it receives.

    answers: (status, headers, body) in the order they are given; the last one is given for ever.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {"content-type": "image/png"}, b"picture")]
        self.received: list[Received] = []
        self._arrived = threading.Condition()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Receiver]:
        """Run a receiver that answers for as long as the context lasts."""
        server = cls()
        with serving(server):
            yield server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, request: Received) -> tuple[int, dict[str, str], bytes]:
        with self._arrived:
            self.received.append(request)
            self._arrived.notify_all()
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def wait_for(self, count: int, timeout: float = 60) -> list[Received]:
        """Wait until there are `count` requests, and give what has been received."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received) >= count, timeout), self.received
            return list(self.received)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a caller that hangs up early: it is no error here."""


class _Receive(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        status, sent, content = self.server.take(Received(self.command, self.path, headers, body))
        self.send_response(status)
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""
