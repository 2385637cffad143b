"""Signed, expiring links to one object and one method: the local home's answer to S3's presigned URLs.

A token is `payload.mac`, both base64url: the payload says what is granted, the mac is HMAC-SHA256 over the payload's
text. Verification compares text, so that no second spelling of a token is accepted. Knows nothing of files or HTTP.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from service.redis_keys import RedisKeys
from service.storage.interface import LinkExpired, LinkInvalid

if TYPE_CHECKING:
    from redis import Redis

LinkMethod = Literal["GET", "PUT"]
_PURPOSE = b"inbetween object link 1\n"
_LONGEST = 4096


@dataclass(frozen=True)
class Grant:
    """What a link allows."""

    #: GET (which allows HEAD too) or PUT.
    method: LinkMethod
    key: str
    #: Epoch seconds, whole.
    expires: int
    content_type: str | None = None
    #: The exact length of the body of a PUT; None for GET.
    size: int | None = None
    #: Name under which a browser saves what it gets; None shows it.
    filename: str | None = None


def issue(secret: bytes, grant: Grant) -> str:
    """Make the token of a grant: letters, digits, `-`, `_` and one dot."""
    values = {name: value for name, value in asdict(grant).items() if value is not None}
    payload = _text(json.dumps(values, separators=(",", ":"), sort_keys=True).encode())
    return f"{payload}.{_mac(secret, payload)}"


def verify(secret: bytes, token: str, method: str, now: float) -> Grant:
    """Read what `token` grants to a request by `method` at epoch second `now`. Raises `LinkInvalid`, `LinkExpired`."""
    payload, _, mac = token.partition(".")
    if len(token) > _LONGEST or not token.isascii() or not hmac.compare_digest(mac, _mac(secret, payload)):
        raise LinkInvalid("this link was not issued here, or was changed since")
    grant = Grant(**json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    if grant.method != ("GET" if method == "HEAD" else method):
        raise LinkInvalid(f"this link is for {grant.method}, not {method}")
    if now >= grant.expires:
        raise LinkExpired("this link has expired; ask for a new one")
    return grant


def signing_key(redis: Redis, namespace: str) -> bytes:
    """Return the secret behind all links of this deployment, made once and shared through Redis."""
    name = RedisKeys(namespace).signing_key
    redis.set(name, secrets.token_hex(32), nx=True)
    value = redis.get(name)
    assert isinstance(value, bytes | str)
    return bytes.fromhex(value if isinstance(value, str) else value.decode())


def _mac(secret: bytes, payload: str) -> str:
    return _text(hmac.digest(secret, _PURPOSE + payload.encode(), hashlib.sha256))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
