"""One connection of the load generator, and many of them at once: the same for every server that is measured.

Python's own HTTP client, as it takes little of the processor that the servers share with it. Bodies are made once.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

BOUNDARY = "between-the-parts"
TIMEOUT = 60.0


class CallRefused(Exception):
    """An answer with another status than was expected."""


def form(files: dict[str, bytes], options: dict[str, Any] | None = None) -> tuple[bytes, dict[str, str]]:
    """Build a multipart form of JPEGs, and a part `options` of JSON: body and headers."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + data
        for name, data in files.items()
    ]
    if options is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="options"\r\n\r\n'
        parts.append(head.encode() + json.dumps(options).encode())
    body = b"\r\n".join(parts) + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


class LoadCaller:
    """One connection to a server, kept open. A context manager."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)

    def __enter__(self) -> LoadCaller:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._connection.close()

    def ask(
        self, method: str, path: str, expected: int, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[bytes, http.client.HTTPMessage]:
        """Ask, and give the answer's body and headers. Raises `CallRefused` for another status."""
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != expected:
            raise CallRefused(f"{method} {path}: {answer.status} {data[:300]!r}")
        return data, answer.headers

    def follow(self, path: str, until: Callable[[bytes], bool]) -> None:
        """Read an answer line by line until one is what was waited for; the connection then begins anew."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        while line := answer.readline():
            if until(line):
                self._connection.close()
                return
        raise CallRefused(f"GET {path}: {answer.status}, and it ended too soon")

    def follow_link(self, url: str) -> bytes:
        """Fetch what a redirect on the same server leads to."""
        parts = urlsplit(url)
        return self.ask("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, 200)[0]


def crowd(
    port: int, connections: int, seconds: float, act: Callable[[LoadCaller], object]
) -> tuple[list[float], float]:
    """Run many connections that act as soon as their last act is done.

    Gives the seconds of each act, and of all of it together.
    """
    took: list[list[float]] = [[] for _ in range(connections)]
    errors: list[BaseException] = []
    start = threading.Barrier(connections + 1)
    end = float("inf")

    def one(mine: list[float]) -> None:
        with LoadCaller(port) as caller:
            start.wait()
            try:
                while (began := time.perf_counter()) < end:
                    act(caller)
                    mine.append(time.perf_counter() - began)
            except Exception as error:  # noqa: BLE001 - raised again by the thread that waits for us
                errors.append(error)

    threads = [threading.Thread(target=one, args=(mine,)) for mine in took]
    for thread in threads:
        thread.start()
    end = time.perf_counter() + seconds
    began = time.perf_counter()
    start.wait()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - began
    if errors:
        raise errors[0]
    return [value for mine in took for value in mine], whole
