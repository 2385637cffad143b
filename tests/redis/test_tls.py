"""Redis over TLS, where both sides show a certificate."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
import trustme

from service.connections import connect
from service.settings import Settings
from tests.redis.conftest import Open
from tests.redis.servers import DURABLE, Server

FILES = ("redis_ca_file", "redis_cert_file", "redis_key_file")


def write(folder: Path, authority: trustme.CA, name: str) -> dict[str, str]:
    """The settings of one side: whom it believes, and what it shows."""
    issued = authority.issue_cert("127.0.0.1")
    paths = [folder / f"{name}-{part}.pem" for part in ("ca", "cert", "key")]
    authority.cert_pem.write_to_path(str(paths[0]))
    issued.cert_chain_pems[0].write_to_path(str(paths[1]))
    issued.private_key_pem.write_to_path(str(paths[2]))
    return dict(zip(FILES, map(str, paths), strict=True))


def test_a_whole_job_over_tls_with_a_client_certificate(tmp_path: Path, service: Open) -> None:
    authority = trustme.CA()
    theirs, ours = write(tmp_path, authority, "server"), write(tmp_path, authority, "client")
    ca, certificate, key = (theirs[name] for name in FILES)
    options = ["--tls-ca-cert-file", ca, "--tls-cert-file", certificate, "--tls-key-file", key]
    access = {"ssl_ca_certs": ca, "ssl_certfile": certificate, "ssl_keyfile": key}
    server = Server(tmp_path / "redis", *DURABLE, *options, "--tls-auth-clients", "yes", ssl=True, **access)
    server.start()
    try:
        url = f"rediss://127.0.0.1:{server.port}/0"
        for wrong in ({**ours, **dict.fromkeys(FILES[1:])}, write(tmp_path, trustme.CA(), "stranger")):
            with (
                pytest.raises(redis.ConnectionError),
                connect(Settings(_env_file=None, redis_url=url, **wrong)) as refused,
            ):
                refused.ping()
        with service(redis_url=url, **ours) as running:
            running.whole_job()
    finally:
        server.kill()
