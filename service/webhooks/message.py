"""The message of a webhook: its id, its body and its signed headers, as Standard Webhooks describes. Sends nothing."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from service.jobs.record import Job
from service.settings import ServiceSettings
from service.webhooks.record import Delivery


def message_id(job_id: str, event: str, attempt: int) -> str:
    """Make the id of an event: `msg_` and 26 characters that are the same whenever the same event is announced."""
    digest = hashlib.sha256(f"{job_id} {event} {attempt}".encode()).digest()
    return "msg_" + base64.b32encode(digest).decode().lower()[:26]


def payload(job: Job, settings: ServiceSettings) -> dict[str, Any]:
    """Write what a receiver is told: what will stay true.

    Files and signed links are left to GET, where they are fresh.
    """
    base = (settings.public_url or "").rstrip("/")
    return {
        "type": f"inbetween.{job.state}",
        "timestamp": _iso(job.finished_at if job.finished_at is not None else job.created_at),
        "data": {
            "id": job.id,
            "state": str(job.state),
            "attempt": job.attempt,
            "reference": job.options.get("reference"),
            "created_at": _iso(job.created_at),
            "error": job.error,
            "links": {"self": f"{base}/inbetween/{job.id}"},
        },
    }


def signed_headers(delivery: Delivery, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """Make the headers of one try: the delivery's id, the time of the try, and one signature for each live secret.

    now: aware, in UTC.
    """
    signatures = [Webhook(secret).sign(delivery.id, now, delivery.payload) for secret in secrets]
    headers = {
        "content-type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(math.floor(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    return headers | ({"traceparent": delivery.traceparent} if delivery.traceparent else {})


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
