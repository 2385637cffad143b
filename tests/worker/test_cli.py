"""`inbetween-server` as people type it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import redis

from service.auth import ApiKeys, Scope
from service.settings import ServiceSettings


def server(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_setting_is_listed_with_its_meaning_and_no_secret_is_shown() -> None:
    shown = server("settings", STORAGE_SECRET_KEY="very-secret", PORT="8123")
    for name, field in ServiceSettings.model_fields.items():
        assert f"{name.upper()}=" in shown.stdout
        assert str(field.description) in shown.stdout
    assert "PORT=8123" in shown.stdout
    assert "very-secret" not in shown.stdout


def test_keys_are_made_listed_and_revoked(redis_url: str) -> None:
    made = server("keys", "create", "ada", "--owner", "studio", REDIS_URL=redis_url)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.split("Bearer ")[1].split("`")[0]
    with redis.Redis.from_url(redis_url) as connection:
        key = ApiKeys(connection, ServiceSettings(_env_file=None)).verify(secret)
    assert key is not None
    assert (key.name, key.owner, key.scopes) == ("ada", "studio", frozenset({Scope.submit, Scope.read}))
    listed = server("keys", "list", REDIS_URL=redis_url).stdout
    assert key.id in listed
    assert secret not in listed
    shown = server("keys", "webhook-secret", "studio", REDIS_URL=redis_url).stdout
    with redis.Redis.from_url(redis_url) as connection:
        assert ApiKeys(connection, ServiceSettings(_env_file=None)).webhook_secrets("studio") == (shown.strip(),)
    newer = server("keys", "webhook-secret", "studio", REDIS_URL=redis_url).stdout
    for _ in range(2):
        live = server("keys", "webhook-secret", "studio", "--show", REDIS_URL=redis_url).stdout
        assert live == newer + shown, "showing rotates nothing"
    assert server("keys", "revoke", key.id, REDIS_URL=redis_url).returncode == 0
    assert server("keys", "revoke", key.id, REDIS_URL=redis_url).returncode == 1


def test_a_key_is_made_with_limits_of_its_own(redis_url: str) -> None:
    own = ("--rate", "60", "--active-jobs", "0", "--gpu-seconds", "3600")
    made = server("keys", "create", "ada", *own, REDIS_URL=redis_url)
    secret = made.stdout.split("Bearer ")[1].split("`")[0]
    with redis.Redis.from_url(redis_url) as connection:
        key = ApiKeys(connection, ServiceSettings(_env_file=None)).verify(secret)
    assert key is not None
    assert (key.rate, key.active_jobs, key.gpu_seconds) == (60, 0, 3600)
    assert "rate 60  active-jobs 0  gpu-seconds 3600" in server("keys", "list", REDIS_URL=redis_url).stdout
    refused = server("keys", "create", "bob", "--rate", "-1", REDIS_URL=redis_url)
    assert refused.returncode == 2
    assert "whole number" in refused.stderr


def test_a_webhook_secret_is_for_an_owner_that_there_is(redis_url: str) -> None:
    misspelled = server("keys", "webhook-secret", "stduio", REDIS_URL=redis_url)
    assert (misspelled.returncode, misspelled.stdout) == (1, "")
    assert misspelled.stderr == "inbetween-server: no key belongs to an owner stduio\n"
    # With AUTH=off there are no keys, and every job is of this owner.
    assert server("keys", "webhook-secret", "local", REDIS_URL=redis_url).stdout.startswith("whsec_")


def test_a_taken_port_is_one_line_and_an_exit_code(redis_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = server("api", REDIS_URL=redis_url, PORT=port, AUTH="off")
    assert (refused.returncode, refused.stdout) == (71, "")
    assert refused.stderr == f"inbetween-server: 127.0.0.1:{port} is taken. Set PORT (and HOST) to something free.\n"


@pytest.mark.parametrize(("command", "code"), [("api", 78), ("keeper", 69)])
def test_a_storage_that_cannot_be_is_one_line(redis_url: str, command: str, code: int) -> None:
    refused = server(command, REDIS_URL=redis_url, STORAGE_URL="/proc/no", AUTH="off")
    assert (refused.returncode, refused.stdout) == (code, "")
    assert refused.stderr == "inbetween-server: STORAGE_URL: storage folder /proc/no: No such file or directory\n"


def test_no_keys_on_an_open_address_is_refused(redis_url: str) -> None:
    refused = server("api", REDIS_URL=redis_url, HOST="0.0.0.0", AUTH="off")
    assert refused.returncode == 78
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["api", "keeper", "worker", "keys list"])
def test_no_redis_is_one_line_without_its_password(command: str) -> None:
    refused = server(*command.split(), REDIS_URL="redis://:sesame@127.0.0.1:1/0")
    assert refused.returncode == 69
    assert refused.stderr.startswith("inbetween-server: Redis does not answer at 127.0.0.1:1/0")
    assert refused.stderr.count("\n") == 1
    assert "sesame" not in refused.stderr
