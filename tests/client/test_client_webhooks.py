"""Webhooks are believed exactly when the library of the standard believes them."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from inbetween import InbetweenError, WebhookInvalid, verify_webhook

BODY = json.dumps(
    {
        "type": "inbetween.failed",
        "timestamp": "2026-01-05T10:00:00Z",
        "data": {
            "id": "job_1",
            "reference": "shot-7",
            "error": {"type": "/problems/storage-full", "title": "No room", "status": 507, "detail": "No room."},
        },
    }
).encode()


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def signed(*keys: str, body: bytes = BODY, at: datetime | None = None) -> dict[str, str]:
    """Headers as the server makes them."""
    moment = at or datetime.now(UTC)
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(moment.timestamp())),
        "Webhook-Signature": " ".join(Webhook(key).sign("msg_1", moment, body.decode()) for key in keys),
    }


def test_a_right_one_tells_what_happened() -> None:
    secret = new_secret()
    event = verify_webhook(secret, signed(secret), BODY)
    assert (event.id, event.type, event.job_id, event.reference) == ("msg_1", "inbetween.failed", "job_1", "shot-7")
    assert event.error is not None
    assert event.error.slug == "storage-full"
    assert verify_webhook(secret, signed(secret), BODY.decode()) == event


def test_a_secret_can_be_replaced_on_either_side_first() -> None:
    old, new = new_secret(), new_secret()
    assert verify_webhook(old, signed(new, old), BODY)
    assert verify_webhook(new, signed(new, old), BODY)
    assert verify_webhook([new, old], signed(old), BODY)
    with pytest.raises(WebhookInvalid, match="no signature"):
        verify_webhook(new, signed(old), BODY)


def headers_gone_wrong(secret: str) -> list[dict[str, str]]:
    right = signed(secret)
    signature = right["Webhook-Signature"]
    return [
        *({name: value for name, value in right.items() if name != gone} for gone in right),
        {**right, "Webhook-Id": "msg_2"},
        {**right, "Webhook-Timestamp": str(int(right["Webhook-Timestamp"]) - 1)},
        {**right, "Webhook-Timestamp": "soon"},
        {**right, "Webhook-Timestamp": "9" * 5000},
        {**right, "Webhook-Signature": ""},
        {**right, "Webhook-Signature": "v1"},
        {**right, "Webhook-Signature": signature[:-4]},
        {**right, "Webhook-Signature": signature.replace("v1,", "v2,")},
        {**right, "Webhook-Signature": "v1,ü"},
        {**right, "Webhook-Signature": signature.removeprefix("v1,")},
        signed(secret, at=datetime.now(UTC) - timedelta(seconds=310)),
        signed(secret, at=datetime.now(UTC) + timedelta(seconds=310)),
        signed(new_secret()),
    ]


def test_whatever_the_standards_library_refuses_is_refused() -> None:
    secret = new_secret()
    wrong = headers_gone_wrong(secret)
    assert len(wrong) == 16
    for headers in wrong:
        with pytest.raises((WebhookVerificationError, ValueError)):
            Webhook(secret).verify(BODY.decode(), headers)
        with pytest.raises(WebhookInvalid):
            verify_webhook(secret, headers, BODY)
    assert issubclass(WebhookInvalid, InbetweenError)


@pytest.mark.parametrize("age", [-299, -1, 0, 299])
def test_whatever_it_takes_is_taken(age: int) -> None:
    secret = new_secret()
    headers = signed(secret, at=datetime.now(UTC) - timedelta(seconds=age))
    headers["Webhook-Signature"] = f"v1a,other v1,AAAA {headers['Webhook-Signature']}"
    assert Webhook(secret).verify(BODY.decode(), headers)
    assert verify_webhook(secret, headers, BODY)


def test_a_body_changed_on_the_way_is_refused() -> None:
    secret = new_secret()
    with pytest.raises(WebhookInvalid):
        verify_webhook(secret, signed(secret), BODY.replace(b"shot-7", b"shot-8"))
    for body in (b"[]", b"{}", b"text"):
        with pytest.raises(WebhookInvalid, match="no event"):
            verify_webhook(secret, signed(secret, body=body), body)


def test_the_tolerance_is_the_callers() -> None:
    secret = new_secret()
    headers = signed(secret, at=datetime.now(UTC) - timedelta(hours=1))
    assert verify_webhook(secret, headers, BODY, tolerance=4000)
    assert verify_webhook(secret, headers, BODY, now=float(headers["Webhook-Timestamp"]))


@pytest.mark.parametrize("secret", ["whsec_not base64", []])
def test_a_secret_that_is_none_is_no_fault_of_the_webhook(secret: str | list[str]) -> None:
    with pytest.raises(ValueError, match="secret") as error:
        verify_webhook(secret, signed(new_secret()), BODY)
    assert not isinstance(error.value, WebhookInvalid)
