"""Who may do what: API keys, their scopes, and the webhook secrets of their owners.

A key is `ibk_` and 32 random bytes; Redis holds its SHA-256 alone, so that a copy of the database opens nothing.
An owner is whom jobs belong to; several keys may share one, so that a key can be replaced without losing sight of
its jobs. Keys are never logged. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
import time
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from service.problems import Problem
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from redis import Redis

KEY_PREFIX = "ibk_"
LIVE_WEBHOOK_SECRETS = 2
_BYTES = 32
_LENGTH = len(KEY_PREFIX + secrets.token_urlsafe(_BYTES))


class Scope(StrEnum):
    """submit: make, cancel and erase jobs. read: see jobs, files and events. metrics: the figures of the whole
    service, and nothing else. admin: all of these, for every owner.
    """

    submit = "submit"
    read = "read"
    metrics = "metrics"
    admin = "admin"


CALLER = (Scope.submit, Scope.read)
"""What a key may do when its maker does not say."""


class OpenDoor(Exception):
    """The settings would let anybody in."""


@dataclass(frozen=True)
class Key:
    """An API key without its secret."""

    id: str
    owner: str
    name: str
    scopes: frozenset[Scope]
    #: Epoch seconds.
    created_at: float
    #: The key's own RATE_LIMIT, MAX_ACTIVE_JOBS and GPU_SECONDS_PER_DAY; None is the setting's.
    rate: int | None = None
    active_jobs: int | None = None
    gpu_seconds: float | None = None

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.admin in self.scopes


LOCAL = Key(id="local", owner="local", name="local", scopes=frozenset(Scope), created_at=0.0)
"""Stands for everybody while AUTH is off."""


class ApiKeys:
    """The API keys in Redis: the hash `{namespace}:keys`, from the secret's SHA-256 to the key as JSON."""

    def __init__(self, redis: Redis, settings: ServiceSettings) -> None:
        self._redis = redis
        keys = RedisKeys(settings.namespace)
        self._name = keys.api_keys
        self._secrets = keys.webhook_secrets

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        owner: str | None = None,
        *,
        rate: int | None = None,
        active_jobs: int | None = None,
        gpu_seconds: float | None = None,
    ) -> tuple[Key, str]:
        """Make a new key and its secret, which is shown this once. `owner` lets it share another key's jobs.

        rate, active_jobs, gpu_seconds: as of `Key`.
        """
        secret = KEY_PREFIX + secrets.token_urlsafe(_BYTES)
        key = Key(
            id=f"key_{secrets.token_hex(8)}",
            owner=owner or f"owner_{secrets.token_hex(8)}",
            name=name,
            scopes=frozenset(Scope(scope) for scope in scopes),
            created_at=time.time(),
            rate=rate,
            active_jobs=active_jobs,
            gpu_seconds=gpu_seconds,
        )
        self._redis.hset(self._name, _digest(secret), _encode(key))
        return key, secret

    def verify(self, secret: str) -> Key | None:
        """Find the key of this secret, or None. What is looked up is a hash, so timing tells nothing about a secret."""
        if len(secret) != _LENGTH or not secret.startswith(KEY_PREFIX):
            return None
        found = self._redis.hget(self._name, _digest(secret))
        return None if found is None else _decode(found)

    def revoke(self, key_id: str) -> bool:
        """Remove a key, and tell whether there was such a one."""
        for digest, found in self._redis.hgetall(self._name).items():
            if _decode(found).id == key_id:
                return bool(self._redis.hdel(self._name, _text(digest)))
        return False

    def exist(self) -> bool:
        """Tell whether there is any key."""
        return bool(self._redis.exists(self._name))

    def list(self) -> list[Key]:
        """List all keys, oldest first."""
        found = self._redis.hgetall(self._name)
        return sorted((_decode(value) for value in found.values()), key=lambda key: key.created_at)

    def webhook_secrets(self, owner: str) -> tuple[str, ...]:
        """Return the owner's live `whsec_` secrets, newest first; the first one is made on first use."""
        name = self._secrets(owner)
        if not self._redis.exists(name):
            self._redis.eval(_FIRST_SECRET, 1, name, _webhook_secret())
        return tuple(_text(value) for value in self._redis.lrange(name, 0, -1))

    def rotate_webhook_secret(self, owner: str) -> str:
        """Make a new webhook secret. The one before it stays live until the next rotation."""
        secret = _webhook_secret()
        with self._redis.pipeline() as pipe:
            pipe.lpush(self._secrets(owner), secret)
            pipe.ltrim(self._secrets(owner), 0, LIVE_WEBHOOK_SECRETS - 1)
            pipe.execute()
        return secret


def identify(keys: ApiKeys, settings: ServiceSettings, authorization: str | None) -> Key:
    """Find the caller's key by the value of the Authorization header.

    Raises `Problem` 401 for a missing or unknown one.

    Failures are not counted: nobody guesses 256 bits, and a count by address would lock out all behind one proxy.
    """
    if settings.auth == "off":
        return LOCAL
    scheme, _, secret = (authorization or "").partition(" ")
    key = keys.verify(secret.strip()) if scheme.lower() == "bearer" and secret else None
    if key is None:
        detail = "This API key is not known." if authorization else "The request carries no API key."
        remedy = "Send `Authorization: Bearer ibk_…` with a live key."
        headers = {"WWW-Authenticate": 'Bearer realm="inbetween"'}
        raise Problem(401, "unauthorized", detail, remedy=remedy, headers=headers)
    return key


def authorize(key: Key, scope: Scope) -> None:
    """Raise `Problem` 403 for a key without the scope."""
    if not key.allows(scope):
        remedy = f"Use a key with the scope `{scope}`."
        raise Problem(403, "forbidden", f"The key lacks the scope `{scope}`.", remedy=remedy, scope=str(scope))


def refuse_open_door(settings: ServiceSettings) -> None:
    """Raise `OpenDoor` when AUTH is off on an address that other machines can reach, or for every web page."""
    if settings.auth == "off" and not is_loopback(settings.host):
        raise OpenDoor(f"AUTH=off is allowed on loopback addresses only, and HOST is {settings.host}. Set AUTH=keys.")
    if settings.auth == "off" and "*" in settings.cors_origins:
        raise OpenDoor("CORS_ORIGINS=* lets any web page in where AUTH=off asks for no key. Name the origins.")


def refuse_empty_ring(settings: ServiceSettings, keys: ApiKeys) -> None:
    """Raise `OpenDoor` when others can reach HOST and no key exists: nobody could come in, and nobody said who may.

    Once the API runs, its last key may be revoked: that closes the door, which is what revoking is for.
    """
    if settings.auth == "keys" and not is_loopback(settings.host) and not keys.exist():
        raise OpenDoor(f"HOST is {settings.host}, and there is no API key. Run: inbetween-server keys create NAME")


_FIRST_SECRET = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('LPUSH', KEYS[1], ARGV[1]) end"


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this machine under a name or address that no other machine can reach it by."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _webhook_secret() -> str:
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _encode(key: Key) -> str:
    return json.dumps(asdict(key) | {"scopes": sorted(key.scopes)})


def _decode(value: bytes | str) -> Key:
    fields: dict[str, Any] = json.loads(value)
    scopes = frozenset(Scope(scope) for scope in fields.pop("scopes"))
    return Key(scopes=scopes, **fields)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
