"""What only S3 can get wrong: presigned URLs against a real server, and endpoints that refuse or do not answer."""

from __future__ import annotations

import datetime
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import botocore.auth
import httpx
import pytest
import redis
from pydantic import SecretStr

from service.settings import ServiceSettings
from service.storage import Storage, StorageUnavailable, open_storage
from service.storage.s3 import S3Storage

BODY = b"0123456789"


@pytest.fixture
def settings(s3_settings: dict[str, str]) -> ServiceSettings:
    return ServiceSettings.model_validate(s3_settings)


@pytest.fixture
def storage(settings: ServiceSettings) -> Storage:
    return open_storage(settings, redis.Redis())


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def stored(storage: Storage) -> str:
    storage.put("jobs/1/take-1.mp4", BODY, "video/mp4")
    return "jobs/1/take-1.mp4"


def altered(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return parts._replace(query=urlencode({**query, **changes})).geturl()


def an_hour_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: past.replace(tzinfo=None))


def test_a_signed_url_reads(storage: Storage, stored: str, http: httpx.Client) -> None:
    answer = http.get(storage.sign_get(stored, expires=60))
    assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["content-type"] == "video/mp4"
    assert "content-disposition" not in answer.headers


def test_a_signed_url_names_the_file(storage: Storage, stored: str, http: httpx.Client) -> None:
    answer = http.get(storage.sign_get(stored, expires=60, filename="my take.mp4", content_type="video/webm"))
    assert answer.headers["content-disposition"] == 'attachment; filename="my take.mp4"'
    assert answer.headers["content-type"] == "video/webm"


@pytest.mark.parametrize(
    ("range_", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, None),
    ],
)
def test_a_signed_url_takes_ranges(
    storage: Storage,
    stored: str,
    http: httpx.Client,
    range_: str,
    status: int,
    body: bytes | None,
    content_range: str | None,
) -> None:
    answer = http.get(storage.sign_get(stored, expires=60), headers={"Range": range_})
    assert answer.status_code == status
    if body is not None:
        assert answer.content == body
        assert answer.headers["content-range"] == content_range


def test_a_signed_url_to_nothing_is_404(storage: Storage, http: httpx.Client) -> None:
    assert http.get(storage.sign_get("absent", expires=60)).status_code == 404


def test_an_expired_url_is_refused(
    storage: Storage, stored: str, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_hour_ago(monkeypatch)
    assert http.get(storage.sign_get(stored, expires=3599)).status_code == 403
    assert http.get(storage.sign_get(stored, expires=7200)).status_code == 200
    put = storage.sign_put("uploads/1", size=3, content_type="image/png", expires=3599)
    assert http.put(put, content=b"abc", headers={"Content-Type": "image/png"}).status_code == 403


def test_a_tampered_url_is_refused(storage: Storage, stored: str, http: httpx.Client) -> None:
    storage.put("jobs/2/take-1.mp4", b"another's", "video/mp4")
    url = storage.sign_get(stored, expires=60)
    signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    for bad in (
        url.replace("jobs/1/", "jobs/2/"),
        altered(url, **{"X-Amz-Expires": "6000"}),
        altered(url, **{"X-Amz-Signature": flipped}),
        altered(url, **{"X-Amz-Signature": ""}),
        altered(url, **{"response-content-type": "text/html"}),
        altered(url, **{"X-Amz-Credential": "test:other/20200101/us-east-1/s3/aws4_request"}),
    ):
        answer = http.get(bad)
        assert answer.status_code in (400, 403), bad
        assert BODY not in answer.content
    assert http.get(url.partition("?")[0]).status_code in (400, 403)


def test_a_url_signed_with_a_wrong_secret_is_refused(
    settings: ServiceSettings, stored: str, http: httpx.Client
) -> None:
    forger = open_storage(settings.model_copy(update={"storage_secret_key": SecretStr("guessed")}), redis.Redis())
    assert http.get(forger.sign_get(stored, expires=60)).status_code == 403


def test_a_url_to_read_does_nothing_else(storage: Storage, stored: str, http: httpx.Client) -> None:
    url = storage.sign_get(stored, expires=60)
    assert http.put(url, content=b"x").status_code == 403
    assert http.delete(url).status_code == 403
    assert storage.get(stored) == BODY


def test_a_signed_put_stores(storage: Storage, http: httpx.Client) -> None:
    url = storage.sign_put("uploads/1", size=3, content_type="image/png", expires=60)
    assert http.put(url, content=b"abc", headers={"Content-Type": "image/png"}).status_code == 200
    assert storage.get("uploads/1") == b"abc"
    assert storage.stat("uploads/1").content_type == "image/png"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"abcd", {"Content-Type": "image/png"}),
        (b"ab", {"Content-Type": "image/png"}),
        (b"", {"Content-Type": "image/png"}),
        (b"abc", {"Content-Type": "text/html"}),
        (b"abc", {}),
        (iter([b"abc"]), {"Content-Type": "image/png"}),
    ],
    ids=["longer", "shorter", "empty", "other type", "no type", "chunked"],
)
def test_a_signed_put_takes_exactly_what_was_signed(
    storage: Storage, http: httpx.Client, body: bytes, headers: dict[str, str]
) -> None:
    url = storage.sign_put("uploads/1", size=3, content_type="image/png", expires=60)
    assert http.put(url, content=body, headers=headers).status_code == 403
    assert list(storage.list("uploads")) == []


