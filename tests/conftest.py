"""Fixtures shared by all tests: a real redis-server and a real S3 server of our own."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import redis
from tenacity import retry, stop_after_delay, wait_fixed

from server.up import redis_executable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisProcess:
    """A real redis-server on a port of its own, which may be killed and started again with all it had written."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command = [redis_executable(), *where, "--save", "", *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

        @retry(stop=stop_after_delay(10), wait=wait_fixed(0.02), reraise=True)
        def ready() -> None:
            with redis.Redis.from_url(self.url) as client:
                client.ping()

        ready()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


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
def redis_url(redis_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of the session's Redis, emptied, and a storage that remembers no database of another test."""
    monkeypatch.setenv("STORAGE_URL", str(tmp_path / "default-storage"))
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
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
    """The settings of an S3 home in a fresh bucket: `Settings(**s3_settings)`, or capitalised an environment."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket)
    return {**s3_server, "storage_url": f"s3://{bucket}/home"}


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver(ThreadingHTTPServer):
    """A real HTTP server on loopback that remembers what it receives.

    answers: (status, headers, body) in the order they are given; the last one is given for ever.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {"content-type": "image/png"}, b"picture")]
        self.received: list[Received] = []
        self._arrived = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, request: Received) -> tuple[int, dict[str, str], bytes]:
        with self._arrived:
            self.received.append(request)
            self._arrived.notify_all()
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def wait_for(self, count: int, timeout: float = 60) -> list[Received]:
        """What has been received, once it is `count` requests."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received) >= count, timeout), self.received
            return list(self.received)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hangs up early is no error here."""


class _Receive(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        status, sent, content = self.server.take(Received(self.command, self.path, headers, body))
        self.send_response(status)
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real HTTP server that callers' URLs can point to; FETCH_ALLOW_HOSTS must name 127.0.0.1 to reach it."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
