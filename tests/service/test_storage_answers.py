"""Answers that no good S3 server gives, from a small one of our own: none is taken for what it is not."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from service.settings import Settings
from service.storage import ObjectMissing, StorageFull, StorageUnavailable, open_storage, prove
from service.storage.s3 import S3Storage

Answer = tuple[int, dict[str, str], bytes]
PAGE = b"<html><head><title>Welcome</title></head><body>Log in first</body></html>"


class Server(ThreadingHTTPServer):
    """Objects of one bucket in memory. odd: looks at a request and answers it instead, or gives None."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.odd: Callable[[str, str, dict[str, str]], Answer | None] = lambda method, key, headers: None
        self.seen: list[str] = []

    @property
    def storage(self) -> S3Storage:
        return S3Storage("bucket", endpoint=f"http://127.0.0.1:{self.server_port}", credentials=("a", "b"), attempts=1)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

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


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


USES: dict[str, Callable[[S3Storage], object]] = {
    "put": lambda storage: storage.put("jobs/1/file", b"x", "text/plain"),
    "get": lambda storage: storage.get("jobs/1/file"),
    "stat": lambda storage: storage.stat("jobs/1/file"),
    "read": lambda storage: b"".join(storage.read("jobs/1/file")),
    "read a part": lambda storage: b"".join(storage.read("jobs/1/file", 1, 2)),
    "list": lambda storage: list(storage.list("jobs/1")),
    "delete": lambda storage: storage.delete("jobs/1/file"),
    "delete_prefix": lambda storage: storage.delete_prefix("jobs/1"),
    "check": lambda storage: storage.check(),
    "prove": prove,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredToken"),
        (403, "RequestTimeTooSkewed"),
        (404, "NoSuchTenant"),
        (409, "OperationAborted"),
        (451, "Odd"),
    ],
)
def test_any_refusal_is_an_outage_with_the_servers_own_words(server: Server, use: str, status: int, code: str) -> None:
    server.objects["jobs/1/file"] = b"x"
    server.odd = lambda method, key, headers: refusal(status, code, "The server's words")
    with pytest.raises(StorageUnavailable, match=f"{code} The server's words") as caught:
        USES[use](server.storage)
    assert caught.value.code == code
    assert not isinstance(caught.value, StorageFull)


@pytest.mark.parametrize("use", ["get", "stat", "read"])
def test_only_a_404_of_the_object_itself_says_that_it_is_missing(server: Server, use: str) -> None:
    with pytest.raises(ObjectMissing):
        USES[use](server.storage)
    server.odd = lambda method, key, headers: (404, {"Content-Type": "text/html"}, PAGE)
    with pytest.raises(StorageUnavailable):
        USES[use](server.storage)


@pytest.mark.parametrize(
    "full",
    [
        refusal(507, "Whatever"),
        refusal(403, "QuotaExceeded"),
        refusal(507, "XMinioStorageFull"),
        refusal(400, "XMinioAdminBucketQuotaExceeded"),
        refusal(403, "AccessDenied", "Forbidden: Bucket size quota is reached, maximum total size: 1"),
    ],
)
def test_a_storage_that_is_full_is_told_from_one_that_is_away(server: Server, full: Answer) -> None:
    server.odd = lambda method, key, headers: full if method == "PUT" else None
    with pytest.raises(StorageFull, match=r"^bucket bucket at http://127.0.0.1:\d+ is full: "):
        server.storage.put("jobs/1/file", b"x", "text/plain")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("page", [PAGE, PAGE + b"<br>", b"hello"], ids=["page", "torn", "text"])
def test_a_page_that_answers_200_is_not_believed(server: Server, use: str, page: bytes) -> None:
    server.odd = lambda method, key, headers: (200, {"Content-Type": "text/html"}, page)
    with pytest.raises(StorageUnavailable):
        USES[use](server.storage)


def test_a_bucket_that_lists_what_was_not_asked_for_keeps_it(server: Server) -> None:
    server.objects = {"jobs/1/file": b"x", "jobs/2/file": b"y"}
    for use in ("list", "delete_prefix"):
        with pytest.raises(StorageUnavailable, match="lists other objects"):
            USES[use](server.storage)
    assert len(server.objects) == 2


def test_a_server_without_ranges_gives_the_right_part(server: Server) -> None:
    data = server.objects["key"] = bytes(range(256)) * 4096
    assert b"".join(server.storage.read("key", 300_000, 900_000)) == data[300_000:900_000]
    assert b"".join(server.storage.read("key", 1_048_570)) == data[1_048_570:]


