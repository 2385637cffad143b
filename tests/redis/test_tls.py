"""Redis over TLS, where both sides show a certificate."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.database.connections import connect, connect_async
from service.settings import ServiceSettings
from tests.redis.conftest import Open
from tests.redis.servers import DURABLE, SERVICE, RedisServer

pytestmark = pytest.mark.needs("redis-server")
"""The valkey-server that pip brings knows no TLS."""

FILES = ("redis_ca_file", "redis_cert_file", "redis_key_file")


def write(folder: Path, authority: trustme.CA, name: str) -> dict[str, Any]:
    """The settings of one side: whom it believes, and what it shows."""
    issued = authority.issue_cert("127.0.0.1")
    paths = [folder / f"{name}-{part}.pem" for part in ("ca", "cert", "key")]
    authority.cert_pem.write_to_path(str(paths[0]))
    issued.cert_chain_pems[0].write_to_path(str(paths[1]))
    issued.private_key_pem.write_to_path(str(paths[2]))
    return dict(zip(FILES, map(str, paths), strict=True))


def encrypted(folder: Path, side: dict[str, str], *options: str) -> RedisServer:
    """A server that speaks TLS alone, and wants to see a certificate."""
    ca, certificate, key = (side[name] for name in FILES)
    shows = [
        "--tls-ca-cert-file",
        ca,
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        key,
        "--tls-replication",
        "yes",
    ]
    access = {"ssl_ca_certs": ca, "ssl_certfile": certificate, "ssl_keyfile": key}
    return RedisServer(folder, *options, *shows, "--tls-auth-clients", "yes", ssl=True, **access)


def test_a_whole_job_over_tls_with_a_client_certificate(tmp_path: Path, service: Open) -> None:
    authority = trustme.CA()
    theirs, ours = write(tmp_path, authority, "server"), write(tmp_path, authority, "client")
    server = encrypted(tmp_path / "redis", theirs, *DURABLE)
    server.start()
    try:
        url = f"rediss://127.0.0.1:{server.port}/0"
        for wrong in ({**ours, **dict.fromkeys(FILES[1:])}, write(tmp_path, trustme.CA(), "stranger")):
            with (
                pytest.raises(redis.ConnectionError),
                connect(ServiceSettings(_env_file=None, redis_url=url, **wrong)) as refused,
            ):
                refused.ping()
        with service(redis_url=url, **ours) as running:
            running.whole_job()
    finally:
        server.kill()


def test_sentinels_too_are_asked_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    theirs, ours = write(tmp_path, authority, "server"), write(tmp_path, authority, "client")
    file = tmp_path / "sentinel.conf"
    primary = encrypted(tmp_path / "redis", theirs, *DURABLE)
    sentinel = encrypted(tmp_path / "sentinel", theirs, str(file), "--sentinel")
    file.write_text(f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n")
    url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}/0"
    settings = ServiceSettings(_env_file=None, redis_url=url, **ours)

    async def asked() -> str:
        async with connect_async(settings, most=2, timeout=5, retry=Retry(NoBackoff(), 1)) as connection:
            return str(await connection.get("one"))

    try:
        primary.start()
        sentinel.start()
        with connect(settings) as connection:
            connection.set("one", "1")
        assert asyncio.run(asked()) == "b'1'"
    finally:
        sentinel.kill()
        primary.kill()
