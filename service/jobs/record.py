"""The job as a value: its states, its record in Redis and its keys. Changes nothing; `store.py` holds the transitions.

JobError
├── Superseded     the attempt is over: a newer one has taken its place, or the job was deleted
├── StateConflict  the job's state does not allow this
├── JobMissing     there is no such job
└── Refused        the job was not taken: too much is under way
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from service.jobs import stored_options

Lane = Literal["gpu", "cpu"]
Priority = Literal["high", "default", "low"]
LANES: tuple[Lane, ...] = ("gpu", "cpu")
PRIORITIES: tuple[Priority, ...] = ("high", "default", "low")
"""Highest first: the order in which workers look at their queues."""

SIZES = ("small", "medium", "large")
"""Classes of a job's frames, for figures: up to 300,000 pixels, up to 1,000,000, above."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class JobError(Exception):
    """A transition was refused; the record is as it was."""


class Superseded(JobError):
    """The attempt is over: a newer one has taken its place, or the job was deleted."""


class StateConflict(JobError):
    """The job's state does not allow this. `state` is the state it is in."""

    def __init__(self, job_id: str, state: State) -> None:
        super().__init__(f"{job_id} is {state}")
        self.state = state


class JobMissing(JobError):
    """There is no such job."""


class Refused(JobError):
    """The job was not taken, and nothing was written down.

    reason: `too-many-jobs`, `gpu-seconds-spent`, `queue-full`; `taken-over` when the request that asks has lost its
    `Idempotency-Key` to its own repetition. figures: what was found, by name; see `Jobs.admit`.
    """

    def __init__(self, reason: str, figures: Mapping[str, float]) -> None:
        super().__init__(f"{reason}: {dict(figures)}")
        self.reason = reason
        self.figures = figures


class State(StrEnum):
    """queued → running → succeeded | failed | canceled, and from each of these three → expired."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    canceled = "canceled"
    expired = "expired"

    @property
    def is_terminal(self) -> bool:
        return self not in (State.queued, State.running)


class Renewal(StrEnum):
    """What a worker hears when it renews its lease: go on, or stop at the next step."""

    go = "go"
    cancel = "cancel"


def new_id() -> str:
    """Make an id: `job_` and 26 characters, which sort by time of creation.

    They are 48 bits of milliseconds, then 80 random bits.
    """
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "job_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def ticket(job_id: str, attempt: int) -> str:
    """Name one attempt of one job: RQ's job id, and the member of the queued and running sets."""
    return f"{job_id}-{attempt}"


def split_ticket(name: str) -> tuple[str, int]:
    job_id, _, attempt = name.rpartition("-")
    return job_id, int(attempt)


@dataclass(frozen=True)
class Allowance:
    """How much may be under way for a job to be taken; 0 is any amount."""

    #: Jobs of its owner that are queued or running.
    active_jobs: int = 0
    #: What its owner's jobs may take in a day (UTC), those under way with their estimates.
    gpu_seconds: float = 0.0
    #: Jobs queued in its lane.
    queue: int = 0


@dataclass(frozen=True)
class NewJob:
    """A job about to be submitted. Its keyframes are in storage already, under `files_prefix(id)`."""

    owner: str
    #: In full, as `Options.normalised` gives them.
    options: dict[str, Any]
    #: The key, content_type, width, height, sha256 and size of each.
    keyframes: list[dict[str, Any]]
    lane: Lane
    #: Seconds the result is kept.
    result_ttl: int
    priority: Priority = "default"
    #: Its url and events.
    webhook: dict[str, Any] | None = None
    traceparent: str | None = None
    #: The estimate, where there is one.
    gpu_seconds: float | None = None
    #: (width, height) of a frame, where it is known before.
    size: tuple[int, int] | None = None
    #: Ids of those that keyframes came by.
    uploads: Sequence[str] = ()
    id: str = field(default_factory=new_id)


