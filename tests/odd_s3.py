"""A small S3 server in memory, with no signatures checked, that can be told to answer as no good one would."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from trials import servers

Answer = tuple[int, dict[str, str], bytes]


class OddS3(ThreadingHTTPServer):
    """Objects of one bucket in memory. odd: looks at a request and answers it instead, or gives None."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.odd: Callable[[str, str, dict[str, str]], Answer | None] = lambda method, key, headers: None
        self.seen: list[str] = []
        #: Set once a client has closed a connection.
        self.left = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def settings(self) -> dict[str, str]:
        """As `ServiceSettings` takes them."""
        keys = {"storage_access_key": "a", "storage_secret_key": "b"}
        return {"storage_url": "s3://bucket", "storage_endpoint": self.endpoint, **keys}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OddS3

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        key = unquote(path.path).removeprefix("/bucket").lstrip("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        action = "BATCH" if "delete" in path.query.split("&") else "LIST" if "list-type" in path.query else self.command
        self.server.seen.append(action)
        status, sent, content = self.server.odd(action, key, headers) or self._answer(action, key, headers, body)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **sent}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may leave in the middle of an answer
            super().handle()

    def finish(self) -> None:
        super().finish()
        self.server.left.set()

    def _answer(self, action: str, key: str, headers: dict[str, str], body: bytes) -> Answer:
        objects = self.server.objects
        if action == "LIST":
            found = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in sorted(objects))
            return 200, {}, f"<ListBucketResult>{found}</ListBucketResult>".encode()
        if action == "BATCH":
            for name in re.findall(rb"<Key>(.*?)</Key>", body):
                objects.pop(name.decode(), None)
            return 200, {}, b"<DeleteResult/>"
        if action == "PUT":
            objects[key] = body
            return 200, {"ETag": '"1"'}, b""
        if action == "DELETE":
            objects.pop(key, None)
            return 204, {}, b""
        if action == "HEAD" and not key:
            return 200, {}, b""
        if key not in objects:
            return refusal(404, "NoSuchKey")
        named = {"ETag": f'"{hashlib.md5(objects[key]).hexdigest()}"', "Last-Modified": "Sun, 29 Nov 2026 00:00:00 GMT"}
        return 200, named, objects[key]

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def refusal(status: int, code: str, message: str = "because") -> Answer:
    return status, {}, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@contextmanager
def serving() -> Iterator[OddS3]:
    """One that answers until the end of the block."""
    with servers.serving(OddS3()) as server:
        yield server
