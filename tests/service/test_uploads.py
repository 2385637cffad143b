"""Uploads ahead of a request: what is due goes, what is not stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.errors import Problem
from service.jobs import Jobs
from service.settings import Settings
from service.storage import Storage, open_storage
from service.uploads import Uploads
from worker.keeper import Keeper


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(_env_file=None, redis_url=redis_url, storage_url=str(tmp_path / "storage"), signed_url_ttl=60)


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
def storage(settings: Settings, connection: redis.Redis) -> Storage:
    return open_storage(settings, connection)


def sent(uploads: Uploads, storage: Storage) -> str:
    """The id of an upload whose file has arrived."""
    upload = uploads.grant("ann", "image/png", 3)
    storage.put(f"uploads/{upload.id}", b"abc", "image/png")
    return upload.id


def test_an_upload_is_its_owners(settings: Settings, connection: redis.Redis, storage: Storage) -> None:
    uploads = Uploads(connection, storage, settings)
    name = sent(uploads, storage)
    assert uploads.read("ann", f"upload:{name}", "start") == b"abc"
    for owner, reference in (("bob", name), ("ann", "0" * 32), ("ann", "../x"), ("ann", "")):
        with pytest.raises(Problem) as refused:
            uploads.read(owner, f"upload:{reference}", "start")
        assert (refused.value.slug, refused.value.field) == ("upload-not-found", "start")


def test_a_file_of_another_size_is_not_used(settings: Settings, connection: redis.Redis, storage: Storage) -> None:
    uploads = Uploads(connection, storage, settings)
    name = sent(uploads, storage)
    storage.put(f"uploads/{name}", b"abcd", "image/png")
    with pytest.raises(Problem) as refused:
        uploads.read("ann", f"upload:{name}", "start")
    assert refused.value.slug == "upload-mismatch"


def test_the_keeper_erases_uploads_whose_time_is_over(
    settings: Settings, connection: redis.Redis, storage: Storage
) -> None:
    uploads = Uploads(connection, storage, settings)
    old, new = sent(uploads, storage), sent(uploads, storage)
    connection.zadd("inbetween:uploads", {old: time.time() - 61})
    keeper = Keeper(Jobs(connection, settings), storage)
    assert keeper.sweep()
    keeper.wait(30)
    assert list(storage.list("uploads")) == [f"uploads/{new}"]
    assert connection.zrange("inbetween:uploads", 0, -1) == [new.encode()]
    keeper.close()