def test_another_range_than_the_one_asked_for_is_not_believed(server: Server) -> None:
    server.odd = lambda method, key, headers: (206, {"ETag": '"1"', "Content-Range": "bytes 0-1/9"}, b"01")
    with pytest.raises(StorageUnavailable, match="another range"):
        server.storage.read("key", 4, 6)


def wants_md5(method: str, key: str, headers: dict[str, str]) -> Answer | None:
    return refusal(400, "MissingContentMD5") if method == "BATCH" and "content-md5" not in headers else None


def takes_no_batch(method: str, key: str, headers: dict[str, str]) -> Answer | None:
    return refusal(501, "NotImplemented") if method == "BATCH" else None


@pytest.mark.parametrize(
    ("odd", "first", "then"),
    [
        (wants_md5, ["LIST", "BATCH", "BATCH"], ["LIST", "BATCH"]),
        (takes_no_batch, ["LIST", "BATCH", "BATCH", "DELETE", "DELETE"], ["LIST", "DELETE", "DELETE"]),
    ],
)
def test_a_batch_is_erased_as_the_server_wants_it_and_that_is_remembered(
    server: Server, odd: Callable[[str, str, dict[str, str]], Answer | None], first: list[str], then: list[str]
) -> None:
    server.odd, storage = odd, server.storage
    for requests in (first, then):
        server.objects = {"jobs/1/a": b"", "jobs/1/b": b""}
        server.seen.clear()
        storage.delete_prefix("jobs/1")
        assert server.objects == {}
        assert server.seen == requests


def test_credentials_that_ran_out_say_nothing_of_how_batches_are_wanted(server: Server) -> None:
    server.objects, storage = {"jobs/1/a": b""}, server.storage
    server.odd = lambda method, key, headers: refusal(400, "ExpiredToken") if method == "BATCH" else None
    with pytest.raises(StorageUnavailable):
        storage.delete_prefix("jobs/1")
    assert server.seen == ["LIST", "BATCH"]


def test_one_object_that_will_not_go_keeps_no_other(server: Server) -> None:
    server.objects = {"jobs/1/a": b"", "jobs/1/b": b"", "jobs/1/c": b""}

    def odd(method: str, key: str, headers: dict[str, str]) -> Answer | None:
        if method == "DELETE" and key == "jobs/1/a":
            return refusal(403, "ObjectLocked")
        return takes_no_batch(method, key, headers)

    server.odd = odd
    with pytest.raises(StorageUnavailable, match="ObjectLocked"):
        server.storage.delete_prefix("jobs/1")
    assert list(server.objects) == ["jobs/1/a"]


def test_an_error_within_a_batch_is_one(server: Server) -> None:
    server.objects = {"jobs/1/a": b""}
    failed = b"<Error><Key>jobs/1/a</Key><Code>AccessDenied</Code><Message>Held</Message></Error>"
    within = b"<DeleteResult>" + failed + b"</DeleteResult>"
    server.odd = lambda method, key, headers: (200, {}, within) if method == "BATCH" else None
    with pytest.raises(StorageUnavailable, match=r"jobs/1/a was not erased: AccessDenied Held"):
        server.storage.delete_prefix("jobs/1")


def test_what_says_that_it_erased_and_did_not_is_found_out(server: Server) -> None:
    prove(server.storage)
    assert server.objects == {}
    server.odd = lambda method, key, headers: (200, {}, b"<DeleteResult/>") if method == "BATCH" else None
    with pytest.raises(StorageUnavailable, match="still has it"):
        prove(server.storage)


def test_the_bucket_goes_where_the_setting_says(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real server, which knows buckets of this domain; only the name is looked up here."""
    lookup = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, *rest, **named: lookup(
            "127.0.0.1" if str(host).endswith("storage.test") else host, *rest, **named
        ),
    )
    settings = Settings.model_validate(s3_settings)
    endpoint = str(settings.storage_endpoint).replace("127.0.0.1", "storage.test")
    bucket = settings.storage_url.split("/")[2]
    for addressing, start in (
        ("virtual", endpoint.replace("//", f"//{bucket}.")),
        ("path", f"{endpoint}/{bucket}"),
        ("auto", f"{endpoint}/{bucket}"),
    ):
        changed = {"storage_endpoint": endpoint, "storage_addressing": addressing}
        storage = open_storage(settings.model_copy(update=changed), None)  # type: ignore[arg-type]
        storage.check()
        prove(storage)
        assert storage.sign_get("key", expires=60).startswith(start)


def test_a_server_that_wants_the_other_addressing_is_told_of(server: Server) -> None:
    server.odd = lambda method, key, headers: refusal(403, "SecondLevelDomainForbidden")
    with pytest.raises(StorageUnavailable, match="STORAGE_ADDRESSING=virtual"):
        server.storage.check()
