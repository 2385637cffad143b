"""Where settings come from: the environment, and files for secrets; and text that may be shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from service.observe.redaction import redacted
from service.settings import SECRETS, SecretFileError, ServiceSettings


def test_secrets_may_be_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        (tmp_path / name).write_text(f"value of {name} \n")
        monkeypatch.setenv(f"{name.upper()}_FILE", str(tmp_path / name))
    settings = ServiceSettings(_env_file=None)
    assert settings.redis_url == "value of redis_url ", "only the line's end is cut off"
    assert settings.storage_secret_key is not None
    assert settings.storage_secret_key.get_secret_value() == "value of storage_secret_key "
    monkeypatch.setenv("REDIS_URL_FILE", "")
    assert ServiceSettings(_env_file=None).redis_url.startswith("redis://"), "empty is not set"


def test_every_secret_may_be_in_a_file() -> None:
    hidden = {name for name, field in ServiceSettings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert set(SECRETS) == {*hidden, "redis_url"}


def test_a_file_that_cannot_be_followed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    monkeypatch.setenv("STORAGE_SECRET_KEY_FILE", str(path))
    with pytest.raises(SecretFileError, match=r"STORAGE_SECRET_KEY_FILE=.* cannot be read: No such file"):
        ServiceSettings(_env_file=None)
    path.write_bytes(b"\xff\xfe sesame")
    with pytest.raises(SecretFileError, match="is not text") as refused:
        ServiceSettings(_env_file=None)
    assert "sesame" not in str(refused.value)
    path.write_text("sesame")
    monkeypatch.setenv("STORAGE_SECRET_KEY", "other")
    with pytest.raises(SecretFileError, match="both set"):
        ServiceSettings(_env_file=None)


def test_settings_in_a_log_line_show_no_secret() -> None:
    settings = ServiceSettings(
        _env_file=None, redis_url="redis://:sesame@host/0", storage_secret_key=SecretStr("sesame")
    )
    assert "sesame" not in repr(settings)
    assert "sesame" not in str(settings)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:sesame@host:6379/0", "redis://:…@host:6379/0"),
        ("rediss://ann:sesame@host/0", "rediss://ann:…@host/0"),
        ("redis://ann:ses/a@me@host/0", "redis://ann:…@host/0"),
        ("unix://ann:sesame@/run/redis.sock", "unix://ann:…@/run/redis.sock"),
        ("redis://host/0?password=sesame&db=1", "redis://host/0?password=…&db=1"),
        ("redis://ann@host/0", "redis://ann@host/0"),
        ("http://user:sesame@storage:9000", "http://user:…@storage:9000"),
        ("GET /inbetween/ibk_sesame-_1 400", "GET /inbetween/ibk_… 400"),
        ("secret=whsec_c2VzYW1l/+= next", "secret=whsec_… next"),
        ("/objects/eyJ4.sesame?x", "/objects/…?x"),
        ("?X-Amz-Signature=sesame&X-Amz-Expires=1", "?X-Amz-Signature=…&X-Amz-Expires=1"),
        ("nothing: to@hide http://host:80/a @b", "nothing: to@hide http://host:80/a @b"),
        (
            '{"url": "http://host:80/a", "by": "ann@example.com"}',
            '{"url": "http://host:80/a", "by": "ann@example.com"}',
        ),
    ],
)
def test_secrets_are_taken_out_of_text(text: str, shown: str) -> None:
    assert redacted(text) == shown
