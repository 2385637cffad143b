"""The ACL of docs/operate.md: a whole job passes under it, on the oldest Redis, a recent one and Valkey; no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from server.up import redis_executable
from tests.redis.conftest import ROOT, Open
from tests.redis.servers import DURABLE, RedisServer, executable, oldest

OPERATE = ROOT / "docs" / "operate.md"
PASSWORD = "sesame"
NEW = {"client|setinfo", "client"}
"""redis-py's own greeting, without which it does; Redis knows it from 7.2 on, and 6.2 calls it by its first word."""
REFUSED: list[tuple[Any, ...]] = [
    ("GET", "another"),
    ("SET", "another", "1"),
    ("EVAL", "return redis.call('GET', 'another')", 0),
    ("EVAL", "return redis.call('FLUSHALL')", 0),
    ("PUBLISH", "another", "1"),
    ("SUBSCRIBE", "another"),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("MONITOR",),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SCRIPT", "FLUSH"),
    ("REPLICAOF", "NO", "ONE"),
    ("SHUTDOWN",),
    ("SAVE",),
    ("MIGRATE", "127.0.0.1", "1", "another", "0", "1"),
]


@contextmanager
def guarded(folder: Path, program: str) -> Iterator[RedisServer]:
    """A server with the page's ACL file, and somebody beside it who may do anything."""
    (lines,) = re.findall(r"```acl\n(.*?)```", OPERATE.read_text(), re.S)
    assert "PASSWORD" in lines
    folder.mkdir()
    file = folder / "users.acl"
    file.write_text(" ".join(lines.replace("PASSWORD", PASSWORD).split("\\\n")) + "user root on >root ~* &* +@all\n")
    server = RedisServer(
        folder / "redis", *DURABLE, "--aclfile", str(file), program=program, username="root", password="root"
    )
    server.start()
    try:
        yield server
    finally:
        server.kill()


def test_the_list_has_every_command_of_the_scripts() -> None:
    """Those too that no job needs, such as an engine's of a model."""
    sources = [path for folder in ("service", "worker", "server") for path in (ROOT / folder).rglob("*.[lp][uy]*")]
    sources = [path for path in sources if path.suffix in (".lua", ".py")]
    called = {name.lower() for path in sources for name in re.findall(r"redis\.p?call\('(\w+)'", path.read_text())}
    (lines,) = re.findall(r"```acl\n(.*?)```", OPERATE.read_text(), re.S)
    assert "hgetall" in called
    assert called <= set(re.findall(r"\+(\w+)", lines))


SERVERS = {"oldest": oldest, "on PATH": executable, "embedded": redis_executable}


@pytest.mark.parametrize(
    "kind", ["oldest", pytest.param("on PATH", marks=pytest.mark.needs("redis-server")), "embedded"]
)
def test_a_whole_job_passes_and_nothing_else(tmp_path: Path, service: Open, kind: str) -> None:
    with guarded(tmp_path / "guarded", SERVERS[kind]()) as server, server.client() as root:
        url = f"redis://127.0.0.1:{server.port}/0"
        with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(url) as stranger:
            stranger.ping()
        with service(
            redis_url=url, redis_username="inbetween", redis_password=PASSWORD, namespace="inbetween"
        ) as running:
            running.whole_job()
            refused: Any = root.acl_log()
            ours = [each["object"] for each in refused if each["username"] == "inbetween"]
            assert set(ours) <= NEW, "else the page's list is too short"
        with server.client(username="inbetween", password=PASSWORD) as ours:
            for command in REFUSED:
                with pytest.raises(redis.exceptions.ResponseError, match=r"permission|can't access|can't run"):
                    ours.execute_command(*command)
