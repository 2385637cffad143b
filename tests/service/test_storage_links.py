"""Signed links of the local home: what is granted, and that nothing else is."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from service.settings import ServiceSettings
from service.storage import Grant, LinkExpired, LinkInvalid, LocalStorage, open_storage
from service.storage.links import issue, signing_key, verify

SECRET = bytes(range(32))
NOW = 1_000_000.0
GRANT = Grant("GET", "jobs/1/take-1.mp4", int(NOW) + 60, content_type="video/mp4", filename="take 1.mp4")
TOKEN = issue(SECRET, GRANT)


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(tmp_path: Path, clock: Clock) -> LocalStorage:
    return LocalStorage(tmp_path, lambda: SECRET, clock)


def token_of(link: str) -> str:
    assert link.startswith("/objects/")
    return link.removeprefix("/objects/")


def test_a_link_grants_what_was_signed(storage: LocalStorage) -> None:
    link = storage.sign_get(GRANT.key, expires=60, filename=GRANT.filename, content_type=GRANT.content_type)
    assert storage.verify(token_of(link), "GET") == GRANT
    link = storage.sign_put("uploads/1", size=5, content_type="image/png", expires=60)
    granted = Grant("PUT", "uploads/1", int(NOW) + 60, content_type="image/png", size=5)
    assert storage.verify(token_of(link), "PUT") == granted


def test_a_link_needs_no_quoting(storage: LocalStorage) -> None:
    token = token_of(storage.sign_get("a" * 200, expires=60))
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "get", ""])
def test_a_link_to_read_does_nothing_else(method: str) -> None:
    with pytest.raises(LinkInvalid, match="is for GET"):
        verify(SECRET, TOKEN, method, NOW)


def test_a_link_to_read_allows_head_and_one_to_write_does_not() -> None:
    assert verify(SECRET, TOKEN, "HEAD", NOW) == GRANT
    put = issue(SECRET, Grant("PUT", "key", int(NOW) + 60, size=1))
    for method in ("GET", "HEAD"):
        with pytest.raises(LinkInvalid):
            verify(SECRET, put, method, NOW)


def test_a_link_expires(storage: LocalStorage, clock: Clock) -> None:
    token = token_of(storage.sign_get("key", expires=60))
    clock.now = NOW + 59.9
    storage.verify(token, "GET")
    clock.now = NOW + 60
    with pytest.raises(LinkExpired):
        storage.verify(token, "GET")


def test_a_link_of_another_secret_is_invalid() -> None:
    with pytest.raises(LinkInvalid, match="not issued here"):
        verify(bytes(32), TOKEN, "GET", NOW)


def test_a_changed_payload_is_invalid() -> None:
    payload, _, mac = TOKEN.partition(".")
    values = json.loads(base64.urlsafe_b64decode(payload + "=="))
    for change in ({"key": "jobs/2/take-1.mp4"}, {"expires": 2_000_000}, {"method": "PUT"}):
        text = json.dumps({**values, **change}, separators=(",", ":"), sort_keys=True).encode()
        with pytest.raises(LinkInvalid):
            verify(SECRET, f"{base64.urlsafe_b64encode(text).decode().rstrip('=')}.{mac}", "GET", NOW)


@given(position=st.integers(0, len(TOKEN) - 1), character=st.characters(max_codepoint=0x2FF))
def test_a_token_with_any_other_character_is_invalid(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    if changed == TOKEN:
        return
    with pytest.raises(LinkInvalid):
        verify(SECRET, changed, "GET", NOW)


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_invalid(text: str) -> None:
    with pytest.raises(LinkInvalid):
        verify(SECRET, text, "GET", NOW)


@pytest.mark.parametrize(
    "token", ["", ".", "..", TOKEN + "=", TOKEN + ".", "." + TOKEN, TOKEN[:-1], TOKEN + "A" * 5000]
)
def test_a_shortened_or_padded_token_is_invalid(token: str) -> None:
    with pytest.raises(LinkInvalid):
        verify(SECRET, token, "GET", NOW)


@pytest.mark.parametrize("decode", [False, True])
def test_the_secret_is_shared_through_redis_and_made_once(redis_url: str, decode: bool) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=decode)
    first = signing_key(client, "one")
    assert len(first) == 32
    assert signing_key(client, "one") == first
    assert signing_key(client, "two") != first


def test_two_processes_accept_each_others_links(redis_url: str, tmp_path: Path) -> None:
    settings = ServiceSettings(storage_url=str(tmp_path))
    one, two = (open_storage(settings, redis.Redis.from_url(redis_url)) for _ in range(2))
    assert isinstance(two, LocalStorage)
    assert two.verify(token_of(one.sign_get("key", expires=60)), "GET").key == "key"
