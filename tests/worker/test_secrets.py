"""`inbetween-server` shows and logs no secret, and does not start with an open door."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis
from tenacity import retry, stop_after_delay, wait_fixed

from server import cli, up
from service.auth import ApiKeys, Scope, refuse_empty_ring
from service.settings import ServiceSettings
from trials.pictures import photo
from trials.servers import RedisProcess, free_port
from worker.process import exit_codes

SECRET = "very-secret-sesame"


@contextmanager
def api(log: Path, **variables: str) -> Iterator[str]:
    """A running API process; its URL. What it logs is in `log`, all of it once the block has ended."""
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "LOG_LEVEL": "debug", "LOG_FORMAT": "json", **variables}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "api"], env=environment, stderr=file, stdout=file
        )
    url = f"http://127.0.0.1:{port}"

    @retry(stop=stop_after_delay(60), wait=wait_fixed(0.05), reraise=True)
    def up() -> None:
        assert process.poll() is None, log.read_text()
        httpx.get(f"{url}/livez")

    try:
        up()
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Variables of a process that is this one, and no `.env` file."""
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_settings_show_no_password_wherever_it_stands(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text(SECRET)
    environment.setenv("REDIS_URL", f"redis://ann:{SECRET}@redis.internal:6379/0")
    environment.setenv("STORAGE_ENDPOINT", f"http://ann:{SECRET}@storage:9000")
    environment.setenv("STORAGE_ACCESS_KEY", SECRET)
    environment.setenv("STORAGE_SECRET_KEY_FILE", str(tmp_path / "key"))
    assert cli.main(["settings"]) == 0
    shown = capsys.readouterr().out
    assert SECRET not in shown
    assert "REDIS_URL=redis://ann:…@redis.internal:6379/0" in shown
    assert "STORAGE_SECRET_KEY=(set)" in shown


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1/0"}, 69),
        ({"REDIS_URL": f"redis://127.0.0.1:1/0?password={SECRET}"}, 69),
        ({"REDIS_URL": f"redis://:x/{SECRET}@127.0.0.1:1/0"}, 78),
        ({"REDIS_URL": f"http://:{SECRET}@127.0.0.1:1/0"}, 78),
        ({"REDIS_URL_FILE": "/nowhere"}, 78),
        ({"PORT": f"redis://:{SECRET}@host"}, 78),
    ],
)
def test_what_is_wrong_is_one_line_without_the_password(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], code: int
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        exit_codes.need_redis(exit_codes.settings())
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (code, "")
    assert said.err.startswith("inbetween-server: ")
    assert said.err.count("\n") == 1, said.err
    assert SECRET not in said.err


