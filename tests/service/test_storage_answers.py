"""Answers that no good S3 server gives, from a small one of our own: none is taken for what it is not."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from service.settings import ServiceSettings
from service.storage import ObjectMissing, StorageFull, StorageUnavailable, open_storage, prove
from service.storage.s3 import S3Storage
from tests.odd_s3 import Answer, OddS3, refusal, serving

PAGE = b"<html><head><title>Welcome</title></head><body>Log in first</body></html>"


@pytest.fixture
def server() -> Iterator[OddS3]:
    with serving() as server:
        yield server


def home(server: OddS3) -> S3Storage:
    return S3Storage("bucket", endpoint=server.endpoint, credentials=("a", "b"), attempts=1)


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
def test_any_refusal_is_an_outage_with_the_servers_own_words(server: OddS3, use: str, status: int, code: str) -> None:
    server.objects["jobs/1/file"] = b"x"
    server.odd = lambda method, key, headers: refusal(status, code, "The server's words")
    with pytest.raises(StorageUnavailable, match=f"{code} The server's words") as caught:
        USES[use](home(server))
    assert caught.value.code == code
    assert not isinstance(caught.value, StorageFull)


@pytest.mark.parametrize("use", ["get", "stat", "read"])
def test_only_a_404_of_the_object_itself_says_that_it_is_missing(server: OddS3, use: str) -> None:
    with pytest.raises(ObjectMissing):
        USES[use](home(server))
    server.odd = lambda method, key, headers: (404, {"Content-Type": "text/html"}, PAGE)
    with pytest.raises(StorageUnavailable):
        USES[use](home(server))


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
def test_a_storage_that_is_full_is_told_from_one_that_is_away(server: OddS3, full: Answer) -> None:
    server.odd = lambda method, key, headers: full if method == "PUT" else None
    with pytest.raises(StorageFull, match=r"^bucket bucket at http://127.0.0.1:\d+ is full: "):
        home(server).put("jobs/1/file", b"x", "text/plain")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("page", [PAGE, PAGE + b"<br>", b"hello"], ids=["page", "torn", "text"])
def test_a_page_that_answers_200_is_not_believed(server: OddS3, use: str, page: bytes) -> None:
    server.odd = lambda method, key, headers: (200, {"Content-Type": "text/html"}, page)
    with pytest.raises(StorageUnavailable):
        USES[use](home(server))


NO_OBJECT: Answer = (200, {"Content-Type": "text/html"}, PAGE)
ANOTHER_RANGE: Answer = (206, {"ETag": '"1"', "Content-Range": "bytes 7-8/9"}, b"01")


@pytest.mark.parametrize(
    ("use", "answer"),
    [("get", NO_OBJECT), ("read", NO_OBJECT), ("read a part", NO_OBJECT), ("read a part", ANOTHER_RANGE)],
    ids=["get", "read", "read a part", "another range"],
)
def test_an_answer_that_is_not_believed_leaves_no_connection_open(server: OddS3, use: str, answer: Answer) -> None:
    server.odd = lambda method, key, headers: answer
    with pytest.raises(StorageUnavailable) as caught:
        USES[use](home(server))
    assert server.left.wait(30)
    assert caught.tb  # keeps alive what the call has left behind


def test_a_bucket_that_lists_what_was_not_asked_for_keeps_it(server: OddS3) -> None:
    server.objects = {"jobs/1/file": b"x", "jobs/2/file": b"y"}
    for use in ("list", "delete_prefix"):
        with pytest.raises(StorageUnavailable, match="lists other objects"):
            USES[use](home(server))
    assert len(server.objects) == 2


def test_a_server_without_ranges_gives_the_right_part(server: OddS3) -> None:
    data = server.objects["key"] = bytes(range(256)) * 4096
    assert b"".join(home(server).read("key", 300_000, 900_000)) == data[300_000:900_000]
    assert b"".join(home(server).read("key", 1_048_570)) == data[1_048_570:]


def test_another_range_than_the_one_asked_for_is_not_believed(server: OddS3) -> None:
    server.odd = lambda method, key, headers: (206, {"ETag": '"1"', "Content-Range": "bytes 0-1/9"}, b"01")
    with pytest.raises(StorageUnavailable, match="another range"):
        home(server).read("key", 4, 6)


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
    server: OddS3, odd: Callable[[str, str, dict[str, str]], Answer | None], first: list[str], then: list[str]
) -> None:
    server.odd, storage = odd, home(server)
    for requests in (first, then):
        server.objects = {"jobs/1/a": b"", "jobs/1/b": b""}
        server.seen.clear()
        storage.delete_prefix("jobs/1")
        assert server.objects == {}
        assert server.seen == requests


def test_credentials_that_ran_out_say_nothing_of_how_batches_are_wanted(server: OddS3) -> None:
    server.objects, storage = {"jobs/1/a": b""}, home(server)
    server.odd = lambda method, key, headers: refusal(400, "ExpiredToken") if method == "BATCH" else None
    with pytest.raises(StorageUnavailable):
        storage.delete_prefix("jobs/1")
    assert server.seen == ["LIST", "BATCH"]


def test_one_object_that_will_not_go_keeps_no_other(server: OddS3) -> None:
    server.objects = {"jobs/1/a": b"", "jobs/1/b": b"", "jobs/1/c": b""}

    def odd(method: str, key: str, headers: dict[str, str]) -> Answer | None:
        if method == "DELETE" and key == "jobs/1/a":
            return refusal(403, "ObjectLocked")
        return takes_no_batch(method, key, headers)

    server.odd = odd
    with pytest.raises(StorageUnavailable, match="ObjectLocked"):
        home(server).delete_prefix("jobs/1")
    assert list(server.objects) == ["jobs/1/a"]


def test_an_error_within_a_batch_is_one(server: OddS3) -> None:
    server.objects = {"jobs/1/a": b""}
    failed = b"<Error><Key>jobs/1/a</Key><Code>AccessDenied</Code><Message>Held</Message></Error>"
    within = b"<DeleteResult>" + failed + b"</DeleteResult>"
    server.odd = lambda method, key, headers: (200, {}, within) if method == "BATCH" else None
    with pytest.raises(StorageUnavailable, match=r"jobs/1/a was not erased: AccessDenied Held"):
        home(server).delete_prefix("jobs/1")


def test_what_says_that_it_erased_and_did_not_is_found_out(server: OddS3) -> None:
    prove(home(server))
    assert server.objects == {}
    server.odd = lambda method, key, headers: (200, {}, b"<DeleteResult/>") if method == "BATCH" else None
    with pytest.raises(StorageUnavailable, match="still has it"):
        prove(home(server))


def test_the_bucket_goes_where_the_setting_says(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real server, which knows buckets of this domain; only the name is looked up here."""
    lookup = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, *rest, **named: lookup(
            "127.0.0.1" if str(host).endswith("storage.test") else host, *rest, **named
        ),
    )
    settings = ServiceSettings.model_validate(s3_settings)
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


def test_a_server_that_wants_the_other_addressing_is_told_of(server: OddS3) -> None:
    server.odd = lambda method, key, headers: refusal(403, "SecondLevelDomainForbidden")
    with pytest.raises(StorageUnavailable, match="STORAGE_ADDRESSING=virtual"):
        home(server).check()


def test_a_start_asks_a_busy_storage_twice(server: OddS3) -> None:
    """One that is away is told after that."""
    busy = ["HEAD", "LIST"]

    def once(action: str, key: str, headers: dict[str, str]) -> Answer | None:
        if action not in busy:
            return None
        busy.remove(action)
        return refusal(503, "SlowDown")

    server.odd = once
    storage = S3Storage("bucket", endpoint=server.endpoint, credentials=("a", "b"))
    storage.check()
    assert server.seen == ["HEAD", "HEAD", "LIST", "LIST"]
    server.odd = lambda action, key, headers: refusal(503, "SlowDown")
    with pytest.raises(StorageUnavailable):
        storage.check()
