"""What an engine and its clients say to each other over a unix socket.

A message is one JSON header and as many raw byte messages as the header's `parts` says; nothing is ever pickled.
Knows nothing of models, jobs or Redis.

client → engine                                                        parts
  generate  job, settings (mpd.methods.Settings), pictures ([h, w, 3]),  one raw picture each, RGB, or
            bits (8 or 16, of the samples of the takes' frames),            with its matte ([h, w, 4])
            traceparent (of the span that asks, or null)
  cancel                                                                 stops the client's job at its next step
  status
engine → client
  waiting   ahead: how many jobs are before this one
  started   sampling has begun: from here on the engine's death is this job's
  progress  the numbers of mpd.progress.Progress                         none, or a small preview JPEG
  take      index, seed, fps, shape ([n, h, w, 3 or 4]), bits,           one raw frame each, 16 bits in this
            motions, interpolator, groups, motion_bucket_ids               machine's order of bytes
            (of mpd.progress.Take)
  done      seconds
  canceled
  error     kind (`bad-input`, `cuda`, `internal`), detail, field, remedy
  status    state, model, interpolators, busy_with, waiting, quiet_seconds, median_step, refuses

The directory of the socket is private to its owner (0700): whoever can open it may use the engine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np

from mpd.progress import Frames, Pictures, Progress

SOCKET_NAME = "engine.sock"
_MAX_HEADER = 1 << 20
_MAX_PART = 1 << 27
"""One RGBA picture of 2048 x 2048 is an eighth of this, one of 16 bits a quarter."""
_MAX_PARTS = 1 << 16
"""The frames of the longest video are a ninth of this."""
_MAX_PATH = 107
"""Bytes of a unix socket's path on Linux."""


class ProtocolError(Exception):
    """The other side sent something that is no message."""


@dataclass(frozen=True)
class Message:
    """A decoded message."""

    #: From the header, as the other values are.
    type: str
    values: dict[str, Any]
    #: The raw parts after the header.
    parts: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Status:
    """What an engine says of itself."""

    #: `starting` or `ready`.
    state: str
    #: Name, revision, license, device, dtype, native_size, size_multiple of the model once it is loaded, else None.
    model: dict[str, Any] | None
    #: Name, license, sha256, device and dtype of each learned interpolator, by its method's; None as above.
    interpolators: dict[str, Any] | None
    #: The job being sampled.
    busy_with: str | None
    #: Jobs behind it.
    waiting: int
    #: Since the last step (or start) of the job being sampled, None when idle.
    quiet_seconds: float | None
    #: Seconds a step of that job takes; None before its first.
    median_step: float | None
    #: Why no jobs may be given to it although it is ready, such as for its model; empty while that is not known yet;
    #: None when they may.
    refuses: str | None = None


def socket_path(folder: Path) -> str:
    """Name the engine's socket in `folder`. Raises ValueError when the system cannot hold so long a path."""
    path = str(folder / SOCKET_NAME)
    if len(path.encode()) > _MAX_PATH:
        raise ValueError(f"ENGINE_DIR: {folder} is too long for a unix socket; choose a path of at most 90 characters")
    return path


def send(connection: Connection, kind: str, values: dict[str, Any], parts: Sequence[bytes | Frames] = ()) -> None:
    """Send one message. An array goes as its bytes in C order."""
    connection.send_bytes(json.dumps({"type": kind, **values, "parts": len(parts)}).encode())
    for part in parts:
        # Connection counts the items of an array's buffer and not its bytes, which corrupts the stream.
        connection.send_bytes(part.tobytes() if isinstance(part, np.ndarray) else part)


def receive(connection: Connection) -> Message:
    """Wait for one message. Raises EOFError or OSError when the other side has gone, ProtocolError on nonsense."""
    try:
        header = json.loads(connection.recv_bytes(_MAX_HEADER))
        kind, count = header.pop("type"), header.pop("parts")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ProtocolError(f"no message header: {error}") from error
    if type(count) is not int or not 0 <= count <= _MAX_PARTS:
        raise ProtocolError(f"a message has no {str(count)[:20]} parts")
    return Message(kind, header, tuple(connection.recv_bytes(_MAX_PART) for _ in range(count)))


def pictures(parts: Sequence[bytes], shapes: Sequence[Sequence[int]]) -> list[Pictures]:
    """Read raw parts as writable (h, w, 3 or 4) arrays.

    Raises ProtocolError when a part does not have its shape's size.
    """
    if len(parts) != len(shapes):
        raise ProtocolError(f"{len(shapes)} shapes for {len(parts)} pictures")
    arrays = []
    for part, shape in zip(parts, shapes, strict=True):
        if len(shape) != 3 or shape[2] not in (3, 4) or len(part) != math.prod(shape):
            raise ProtocolError(f"{len(part)} bytes are no picture of shape {list(shape)}")
        arrays.append(np.frombuffer(part, np.uint8).reshape(shape).copy())
    return arrays


def frames(parts: Sequence[bytes], shape: Sequence[int], bits: int) -> Frames:
    """Read the raw frames of a take as one writable array (n, h, w, 3 or 4).

    Raises ProtocolError as `pictures` does.
    """
    if len(shape) != 4 or shape[0] != len(parts) or shape[3] not in (3, 4) or bits not in (8, 16):
        raise ProtocolError(f"{len(parts)} parts are no frames of shape {list(shape)} in {bits} bits")
    taken = np.empty(tuple(shape), np.uint8 if bits == 8 else np.uint16)
    for index, part in enumerate(parts):
        if len(part) != taken[index].nbytes:
            raise ProtocolError(f"{len(part)} bytes are no frame of shape {list(shape[1:])} in {bits} bits")
        taken[index] = np.frombuffer(part, taken.dtype).reshape(taken.shape[1:])
    return taken


def numbers(progress: Progress) -> dict[str, Any]:
    """Write the values of a `progress` message."""
    names = ("take", "takes", "segment", "segments", "step", "steps", "fraction", "sigma")
    return {name: getattr(progress, name) for name in names}


class StatusProbe:
    """Asks one engine for its status again and again, without ever waiting for it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: Connection | None = None
        self._asked = 0.0

    def ask(self, now: float) -> Status | None:
        """Give the answer to the last question if it has come, asking the next one; else None.

        now: a monotonic time in seconds.
        """
        try:
            if self._connection is None:
                self._connection = Client(self._path, family="AF_UNIX")
                self._question(now)
            if not self._connection.poll():
                return None
            values = receive(self._connection).values
            self._question(now)
        except (OSError, EOFError):
            self.close()
            return None
        return Status(**{field.name: values[field.name] for field in fields(Status)})

    def silent_seconds(self, now: float) -> float:
        """Return how long the last question has been unanswered; 0 while there is nobody to ask."""
        return now - self._asked if self._connection is not None else 0.0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _question(self, now: float) -> None:
        assert self._connection is not None
        send(self._connection, "status", {})
        self._asked = now