def test_no_start_on_a_public_address_without_a_key(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ServiceSettings(_env_file=None, redis_url=redis_url, host="0.0.0.0", storage_url="s3://bucket/home")
    assert cli._api(settings) == 78
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "keys create" in said
    with redis.Redis.from_url(redis_url) as connection:
        keys = ApiKeys(connection, settings)
        on_loopback = settings.model_copy(update={"host": "127.0.0.1"})
        refuse_empty_ring(on_loopback, keys)
        keys.create("ann", [Scope.read])
        refuse_empty_ring(settings, keys)


def test_no_keys_do_not_go_with_any_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._api(ServiceSettings(_env_file=None, auth="off", cors_origins=("*",))) == 78
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "CORS_ORIGINS" in said


def test_keys_are_never_logged(redis_process: RedisProcess, tmp_path: Path) -> None:
    """Wherever a caller puts its key, and whatever goes wrong: no eight characters of it in the log, nor of a link."""
    with redis.Redis.from_url(redis_process.url) as connection:
        keys = ApiKeys(connection, ServiceSettings(_env_file=None))
        key, secret = keys.create("ann", [Scope.submit, Scope.read])
        whsec = keys.rotate_webhook_secret(key.owner)
    log = tmp_path / "log"
    variables = {"REDIS_URL": redis_process.url, "STORAGE_URL": str(tmp_path / "storage"), "HOST": "0.0.0.0"}
    with api(log, **variables) as url, httpx.Client(base_url=url, timeout=30) as client:
        links = mishaps(client, url, secret, whsec)
        redis_process.kill()
        assert client.get("/inbetween", headers={"Authorization": f"Bearer {secret}"}).status_code == 503
    text = log.read_text()
    assert text.count('"event": "request"') > 15, "all of it is logged"
    assert "ibk_…" in text
    for hidden in (secret.removeprefix("ibk_"), whsec.removeprefix("whsec_"), *links):
        pieces = {hidden[start : start + 8] for start in range(len(hidden) - 8)}
        assert [piece for piece in pieces if piece in text] == []


def mishaps(client: httpx.Client, url: str, secret: str, whsec: str) -> list[str]:
    """Requests with the key where it belongs and everywhere else. Returns the signed parts of links that were given."""
    known = {"Authorization": f"Bearer {secret}"}
    files = {"start": photo(), "end": photo()}
    made = client.post("/inbetween", headers=known, files=files, data={"options": '{"method": "flow"}'})
    assert made.status_code == 202, made.text
    link = made.json()["keyframes"][0]["url"]
    assert client.get(link).status_code == 200
    assert client.get(link + "x").status_code == 403
    upload = client.post("/uploads", headers=known, json={"content_type": "image/png", "size": 3}).json()["url"]
    assert client.put(upload, content=b"abcd", headers={"Content-Type": "image/png"}).status_code == 422
    for path in (f"/inbetween?key={secret}", f"/inbetween/{secret}", f"/{secret}", f"/problems/{whsec}"):
        for headers in (known, {}):
            assert client.get(path, headers=headers).status_code in (200, 401, 404, 422)
    for headers in (
        {"Authorization": f"Bearer {secret}x"},
        {"Authorization": secret},
        {"X-API-Key": secret},
        {**known, "X-Request-ID": secret},
        {**known, "Idempotency-Key": secret},
        {**known, "Last-Event-ID": secret},
        {**known, "Host": secret},
        {**known, "traceparent": secret},
    ):
        assert client.get(f"/inbetween/{made.json()['id']}", headers=headers).status_code in (200, 401)
    refused = client.post(
        "/inbetween", headers={**known, "Idempotency-Key": secret}, json={secret: secret, "start": secret}
    )
    assert refused.status_code == 422
    assert client.post("/inbetween", headers=known, content=secret).status_code == 415
    where = httpx.URL(url)
    with socket.create_connection((where.host, where.port or 80)) as raw:
        raw.sendall(f"GET /inbetween HTTP/1.1\r\nAuthorization Bearer {secret}\r\n\r\n".encode())
        assert b" 400 " in raw.recv(65_536)
    return [re.sub(r".*/objects/", "", each) for each in (link, upload)]


def test_the_first_key_of_a_service_of_its_own_is_its_owners_to_read(redis_url: str, tmp_path: Path) -> None:
    """`up` has its own Redis, so nobody could have made a key before."""
    path = tmp_path / up.FIRST_KEY
    path.write_text("of a service that was here before")
    with redis.Redis.from_url(redis_url) as connection:
        keys = ApiKeys(connection, ServiceSettings(_env_file=None))
        up.make_first_key(keys, path)
        key = keys.verify(path.read_text().strip())
    assert key is not None
    assert key.scopes == {Scope.submit, Scope.read}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_service_of_its_own_keeps_its_folders_to_its_user(tmp_path: Path) -> None:
    area = tmp_path / "area"
    stack = up.Stack(ServiceSettings(_env_file=None), area, {"STORAGE_URL": str(area / "storage")}, None)
    with stack._locked():
        for name in ("redis", "storage"):
            assert stat.S_IMODE((area / name).stat().st_mode) == 0o700
