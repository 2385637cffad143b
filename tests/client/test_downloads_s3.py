"""A download from a real S3 whose connection breaks in the middle, once: it ends up whole."""

from __future__ import annotations

import hashlib
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.client.conftest import Either
from tests.service.conftest import Api, Make

CONTENT = os.urandom(600_000)
CUT = 200_000


class BreaksOnce(socketserver.ThreadingTCPServer):
    """A way to `target` that breaks once, as soon as `CUT` bytes of an answer are through. requests: what was asked."""

    daemon_threads = False

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.target = (urlsplit(target).hostname, urlsplit(target).port)
        self.requests: list[bytes] = []
        self.broken = False
        self.open: set[socket.socket] = set()

    def server_close(self) -> None:
        for connection in [*self.open]:
            end(connection)
        super().server_close()


class Passing(socketserver.BaseRequestHandler):
    server: BreaksOnce

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as far:
            ends = {self.request, far}
            self.server.open |= ends
            asking = threading.Thread(target=self._ask, args=(far,))
            asking.start()
            passed = 0
            while piece := far.recv(8192):
                passed += len(piece)
                self.request.sendall(piece)
                if passed > CUT and not self.server.broken:
                    self.server.broken = True
                    break
            for each in ends:
                end(each)
            asking.join()
            self.server.open -= ends

    def _ask(self, far: socket.socket) -> None:
        while piece := self.request.recv(65_536):
            self.server.requests.append(piece)
            far.sendall(piece)
        end(far)


def end(connection: socket.socket) -> None:
    with suppress(OSError):  # the other end was first
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def breaking_once(target: str) -> Iterator[BreaksOnce]:
    with BreaksOnce(target) as way:
        thread = threading.Thread(target=way.serve_forever)
        thread.start()
        try:
            yield way
        finally:
            way.shutdown()
            thread.join()


def finished(api: Api) -> str:
    """A job whose video is of a size that can be cut."""
    job = api.start(api.submit({"method": "flow"})["id"])
    result: dict[str, Any] = api.store(job)
    video = next(file for file in result["files"] if file["format"] == "mp4")
    api.storage.put(f"jobs/{job.id}/{job.attempt}/{video['name']}", CONTENT, "video/mp4")
    video |= {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    api.jobs.succeed(job.id, job.attempt, result)
    return job.id


def check(either: Either, way: BreaksOnce, job: Any, folder: Path) -> None:
    """Its video is saved whole; the second request asked for the rest alone."""
    assert either.do(job.save(folder / "a.mp4")).read_bytes() == CONTENT
    assert way.broken
    asked = [request.lower() for request in way.requests if b"take-1.mp4" in request]
    assert b"\r\nrange:" not in asked[0]
    assert b"\r\nif-range: " in asked[-1]
    assert 0 < int(asked[-1].partition(b"\r\nrange: bytes=")[2].partition(b"-")[0]) < len(CONTENT)
    assert [path.name for path in folder.glob("*a.mp4*")] == ["a.mp4"]


def test_taken_up_from_a_real_storage(
    make_api: Make, either: Either, s3_settings: dict[str, str], tmp_path: Path
) -> None:
    with breaking_once(s3_settings["storage_endpoint"]) as way:
        api = make_api(**s3_settings, storage_public_endpoint=way.url)
        job = either.do(either.client(api.url).job(finished(api)))
        check(either, way, job, tmp_path)
        assert len(way.requests) == 2


def test_taken_up_where_the_api_hands_the_files_over(
    make_api: Make, either: Either, s3_settings: dict[str, str], tmp_path: Path
) -> None:
    api = make_api(**s3_settings, storage_proxy=True)
    with breaking_once(api.url) as way:
        job = either.do(either.client(way.url).job(finished(api)))
        check(either, way, job, tmp_path)
