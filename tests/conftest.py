"""Fixtures shared by all tests: a real redis-server and a real S3 server of our own."""

from __future__ import annotations

import functools
import gc
import signal
import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.session
import hypothesis
import pytest
import redis

from trials.receiver import Receiver
from trials.servers import RedisProcess

pytest_plugins = ["tests.needs"]

# An example may take as long as a busy machine needs for it.
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")

# A session of boto3 reads the whole model of S3, a fifth of a second. All of this process share what one has read.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

# Whoever runs in the background may have been told to ignore it, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_FIRST = ("benchmarks", "chaos", "worker")
"""Folders whose files take long: begun last, one of them would be waited for alone."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Collect no garbage while tests are collected, nor ever after of what they have imported: most of it lasts."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long. Within a file, and among the rest, the order stays."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in _FIRST)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real redis-server that lives as long as the test session."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisProcess]:
    """A started redis-server of the test's own, which writes everything down before it answers."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisProcess(folder, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(
    request: pytest.FixtureRequest, redis_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """URL of the session's Redis, emptied, and a storage that remembers no database of another test.

    An API that serves many tests counts its requests when it comes to it, so it has a database to itself, which is
    given to the tests that use it.
    """
    monkeypatch.setenv("STORAGE_URL", str(tmp_path / "default-storage"))
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    if "shared_api" in request.fixturenames:
        return str(request.getfixturevalue("shared_api").settings.redis_url)
    return redis_server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings that reach a real S3 server (OpenStack Swift), which lives as long as the test session."""
    home = Path(__file__).parent / "s3"
    folder = tmp_path_factory.mktemp("s3")
    install = subprocess.run([sys.executable, home / "install.py"], stdout=subprocess.PIPE, text=True, check=True)
    command = [install.stdout.strip(), str(home / "server.py"), str(folder)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    endpoint = process.stdout.readline().strip()
    assert endpoint, (folder / "log").read_text()
    yield {"storage_endpoint": endpoint, "storage_access_key": "test:tester", "storage_secret_key": "testing"}
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="session")
def s3_client(s3_server: dict[str, str]) -> Iterator[S3Client]:
    """A plain client of the session's S3 server."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_server["storage_endpoint"],
        aws_access_key_id=s3_server["storage_access_key"],
        aws_secret_access_key=s3_server["storage_secret_key"],
        region_name="us-east-1",
    )
    yield client
    client.close()


@pytest.fixture
def s3_settings(s3_server: dict[str, str], s3_client: S3Client) -> dict[str, str]:
    """The settings of an S3 home in a fresh bucket: `ServiceSettings(**s3_settings)`, or capitalised an environment."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket)
    return {**s3_server, "storage_url": f"s3://{bucket}/home"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real HTTP server that callers' URLs can point to; FETCH_ALLOW_HOSTS must name 127.0.0.1 to reach it."""
    with Receiver.running() as server:
        yield server