def test_a_signed_put_does_nothing_else(storage: Storage, stored: str, http: httpx.Client) -> None:
    url = storage.sign_put(stored, size=3, content_type="image/png", expires=60)
    assert http.get(url).status_code == 403
    assert http.delete(url).status_code == 403
    moved = url.replace("take-1.mp4", "take-2.mp4")
    assert http.put(moved, content=b"abc", headers={"Content-Type": "image/png"}).status_code == 403


def test_urls_are_signed_for_the_public_endpoint(settings: ServiceSettings, stored: str, http: httpx.Client) -> None:
    public = str(settings.storage_endpoint).replace("127.0.0.1", "localhost")
    storage = open_storage(settings.model_copy(update={"storage_public_endpoint": public}), redis.Redis())
    url = storage.sign_get(stored, expires=60)
    assert url.startswith(public)
    assert http.get(url).content == BODY
    assert http.get(url.replace("localhost", "127.0.0.1")).status_code == 403
    assert storage.get(stored) == BODY


def test_keys_lie_below_the_prefix(settings: ServiceSettings, storage: Storage, stored: str) -> None:
    bucket = settings.storage_url.split("/")[2]
    whole = open_storage(settings.model_copy(update={"storage_url": f"s3://{bucket}"}), redis.Redis())
    assert list(whole.list("")) == [f"home/{stored}"]
    other = open_storage(settings.model_copy(update={"storage_url": f"s3://{bucket}/ho"}), redis.Redis())
    assert list(other.list("")) == []
    other.delete_prefix("jobs")
    assert storage.get(stored) == BODY


def test_listing_and_deleting_go_over_several_pages(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.storage.s3._BATCH", 2)
    names = [f"jobs/1/{n}" for n in range(5)]
    for name in [*names, "kept"]:
        storage.put(name, b"", "text/plain")
    assert list(storage.list("jobs/1")) == names
    storage.delete_prefix("jobs/1")
    assert list(storage.list("")) == ["kept"]


def every_use(storage: Storage, tmp_path: Path) -> Iterator[StorageUnavailable]:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for use in (
        storage.check,
        lambda: storage.put("key", b"x", "text/plain"),
        lambda: storage.put("key", source, "text/plain"),
        lambda: storage.get("key"),
        lambda: storage.stat("key"),
        lambda: storage.read("key"),
        lambda: list(storage.list("")),
        lambda: storage.delete("key"),
        lambda: storage.delete_prefix("key"),
    ):
        with pytest.raises(StorageUnavailable) as caught:
            use()
        yield caught.value


def test_an_endpoint_that_is_not_there(settings: ServiceSettings, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        storage = open_storage(settings.model_copy(update={"storage_endpoint": endpoint}), redis.Redis())
        with pytest.raises(StorageUnavailable, match=rf"^bucket \S+ at {endpoint} does not answer: .*$"):
            storage.check()
        with pytest.raises(StorageUnavailable, match=rf"^bucket \S+ at {endpoint} does not answer: .*$"):
            storage.get("key")


def test_an_endpoint_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        storage = S3Storage("bucket", endpoint=endpoint, credentials=("a", "b"), timeout=0.1)
        with pytest.raises(StorageUnavailable, match=rf"^bucket bucket at {endpoint} does not answer: .*$"):
            storage.check()


def test_a_wrong_region_is_named(settings: ServiceSettings) -> None:
    storage = open_storage(settings.model_copy(update={"storage_region": "elsewhere"}), redis.Redis())
    with pytest.raises(StorageUnavailable, match="is STORAGE_REGION right"):
        storage.check()


def test_a_bucket_that_is_not_there(settings: ServiceSettings, tmp_path: Path) -> None:
    missing = settings.model_copy(update={"storage_url": "s3://missing/x"})
    storage = open_storage(missing, redis.Redis())
    with pytest.raises(StorageUnavailable, match="does not exist: create the bucket, or correct STORAGE_URL"):
        storage.check()
    for error in every_use(storage, tmp_path):
        assert "bucket missing at http" in str(error)
        assert "\n" not in str(error)


def test_credentials_that_are_wrong(settings: ServiceSettings, tmp_path: Path) -> None:
    wrong = settings.model_copy(update={"storage_secret_key": SecretStr("not-the-secret")})
    for error in every_use(open_storage(wrong, redis.Redis()), tmp_path):
        assert "refuses these credentials" in str(error)
        assert "not-the-secret" not in str(error)


def test_half_a_pair_of_credentials(settings: ServiceSettings) -> None:
    with pytest.raises(StorageUnavailable, match="set both or neither"):
        open_storage(settings.model_copy(update={"storage_secret_key": None}), redis.Redis())


def test_no_credentials(settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    update = {"storage_access_key": None, "storage_secret_key": None}
    storage = open_storage(settings.model_copy(update=update), redis.Redis())
    with pytest.raises(StorageUnavailable, match="no credentials; set STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY"):
        storage.check()
    with pytest.raises(StorageUnavailable, match="no credentials"):
        storage.sign_get("key", expires=60)


def test_an_answer_cut_short_is_no_short_object() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Promises ten bytes and sends four, of an object as a good server names it.
        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(
                        b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfour'
                    )

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        storage = S3Storage("bucket", endpoint=endpoint, credentials=("a", "b"))
        with pytest.raises(StorageUnavailable, match=r"does not answer: .*4 (bytes )?read"):
            storage.get("key")
        with pytest.raises(StorageUnavailable, match=r"does not answer: .*4 (bytes )?read"):
            list(storage.read("key"))
        thread.join()
