"""Real servers around a service that is tried: a port of one's own, a redis-server on it, any server on a thread."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import redis
from tenacity import retry, stop_after_delay, wait_fixed

from server.up import redis_executable

AnyServer = TypeVar("AnyServer", bound=socketserver.BaseServer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisProcess:
    """A real redis-server on a port of its own, which may be killed and started again with all it had written."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command = [redis_executable(), *where, "--save", "", *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

        @retry(stop=stop_after_delay(10), wait=wait_fixed(0.02), reraise=True)
        def ready() -> None:
            with redis.Redis.from_url(self.url) as client:
                client.ping()

        ready()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def serving(server: AnyServer) -> Iterator[AnyServer]:
    """Let a server answer for as long as the context lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
