"""A delivery as a value: one event on its way to one URL, as its record in Redis has it. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.outbound.target import Target, UrlUnreadable, read_url


class Outcome(StrEnum):
    """pending → delivered | failed | disabled | superseded; a redrive makes it pending again.

    failed: every try of the schedule failed. disabled: the receiver answered 410, to this event or an earlier one.
    superseded: the event of a later attempt of the same job was sent first, so this one is old news.
    """

    pending = "pending"
    delivered = "delivered"
    failed = "failed"
    disabled = "disabled"
    superseded = "superseded"


class DeliveryMissing(LookupError):
    """There is no such delivery."""


@dataclass(frozen=True)
class Try:
    """One request."""

    #: Epoch seconds.
    at: float
    #: None when there was no answer.
    status: int | None
    #: How long it took.
    ms: int
    #: Kind of the `OutboundError`, None when there was an answer.
    error: str | None


@dataclass(frozen=True)
class Delivery:
    """One event on its way to one URL. Times are epoch seconds."""

    id: str
    owner: str
    job: str
    attempt: int
    event: str
    url: str
    #: The URL as it was read; None for one that cannot be, whose tries all fail as `url-refused`.
    target: Target | None
    #: The exact body.
    payload: str
    traceparent: str | None
    state: Outcome
    #: The fence; grows at every redrive.
    run: int
    #: Tries of the schedule used up since then.
    spent: int
    tries: int
    created_at: float
    #: When the next try is due, None before the first and after the last.
    next_at: float | None
    #: The last tries, oldest first.
    log: tuple[Try, ...]


@dataclass(frozen=True)
class DeliveryPage:
    """Deliveries, newest first."""

    deliveries: tuple[Delivery, ...]
    #: Asks for the page after; None at the end.
    next_cursor: str | None


def target_of(fields: Mapping[str, Any]) -> Target | None:
    """Give a webhook's URL as it was read when it was let in.

    fields: `url`, and `target` unless a version wrote them down that did not keep it; then the URL is read now. None
    for one that an older version let in and this one cannot read.
    """
    if fields.get("target") is not None:
        return Target(**fields["target"])
    try:
        return read_url(str(fields["url"]))
    except UrlUnreadable:
        return None


def decode(fields: dict[bytes, bytes], entries: list[bytes]) -> Delivery:
    """Read a record as Redis holds it. entries: its log, as JSON, oldest first."""
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return Delivery(
        id=text["id"],
        owner=text["owner"],
        job=text["job"],
        attempt=int(text["attempt"]),
        event=text["event"],
        url=text["url"],
        target=target_of({"url": text["url"], "target": json.loads(text.get("target", "null"))}),
        payload=text["payload"],
        traceparent=text.get("traceparent"),
        state=Outcome(text["state"]),
        run=int(text["run"]),
        spent=int(text["spent"]),
        tries=int(text["tries"]),
        created_at=float(text["created_at"]),
        next_at=float(text["next_at"]) if "next_at" in text else None,
        log=tuple(Try(**json.loads(entry)) for entry in entries),
    )
