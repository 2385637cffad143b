"""Webhooks, checked as Standard Webhooks describe, with the standard library alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inbetween.errors import Problem, WebhookInvalid, problem_of

TOLERANCE = 300.0
"""Seconds that a webhook's time may be from ours: an old one may be somebody's recording."""


@dataclass(frozen=True)
class WebhookEvent:
    """A job has ended."""

    #: The same however often the event comes, so do not act on one twice.
    id: str
    #: `inbetween.succeeded`, `.failed` or `.canceled`.
    type: str
    timestamp: str
    #: The job's id, state, reference, error and links.
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def job_id(self) -> str:
        return str(self.data["id"])

    @property
    def reference(self) -> str | None:
        found: str | None = self.data.get("reference")
        return found

    @property
    def error(self) -> Problem | None:
        found = self.data.get("error")
        return problem_of(found) if found else None


def verify_webhook(
    secrets: str | Iterable[str],
    headers: Mapping[str, str],
    body: bytes | str,
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> WebhookEvent:
    """Verify a webhook's request and give its event, once it is sure that the server sent it and that it is not old.

    secrets: `whsec_…`; several while one is being replaced. headers: the request's, in any case.
    body: exactly as received, before any parsing. tolerance: seconds, 0 < tolerance. now: epoch seconds, for tests.
    Raises `WebhookInvalid`; `ValueError` for a secret that is none.
    """
    keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise ValueError("no secret to check the webhook with")
    named = {name.lower(): value for name, value in headers.items()}
    message, moment, signatures = (named.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message and moment and signatures):
        raise WebhookInvalid("it lacks one of webhook-id, webhook-timestamp and webhook-signature")
    content = body.encode() if isinstance(body, str) else bytes(body)
    signed = f"{message}.{moment}.".encode() + content
    right = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    if not any(hmac.compare_digest(one, sent) for sent in _sent(signatures) for one in right):
        raise WebhookInvalid("no signature fits the body: another secret, or not as it was sent")
    known = int(moment) if moment.isascii() and moment.isdecimal() and len(moment) < 16 else -math.inf
    if abs((time.time() if now is None else now) - known) > tolerance:
        raise WebhookInvalid(f"its time is more than {tolerance:g} seconds from ours")
    try:
        values = json.loads(content)
        return WebhookEvent(message, values["type"], values["timestamp"], values["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise WebhookInvalid("its body is no event") from error


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.strip().removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is whsec_ and base64") from None


def _sent(header: str) -> list[bytes]:
    """List the signatures of version 1; others are not ours to judge."""
    parts = (part.partition(",") for part in header.split())
    return [value.encode() for version, _, value in parts if version == "v1"]
