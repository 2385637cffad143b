"""The restore of docs/operate.md, done: a snapshot into an empty server, `database show`, `adopt`, and work goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.database.identity import Database, DatabaseUnknown
from service.jobs.record import Job, NewJob, State
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import Storage, open_storage
from tests.redis.servers import until
from trials.servers import RedisProcess
from worker.process import exit_codes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def opened(url: str, folder: Path) -> tuple[redis.Redis, ServiceSettings, Storage, Database]:
    settings = ServiceSettings(_env_file=None, redis_url=url, storage_url=str(folder))
    connection = redis.Redis.from_url(url)
    storage = open_storage(settings, connection)
    return connection, settings, storage, Database(connection, settings, lambda: storage)


def server(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REDIS_URL": url, "STORAGE_URL": str(folder)}
    command = [sys.executable, "-m", "server.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def restored(redis_process: RedisProcess, folder: Path, tmp_path: Path) -> Iterator[tuple[str, Job, Job, str]]:
    """A server restored from a snapshot; a job done and one queued in it, and the id of one accepted afterwards."""
    connection, settings, storage, database = opened(redis_process.url, folder)
    jobs = Jobs(connection, settings, database)

    def submitted() -> Job:
        new = NewJob("ann", {"method": "flow"}, [], "cpu", result_ttl=600)
        storage.put(f"jobs/{new.id}/keyframes/0.png", b"png", "image/png")
        return jobs.submit(new)

    done, queued = submitted(), submitted()
    jobs.start(done.id, 1, "horse")
    storage.put(f"jobs/{done.id}/1/take-1.mp4", b"film", "video/mp4")
    jobs.succeed(done.id, 1, {"attempt": 1, "files": [{"name": "take-1.mp4"}]})
    connection.save()
    snapshot = tmp_path / "dump.rdb"
    shutil.copy(tmp_path / "redis" / "dump.rdb", snapshot)
    for _ in range(5):  # minutes later
        connection.hset("inbetween:database", "began", 0)
        database.beat()
    later = submitted()
    connection.close()
    redis_process.kill()

    area = tmp_path / "restored"
    area.mkdir()
    shutil.copy(snapshot, area / "dump.rdb")
    loading = RedisProcess(area, "--appendonly", "no")
    loading.start()
    with redis.Redis.from_url(loading.url) as fresh:
        fresh.config_set("appendonly", "yes")
        until("it is written anew", lambda: not fresh.info("persistence")["aof_rewrite_in_progress"])
    loading.kill()
    running = RedisProcess(area, "--appendonly", "yes", "--appendfsync", "always")
    running.start()
    yield running.url, done, queued, later.id
    running.kill()


def test_the_procedure_of_the_page(restored: tuple[str, Job, Job, str], folder: Path) -> None:
    url, done, queued, later = restored
    connection, settings, storage, database = opened(url, folder)
    jobs = Jobs(connection, settings, database)
    with pytest.raises(DatabaseUnknown, match="older"):
        jobs.start(queued.id, 1, "horse")
    shown = server(url, folder, "database", "show")
    assert shown.returncode == exit_codes.UNAVAILABLE
    assert "older than what storage knows" in shown.stderr
    assert "database adopt" in shown.stderr
    adopted = server(url, folder, "database", "adopt")
    assert adopted.returncode == 0, adopted.stderr
    assert "0 jobs expired" in adopted.stdout
    assert server(url, folder, "database", "show").returncode == 0
    until("it is known here too", lambda: database.known)
    found = jobs.get(done.id)
    assert found is not None
    assert found.state is State.succeeded
    assert jobs.start(queued.id, 1, "horse").state is State.running
    assert jobs.get(later) is None
    assert list(storage.list(f"jobs/{later}")) == [f"jobs/{later}/keyframes/0.png"]
    connection.close()


def test_showing_changes_nothing(redis_url: str, tmp_path: Path) -> None:
    shown = server(redis_url, tmp_path / "storage", "database", "show")
    assert shown.returncode == 0
    assert "new database" in shown.stdout
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.keys("inbetween:database") == []
