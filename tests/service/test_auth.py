"""API keys and webhook secrets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from service.auth import LOCAL, ApiKeys, OpenDoor, Scope, authorize, identify, refuse_open_door
from service.problems import Problem
from service.settings import ServiceSettings

SETTINGS = ServiceSettings(_env_file=None)


@pytest.fixture
def keys(redis_url: str) -> Iterator[ApiKeys]:
    with redis.Redis.from_url(redis_url) as connection:
        yield ApiKeys(connection, SETTINGS)


def test_a_key_opens_until_it_is_revoked(keys: ApiKeys) -> None:
    key, secret = keys.create("render farm", [Scope.submit, Scope.read])
    assert secret.startswith("ibk_")
    assert keys.verify(secret) == key
    assert keys.verify(secret + "x") is None
    assert keys.verify(secret[:-1] + ("a" if secret[-1] != "a" else "b")) is None
    other, _ = keys.create("second", [Scope.read], owner=key.owner)
    assert [found.id for found in keys.list()] == [key.id, other.id]
    assert keys.revoke(key.id)
    assert not keys.revoke(key.id)
    assert keys.verify(secret) is None
    assert [found.id for found in keys.list()] == [other.id]


def test_redis_holds_no_secret(keys: ApiKeys, redis_url: str) -> None:
    _, secret = keys.create("a", [Scope.read])
    with redis.Redis.from_url(redis_url) as connection:
        stored = connection.hgetall("inbetween:keys")
    assert len(stored) == 1
    assert secret.removeprefix("ibk_") not in str(stored)


def test_scopes_decide(keys: ApiKeys) -> None:
    for scopes, allowed in (
        ([Scope.read], {Scope.read}),
        ([Scope.submit], {Scope.submit}),
        ([Scope.admin], set(Scope)),
    ):
        key, secret = keys.create("a", scopes)
        for scope in Scope:
            if scope in allowed:
                authorize(identify(keys, SETTINGS, f"Bearer {secret}"), scope)
                assert identify(keys, SETTINGS, f"bearer {secret}") == key
            else:
                with pytest.raises(Problem) as refused:
                    authorize(key, scope)
                assert refused.value.status == 403


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Basic ibk_x", "Bearer ibk_x", "ibk_x"])
def test_no_key_no_entry(keys: ApiKeys, sent: str | None) -> None:
    with pytest.raises(Problem) as refused:
        identify(keys, SETTINGS, sent)
    assert refused.value.status == 401


def test_without_keys_everybody_is_local(keys: ApiKeys) -> None:
    settings = ServiceSettings(_env_file=None, auth="off")
    assert identify(keys, settings, None) is LOCAL
    authorize(LOCAL, Scope.admin)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_auth_may_be_off_on_loopback(host: str) -> None:
    refuse_open_door(ServiceSettings(_env_file=None, auth="off", host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.com"])
def test_auth_may_not_be_off_where_others_reach(host: str) -> None:
    refuse_open_door(ServiceSettings(_env_file=None, auth="keys", host=host))
    with pytest.raises(OpenDoor, match=host):
        refuse_open_door(ServiceSettings(_env_file=None, auth="off", host=host))


def test_webhook_secrets_two_live_at_once(keys: ApiKeys) -> None:
    [first] = keys.webhook_secrets("ann")
    assert first.startswith("whsec_")
    assert keys.webhook_secrets("ann") == (first,)
    second = keys.rotate_webhook_secret("ann")
    assert keys.webhook_secrets("ann") == (second, first)
    third = keys.rotate_webhook_secret("ann")
    assert keys.webhook_secrets("ann") == (third, second)
    assert keys.webhook_secrets("bob") != keys.webhook_secrets("ann")
