"""A work-horse's side of the engine: waits for it, hands a job over, and hears its steps and frames.

The engine may die and come back at any time. A job that only waits for it waits on; one that was being sampled raises
`EngineDied`. Knows nothing of job records or storage.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Client, Connection, wait
from typing import Any

from mpd.methods import METHODS, Settings
from mpd.progress import MotionReport, Pictures, Take
from worker.engine import protocol
from worker.task.lease import Lease

PATIENCE_SECONDS = 300.0
"""How long a job waits for an engine that is away before it is given back, perhaps to another machine."""


class EngineDied(Exception):
    """The engine went away while it was sampling this job."""


class EngineAway(Exception):
    """No engine has been there for `PATIENCE_SECONDS`, or it was told to end in the middle of this job."""


class EngineError(Exception):
    """The engine could not generate this job.

    kind: `bad-input` or `internal`. field, remedy: as of a `SettingsError`, for bad input.
    """

    def __init__(self, kind: str, detail: str, field: str | None = None, remedy: str | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.field = field
        self.remedy = remedy


@dataclass(frozen=True)
class EngineReport:
    """Where a job is."""

    #: `waiting`, `sampling` or `sampled`.
    stage: str
    #: The numbers of a step.
    values: dict[str, Any]
    #: A small JPEG.
    preview: bytes | None = None


class _Gone(Exception):
    """The connection ended, or never came about."""


def capabilities(path: str, lease: Lease, method: str) -> dict[str, Any]:
    """Ask the engine at `path` for what makes a method's frames, once it is loaded.

    Gives what `JobServer.model` or one of `JobServer.interpolators` says. Raises `EngineError` where it holds nothing
    of the kind, `EngineAway`, and `Interrupted` from the lease.
    """
    interpolator = METHODS[method].interpolator
    for _ in _attempts(lease):
        try:
            with _connection(path) as engine:
                protocol.send(engine, "status", {})
                status = _hear(engine, lease).values
        except _Gone:
            continue
        known = status["interpolators"]
        holds = status["model"] if interpolator is None else (known or {}).get(interpolator)
        if holds is not None:
            return dict(holds)
        if known is None:  # it is still loading
            continue
        if interpolator is not None or status["state"] == "ready":
            raise EngineError("bad-input", f"this worker does not have {method}", "method", "Choose another method")
    raise EngineAway


def sample(
    path: str,
    name: str,
    pictures: Sequence[Pictures],
    settings: Settings,
    bits: int,
    lease: Lease,
    traceparent: str | None = None,
) -> Generator[EngineReport | Take, None, None]:
    """Have the engine at `path` generate a job called `name`, frames of 8 or 16 `bits` a sample.

    Leaving the loop early closes the connection, which stops the job at its next step. Raises `EngineDied`,
    `EngineAway`, `EngineError`, and `Interrupted` from the lease.
    """
    for _ in _attempts(lease):
        started = False
        try:
            with _connection(path) as engine:
                shapes = [one.shape for one in pictures]
                values = {"job": name, "settings": asdict(settings), "pictures": shapes, "bits": bits}
                values["traceparent"] = traceparent
                protocol.send(engine, "generate", values, pictures)
                while (message := _hear(engine, lease)).type != "done":
                    started = started or message.type == "started"
                    event = _event(message)
                    del message  # and with it a take's raw frames, of which the event has its own copy
                    yield event
                yield EngineReport("sampled", message.values)
                return
        except (_Gone, OSError) as error:
            if started:
                raise EngineDied from error
    raise EngineAway


def _attempts(lease: Lease) -> Iterator[None]:
    """Begin once, and again with growing pauses until the patience is over."""
    began, pause = time.monotonic(), 0.1
    while time.monotonic() - began < PATIENCE_SECONDS:
        yield
        lease.wait(pause)
        pause = min(2.0, 1.5 * pause)


@contextmanager
def _connection(path: str) -> Iterator[Connection]:
    try:
        engine = Client(path, family="AF_UNIX")
    except OSError as error:
        raise _Gone from error
    with engine:
        yield engine


def _hear(engine: Connection, lease: Lease) -> protocol.Message:
    """Wait for the next message. Raises `_Gone`, and `Interrupted` as soon as the lease does."""
    wait([engine, lease.fileno()])
    lease.check()
    try:
        return protocol.receive(engine)
    except (EOFError, OSError) as error:
        raise _Gone from error


def _event(message: protocol.Message) -> EngineReport | Take:
    values = message.values
    match message.type:
        case "waiting":
            return EngineReport("waiting", {})
        case "started":
            return EngineReport("sampling", {})
        case "progress":
            return EngineReport("sampling", values, message.parts[0] if message.parts else None)
        case "take":
            frames = protocol.frames(message.parts, values["shape"], values["bits"])
            matte = frames[..., 3] if frames.shape[3] == 4 else None
            motions = tuple(MotionReport(**one) if one is not None else None for one in values["motions"])
            return Take(
                values["index"],
                values["seed"],
                frames[..., :3],
                values["fps"],
                matte,
                motions=motions,
                interpolator=values["interpolator"],
                groups=tuple(tuple(group) for group in values["groups"]),
                motion_bucket_ids=tuple(values["motion_bucket_ids"]),
            )
        case "canceled":
            # Not by us, who would have closed the connection: the engine was told to end.
            raise EngineAway("the engine was told to end")
        case "error" if values["kind"] == "cuda":
            raise EngineDied(values["detail"])
        case "error":
            raise EngineError(**values)
    raise protocol.ProtocolError(f"unexpected message {message.type!r}")
