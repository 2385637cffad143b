"""Uploads ahead of a request: what is due goes, what is not stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.jobs.record import NewJob
from service.jobs.store import Jobs
from service.jobs.uploads import Uploads
from service.problems import Problem
from service.settings import ServiceSettings
from service.storage import Storage, StorageUnavailable, open_storage
from worker.keeper import Keeper


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(
        _env_file=None, redis_url=redis_url, storage_url=str(tmp_path / "storage"), signed_url_ttl=60
    )


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
def storage(settings: ServiceSettings, connection: redis.Redis) -> Storage:
    return open_storage(settings, connection)


def sent(uploads: Uploads, storage: Storage) -> str:
    """The id of an upload whose file has arrived."""
    upload = uploads.grant("ann", "image/png", 3)
    storage.put(f"uploads/{upload.id}", b"abc", "image/png")
    return upload.id


def test_an_upload_is_its_owners(settings: ServiceSettings, connection: redis.Redis, storage: Storage) -> None:
    uploads = Uploads(connection, storage, settings)
    name = sent(uploads, storage)
    assert uploads.read("ann", f"upload:{name}", "start") == b"abc"
    for owner, reference in (("bob", name), ("ann", "0" * 32), ("ann", "../x"), ("ann", "")):
        with pytest.raises(Problem) as refused:
            uploads.read(owner, f"upload:{reference}", "start")
        assert (refused.value.slug, refused.value.field) == ("upload-not-found", "start")


def test_a_file_of_another_size_is_not_used(
    settings: ServiceSettings, connection: redis.Redis, storage: Storage
) -> None:
    uploads = Uploads(connection, storage, settings)
    name = sent(uploads, storage)
    storage.put(f"uploads/{name}", b"abcd", "image/png")
    with pytest.raises(Problem) as refused:
        uploads.read("ann", f"upload:{name}", "start")
    assert refused.value.slug == "upload-mismatch"


def test_another_answer_than_the_file_is_the_storages_fault(
    settings: ServiceSettings, connection: redis.Redis, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(connection, storage, settings)
    name = sent(uploads, storage)
    monkeypatch.setattr(storage, "get", lambda key: b"<html>Sign in</html>")
    with pytest.raises(StorageUnavailable):
        uploads.read("ann", f"upload:{name}", "start")


def test_the_keeper_erases_uploads_whose_time_is_over(
    settings: ServiceSettings, connection: redis.Redis, storage: Storage
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


@pytest.mark.parametrize("limit", [{"max_uploads": 3}, {"max_uploads_bytes": 9}], ids=["count", "bytes"])
def test_an_owner_may_have_so_much_that_no_job_has_used(
    settings: ServiceSettings, connection: redis.Redis, storage: Storage, limit: dict[str, int]
) -> None:
    values = {"max_uploads": 0, "max_uploads_bytes": 0} | limit
    uploads = Uploads(connection, storage, settings.model_copy(update=values))
    names = [uploads.grant("ann", "image/png", 3).id for _ in range(3)]
    with pytest.raises(Problem) as refused:
        uploads.grant("ann", "image/png", 3)
    told = refused.value
    assert (told.status, told.slug) == (429, "too-many-uploads")
    assert (told.extra["unused"], told.extra["bytes"]) == (3, 9)
    assert 110 <= int(told.headers["Retry-After"]) <= 120, "when the first of them goes"
    assert len(uploads.grant("bob", "image/png", 3).id) == 32
    # A job takes what it uses out of the count; so does the end of its time.
    Jobs(connection, settings).submit(NewJob("ann", {}, [], "cpu", result_ttl=600, uploads=names[:1]))
    uploads.grant("ann", "image/png", 3)
    with pytest.raises(Problem):
        uploads.grant("ann", "image/png", 3)
    connection.hset("inbetween:unused-uploads:ann", names[1], "3 1")
    uploads.grant("ann", "image/png", 3)
    with pytest.raises(Problem):
        uploads.grant("ann", "image/png", 3)
    assert len(connection.zrange("inbetween:uploads", 0, -1)) == 6, "a refused one leaves nothing"


def test_any_number_is_any_number(settings: ServiceSettings, connection: redis.Redis, storage: Storage) -> None:
    values = {"max_uploads": 0, "max_uploads_bytes": 0}
    uploads = Uploads(connection, storage, settings.model_copy(update=values))
    assert len({uploads.grant("ann", "image/png", 3).id for _ in range(150)}) == 150
