"""What the server tells, as values. A member that this version does not know stays in `Job.data`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypeVar, get_args

from inbetween.errors import JobCanceled, JobFailed, NoResult, Problem, problem_of

T = TypeVar("T")
State = Literal["queued", "running", "succeeded", "failed", "canceled"]
OVER = ("succeeded", "failed", "canceled")
STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True)
class Progress:
    """How far a running job is."""

    stage: str | None = None
    #: Share of all its steps, 0 to 1.
    fraction: float | None = None
    step: int | None = None
    steps: int | None = None
    take: int | None = None
    takes: int | None = None
    #: Seconds left, as far as can be told.
    eta: float | None = None


@dataclass(frozen=True)
class File:
    """A file of a finished job."""

    name: str
    #: From 1; None for a file of the whole job.
    take: int | None
    format: str
    content_type: str
    size: int
    sha256: str
    #: Signed and short-lived.
    url: str


@dataclass(frozen=True)
class Result:
    """The finished video."""

    frames: int
    fps: int
    width: int
    height: int
    #: In seconds.
    duration: float
    #: One for each take.
    seeds: list[int]
    settings: dict[str, Any]
    files: list[File]
    model: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None
    gpu_seconds: float | None = None
    #: What made frames between the model's, for another rate; None where nothing did.
    interpolator: dict[str, Any] | None = None
    #: What transparent pixels and bars were laid over, as #rrggbb.
    background: str | None = None
    #: How far its motion is to be believed: shares `trusted` and `dissolved`, pixels `largest`, a sentence `says`.
    motion: dict[str, Any] | None = None
    #: What to know before trusting the video, in sentences.
    warnings: list[str] = field(default_factory=list)
    #: In the order of the request: each one's `sha256`, and the `frame` that shows it, None where none does.
    keyframes: list[dict[str, Any]] = field(default_factory=list)
    #: The keyframes that were sampled as one, by their numbers from 0, for each latent; empty without a model.
    groups: list[list[int]] = field(default_factory=list)
    #: The motion bucket that each of these latents was asked for.
    motion_bucket_ids: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """Something that happened to a job."""

    #: `state`, `progress` or `preview`; others may come.
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    #: Where the stream stands after it; None for one that was not heard but found by asking.
    id: str | None = None

    @property
    def state(self) -> str | None:
        found: str | None = self.data.get("state")
        return found

    @property
    def progress(self) -> Progress | None:
        return read(Progress, self.data) if self.type == "progress" else None

    @property
    def preview(self) -> bytes | None:
        """A small JPEG of the frames as they are now."""
        if self.type != "preview":
            return None
        return base64.b64decode(str(self.data.get("image", "")).partition(",")[2])


class Record:
    """A job as last heard of; what both clients' `Job`s have in common. data: the server's own JSON."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def state(self) -> str:
        return str(self.data["state"])

    @property
    def over(self) -> bool:
        """Whether it succeeded, failed or was canceled."""
        return self.state in OVER

    @property
    def position(self) -> int | None:
        """Jobs that go before this one; None unless it is queued."""
        found: int | None = self.data.get("position")
        return found

    @property
    def progress(self) -> Progress | None:
        found = self.data.get("progress")
        return read(Progress, found) if found else None

    @property
    def reference(self) -> str | None:
        found: str | None = self.data.get("reference")
        return found

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.data["created_at"])

    @property
    def result(self) -> Result | None:
        """There once the job has succeeded."""
        found = self.data.get("result")
        return read(Result, {**found, "files": [read(File, file) for file in found["files"]]}) if found else None

    @property
    def files(self) -> list[File]:
        """All files of the result; none while there is no result."""
        return self.result.files if self.result else []

    @property
    def error(self) -> Problem | None:
        """Why a failed job failed."""
        found = self.data.get("error")
        return problem_of(found) if found else None

    def check(self) -> None:
        """Raise `JobFailed` or `JobCanceled` for a job that ended so."""
        if self.state == "failed":
            raise JobFailed(self.id, self.error or Problem("about:blank", "The job failed", 500))
        if self.state == "canceled":
            raise JobCanceled(self.id)

    def video(self, suffix: str, take: int = 1, format: str | None = None) -> File:
        """Find a take by the ending of its file, such as `.mp4`, or by a format. Raises `NoResult` if there is none."""
        result = self.found()
        takes = [file for file in result.files if file.take == take and file.name.startswith(f"take-{take}")]
        if not takes:
            raise NoResult(f"{self.id} has no take {take}: it has {len(result.seeds)}")
        fits = [file for file in takes if (file.format == format if format else file.name.endswith(suffix.lower()))]
        if not fits or not (suffix or format):
            has = ", ".join(file.format for file in takes)
            raise NoResult(
                f"{self.id} has no {format or suffix or 'format without a name'}: ask by `formats`; it has {has}"
            )
        # Some formats share a suffix: the one that is nothing but it goes first.
        return min(fits, key=lambda file: len(file.name))

    def file(self, name: str) -> File:
        """Find the file of that name. Raises `NoResult` when there is none."""
        for file in self.found().files:
            if file.name == name:
                return file
        raise NoResult(f"{self.id} has no file {name!r}: it has {', '.join(file.name for file in self.files)}")

    def found(self) -> Result:
        """Give the job's result.

        Raises `NoResult` while there is none, `JobFailed` and `JobCanceled` when there will be none.
        """
        self.check()
        if self.result is None:
            raise NoResult(f"{self.id} is {self.state}: wait() for it first")
        return self.result

    def heard(self, event: Event) -> None:
        """Bring the record up to an event, other than the job's end: what that brings with it is not in the event."""
        if event.type == "state":
            known = {name: event.data[name] for name in ("state", "attempt", "position") if name in event.data}
            self.data = {**self.data, "position": None, "progress": None, **known}
        elif event.type == "progress":
            self.data = {**self.data, "state": "running", "position": None, "progress": dict(event.data)}


def read(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make a dataclass of decoded JSON; members it does not have are left out."""
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in known})