@dataclass(frozen=True)
class Job:
    """A job's record at one moment. Times are epoch seconds by Redis' clock.

    An expired job is a tombstone: options, keyframes, result, error and webhook are gone.
    """

    id: str
    owner: str
    state: State
    #: The fence; grows at every enqueue.
    attempt: int
    #: Deaths and errors are the budgets spent since the last redrive.
    deaths: int
    errors: int
    priority: Priority
    lane: Lane
    options: dict[str, Any]
    keyframes: list[dict[str, Any]]
    webhook: dict[str, Any] | None
    created_at: float
    #: When this attempt was queued.
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    result_ttl: int
    #: What the worker last reported.
    progress: dict[str, Any] | None
    #: The manifest of a succeeded job.
    result: dict[str, Any] | None
    #: The problem (RFC 9457) of a failed job.
    error: dict[str, Any] | None
    cancel_requested: bool
    worker: str | None
    quarantined: bool
    traceparent: str | None
    uploads: tuple[str, ...] = ()
    #: How often each worker's machine ran out under it, since the last redrive.
    faults: dict[str, int] = field(default_factory=dict)
    #: How often each worker has left it to others because its engine refuses it, since the last redrive.
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def ticket(self) -> str:
        return ticket(self.id, self.attempt)


@dataclass(frozen=True)
class JobPage:
    """Jobs, newest first."""

    jobs: tuple[Job, ...]
    #: Asks for the page after; None at the end.
    next_cursor: str | None


def files_prefix(job_id: str) -> str:
    """Say where all of a job's files lie in storage; erasing the job erases this prefix."""
    return f"jobs/{job_id}/"


def file_key(job: Job, name: str) -> str:
    """Say where a file of the result lies in storage: under the attempt that committed it."""
    attempt = (job.result or {}).get("attempt", job.attempt)
    return f"{files_prefix(job.id)}{attempt}/{name}"


def encode(job: NewJob) -> dict[str, str]:
    """Write the fields of the record that never change after submission."""
    fields = {
        "id": job.id,
        "owner": job.owner,
        "priority": job.priority,
        "lane": job.lane,
        "options": json.dumps(stored_options.stored(job.options, len(job.keyframes))),
        "keyframes": json.dumps(job.keyframes),
        "result_ttl": str(job.result_ttl),
    }
    if job.webhook is not None:
        fields["webhook"] = json.dumps(job.webhook)
    if job.traceparent is not None:
        fields["traceparent"] = job.traceparent
    if job.gpu_seconds:
        fields["gpu_estimate"] = milliseconds(job.gpu_seconds)
    if "method" in job.options:
        fields["method"] = job.options["method"]
    if job.uploads:
        fields["uploads"] = json.dumps(list(job.uploads))
    if job.size is not None:
        fields["size"] = size_class(*job.size)
    return fields


def size_class(width: int, height: int) -> str:
    """Return the one of `SIZES` that a video of this size falls into."""
    pixels = width * height
    return "small" if pixels <= 300_000 else "medium" if pixels <= 1_000_000 else "large"


def milliseconds(seconds: float) -> str:
    """Write GPU time as Redis adds it up: whole numbers, so that nothing is lost in rounding."""
    return str(round(1000 * seconds))


def decode(fields: Mapping[bytes, bytes]) -> Job:
    """Read a record as Redis holds it. A field that is absent is None, empty or false."""
    text = {name.decode(): value.decode() for name, value in fields.items()}

    def moment(name: str) -> float | None:
        return float(text[name]) if name in text else None

    def value(name: str) -> Any:
        return json.loads(text[name]) if name in text else None

    keyframes = value("keyframes") or []
    return Job(
        id=text["id"],
        owner=text["owner"],
        state=State(text["state"]),
        attempt=int(text["attempt"]),
        deaths=int(text["deaths"]),
        errors=int(text["errors"]),
        priority=text["priority"],  # type: ignore[arg-type]
        lane=text["lane"],  # type: ignore[arg-type]
        options=stored_options.complete(value("options"), len(keyframes)) if "options" in text else {},
        keyframes=keyframes,
        webhook=value("webhook"),
        created_at=float(text["created_at"]),
        queued_at=moment("queued_at"),
        started_at=moment("started_at"),
        finished_at=moment("finished_at"),
        expires_at=moment("expires_at"),
        result_ttl=int(text["result_ttl"]),
        progress=value("progress"),
        result=value("result"),
        error=value("error"),
        cancel_requested="cancel_requested" in text,
        worker=text.get("worker"),
        quarantined="quarantined" in text,
        traceparent=text.get("traceparent"),
        uploads=tuple(value("uploads") or ()),
        faults=value("faults") or {},
        refusals=value("refusals") or {},
    )
