"""What every home of files does: the same tests on a local folder and on a real S3 server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from service.settings import ServiceSettings
from service.storage import ObjectMissing, Storage, StorageUnavailable, open_storage

BIG = bytes(range(256)) * 4096  # 1 MiB, several pieces


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ServiceSettings:
    if request.param == "local":
        return ServiceSettings(storage_url=str(tmp_path / "home"))
    return ServiceSettings.model_validate(request.getfixturevalue("s3_settings"))


@pytest.fixture
def storage(settings: ServiceSettings, redis_url: str) -> Storage:
    return open_storage(settings, redis.Redis.from_url(redis_url))


def test_what_is_put_is_got(storage: Storage) -> None:
    storage.put("jobs/a/1/take-1.mp4", b"video", "video/mp4")
    assert storage.get("jobs/a/1/take-1.mp4") == b"video"


def test_a_file_is_put(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    storage.put("big", source, "application/zip")
    assert storage.get("big") == BIG
    assert storage.stat("big").size == len(BIG)


def test_a_missing_source_is_the_callers_error(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.put("key", tmp_path / "absent", "video/mp4")
    with pytest.raises(ObjectMissing):
        storage.stat("key")


def test_stat(storage: Storage) -> None:
    before = time.time()
    storage.put("key", b"four", "text/plain; charset=utf-8")
    stat = storage.stat("key")
    assert (stat.size, stat.content_type) == (4, "text/plain; charset=utf-8")
    assert before - 2 <= stat.modified <= time.time() + 2
    assert stat.etag
    assert '"' not in stat.etag


def test_putting_again_replaces(storage: Storage) -> None:
    storage.put("key", b"one", "text/plain")
    first = storage.stat("key")
    storage.put("key", b"second", "image/png")
    assert storage.get("key") == b"second"
    second = storage.stat("key")
    assert (second.size, second.content_type) == (6, "image/png")
    assert second.etag != first.etag


def test_an_empty_object(storage: Storage) -> None:
    storage.put("empty", b"", "text/plain")
    assert storage.get("empty") == b""
    assert storage.stat("empty").size == 0
    assert list(storage.read("empty")) == []
    assert list(storage.read("empty", 0, 10)) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (0, 1), (1, 5), (1000, None), (300_000, 800_000), (len(BIG) - 1, None), (5, 5), (9, 3)],
)
def test_read_gives_the_range(storage: Storage, start: int, end: int | None) -> None:
    storage.put("big", BIG, "application/zip")
    assert b"".join(storage.read("big", start, end)) == BIG[start:end]


def test_read_leaves_out_what_lies_past_the_end(storage: Storage) -> None:
    storage.put("key", b"0123456789", "text/plain")
    assert b"".join(storage.read("key", 8, 100)) == b"89"
    assert list(storage.read("key", 10)) == []
    assert list(storage.read("key", 11, 20)) == []


def test_read_comes_in_pieces(storage: Storage) -> None:
    storage.put("big", BIG, "application/zip")
    assert len(list(storage.read("big"))) > 1


def test_a_missing_object(storage: Storage) -> None:
    storage.put("folder/key", b"", "text/plain")
    for key in ("absent", "folder", "folder/absent", "folder/key/below"):
        with pytest.raises(ObjectMissing, match=key):
            storage.get(key)
        with pytest.raises(ObjectMissing, match=key):
            storage.stat(key)
        with pytest.raises(ObjectMissing, match=key):
            storage.read(key)
        with pytest.raises(ObjectMissing, match=key):
            storage.read(key, 5, 2)


def test_list_is_in_byte_order_of_keys(storage: Storage) -> None:
    keys = ["a", "b-1/x", "b.1", "b/x", "b/y/z", "b0", "c"]
    for key in reversed(keys):
        storage.put(key, b"", "text/plain")
    assert list(storage.list("")) == sorted(keys)


def test_list_sees_one_folder_alone(storage: Storage) -> None:
    for key in ("jobs/1/a", "jobs/1/2/b", "jobs/10/c", "jobs/1.txt", "other"):
        storage.put(key, b"", "text/plain")
    assert list(storage.list("jobs/1")) == ["jobs/1/2/b", "jobs/1/a"]
    assert list(storage.list("jobs/1/")) == ["jobs/1/2/b", "jobs/1/a"]
    assert list(storage.list("absent")) == []
    assert list(storage.list("other")) == []


def test_delete(storage: Storage) -> None:
    storage.put("jobs/1/a", b"", "text/plain")
    storage.put("jobs/1/b", b"", "text/plain")
    storage.delete("jobs/1/a")
    assert list(storage.list("")) == ["jobs/1/b"]
    storage.delete("jobs/1/a")
    storage.delete("jobs/1")
    storage.delete("nowhere/at/all")
    assert storage.get("jobs/1/b") == b""


def test_a_deleted_key_can_be_put_again(storage: Storage) -> None:
    storage.put("a/b/c", b"one", "image/png")
    storage.delete("a/b/c")
    storage.put("a", b"two", "text/plain")
    assert storage.stat("a").content_type == "text/plain"


def test_delete_prefix_removes_one_folder_alone(storage: Storage) -> None:
    keys = ["jobs/1", "jobs/10/a", "jobs/1a", "uploads/1/a"]
    for key in [*keys[1:], "jobs/1/a", "jobs/1/2/b", "jobs/1/2/c"]:
        storage.put(key, b"", "text/plain")
    storage.delete_prefix("jobs/1")
    assert list(storage.list("")) == keys[1:]
    storage.put("jobs/1", b"", "text/plain")
    storage.delete_prefix("jobs/1/")
    storage.delete_prefix("jobs/absent")
    assert list(storage.list("")) == keys


def test_delete_prefix_of_many(storage: Storage) -> None:
    names = [f"jobs/1/frame-{n:04d}.jpg" for n in range(12)]
    for name in names:
        storage.put(name, b"", "image/jpeg")
    assert list(storage.list("jobs")) == names
    storage.delete_prefix("jobs/1")
    assert list(storage.list("")) == []


MALFORMED = [
    *("", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/.b", "a..b", "a b", "a\\b", "a\0b", "a\n", "é"),
    *("%2e%2e/a", "a?b", "a:b", "x" * 201, "x/" * 400 + "x"),
]


def test_a_malformed_key_is_refused_everywhere(storage: Storage) -> None:
    uses: list[Callable[[str], object]] = [
        lambda key: storage.put(key, b"", "text/plain"),
        storage.get,
        storage.stat,
        storage.read,
        storage.delete,
        lambda key: storage.sign_get(key, expires=60),
        lambda key: storage.sign_put(key, size=1, content_type="text/plain", expires=60),
    ]
    for key in MALFORMED:
        for use in uses:
            with pytest.raises(ValueError, match="is no storage key"):
                use(key)


def test_a_malformed_prefix_is_refused(storage: Storage) -> None:
    for prefix in ("..", "../a", "a/..", "a//b/", "/a", "a b"):
        with pytest.raises(ValueError, match="is no storage key"):
            storage.delete_prefix(prefix)
        with pytest.raises(ValueError, match="is no storage key"):
            storage.list(prefix)


def test_delete_prefix_never_takes_everything(storage: Storage) -> None:
    storage.put("key", b"", "text/plain")
    with pytest.raises(ValueError, match="needs a folder"):
        storage.delete_prefix("")
    assert list(storage.list("")) == ["key"]


def test_a_malformed_content_type_is_refused(storage: Storage) -> None:
    for content_type in ("", "png", "image/png\r\nX: y", "image/", "a/b; c", "image/é"):
        with pytest.raises(ValueError, match="is no content type"):
            storage.put("key", b"", content_type)
        with pytest.raises(ValueError, match="is no content type"):
            storage.sign_get("key", content_type=content_type, expires=60)
        with pytest.raises(ValueError, match="is no content type"):
            storage.sign_put("key", size=1, content_type=content_type, expires=60)


def test_a_malformed_filename_is_refused(storage: Storage) -> None:
    for filename in ("", 'a"b', "a\r\nb", "../a", "é"):
        with pytest.raises(ValueError, match="is no plain file name"):
            storage.sign_get("key", expires=60, filename=filename)


def test_a_reader_never_sees_a_part(storage: Storage) -> None:
    versions = [bytes([n]) * 300_000 for n in range(6)]
    storage.put("key", versions[0], "text/plain")
    stop = threading.Event()
    seen: set[bytes] = set()

    def look() -> None:
        while not stop.is_set():
            seen.add(storage.get("key"))

    reader = threading.Thread(target=look)
    reader.start()
    for version in versions[1:]:
        storage.put("key", version, "text/plain")
    stop.set()
    reader.join()
    assert seen <= set(versions)


def test_check_is_content(storage: Storage) -> None:
    storage.check()
    assert list(storage.list("")) == []


@pytest.mark.parametrize("url", ["s3://", "s3://B/x", "s3://bucket/../x", "ftp://host/x", "s3:///x"])
def test_a_url_that_names_no_home_is_refused(url: str) -> None:
    with pytest.raises(StorageUnavailable, match=r"STORAGE_URL|storage settings"):
        open_storage(ServiceSettings(storage_url=url), redis.Redis())
