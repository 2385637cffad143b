"""The line of jobs before the GPU: clients of `protocol.py` on one side, one `generate` at a time on the other.

Knows nothing of models, CUDA devices, Redis or job records: what generates is given to `JobServer.run`.
"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from mpd.methods import Settings, SettingsError
from mpd.progress import Frames, Pictures, Progress, Take
from service.observe import tracing
from worker.engine import previews, protocol

LAST_WORDS_SECONDS = 2.0

Generate = Callable[[list[Pictures], Settings, int], Iterator[Progress | Take]]
"""Pictures, settings and the bits of a sample in; `mpd.segments.generate` without its model."""
OnJob = Callable[[Settings, list[Take], float], None]
log = structlog.get_logger("engine")


class CudaFailed(Exception):
    """The CUDA context is lost: this process cannot generate any more."""


@dataclass
class _JobClient:
    """One connection. What is sent waits in a queue, so that a slow reader never holds up the GPU."""

    connection: Connection
    outbox: queue.SimpleQueue[tuple[str, dict[str, Any], tuple[bytes | Frames, ...]] | None] = field(
        default_factory=queue.SimpleQueue
    )
    gone: threading.Event = field(default_factory=threading.Event)
    #: Whether everything before the outbox' end has been sent.
    written: threading.Event = field(default_factory=threading.Event)

    def send(self, kind: str, values: dict[str, Any], *parts: bytes | Frames) -> None:
        self.outbox.put((kind, values, parts))

    def write(self) -> None:
        """Send what is put into the outbox until it closes or the client goes away."""
        while (message := self.outbox.get()) is not None:
            try:
                protocol.send(self.connection, *message)
            except OSError:
                self.gone.set()
                return
        self.connection.close()
        self.written.set()


@dataclass
class _Job:
    name: str
    settings: Settings
    pictures: list[Pictures]
    bits: int
    traceparent: str | None
    client: _JobClient
    canceled: threading.Event = field(default_factory=threading.Event)

    @property
    def stopped(self) -> bool:
        return self.canceled.is_set() or self.client.gone.is_set()


class JobServer:
    """The line of jobs and its one server. `run` belongs to the main thread; clients have threads of their own."""

    def __init__(self, path: str, on_change: Callable[[str | None], None] = lambda _: None) -> None:
        self.state = "starting"
        self.busy_with: str | None = None
        self.model: dict[str, Any] | None = None
        """What clients must know of the model to prepare a job; None until it is loaded."""
        self.interpolators: dict[str, dict[str, Any]] | None = None
        """What results tell of each learned interpolator; None until it is known which are held."""
        self.refuses: str | None = None
        """Why workers may give us no jobs, as `protocol.Status` tells them."""
        self._on_change = on_change
        self._line: deque[_Job] = deque()
        self._work = threading.Condition()
        self._stopping = False
        self._sign_of_life = 0.0
        self._steps: list[float] = []
        self._listener = Listener(path, family="AF_UNIX", backlog=64)
        # Its folder is its user's alone; should somebody open that, the socket still is.
        Path(path).chmod(0o600)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Have `run` return; the job being sampled stops at its next step."""
        with self._work:
            self._stopping = True
            self._work.notify_all()

    def run(self, generate: Generate, on_job: OnJob | None = None) -> None:
        """Generate the jobs of the line, first come first served, until `stop`.

        on_job: called after each finished job with its settings, its takes and the seconds it took.
        Raises `CudaFailed` after telling the client.
        """
        self.state = "ready"
        self._on_change(self.busy_with)
        while (job := self._next()) is not None:
            self._on_change(self.busy_with)
            try:
                self._serve(job, generate, on_job)
            finally:
                self.busy_with = None
                self._on_change(self.busy_with)

    def _next(self) -> _Job | None:
        with self._work:
            while not self._stopping:
                while self._line and self._line[0].stopped:
                    self._line.popleft().client.send("canceled", {})
                if self._line:
                    job = self._line.popleft()
                    self.busy_with = job.name
                    self._steps = []
                    self._sign_of_life = time.monotonic()
                    return job
                self._work.wait()
        return None

    def _serve(self, job: _Job, generate: Generate, on_job: OnJob | None) -> None:
        began = time.monotonic()
        takes = []
        job.client.send("started", {})
        try:
            for event in self._traced(job, generate):
                if isinstance(event, Take):
                    takes.append(event)
                    _send_take(job.client, event)
        except _Stopped:
            job.client.send("canceled", {})
            if self._stopping:
                # It must be heard before this process ends, which would look like a death.
                job.client.outbox.put(None)
                job.client.written.wait(LAST_WORDS_SECONDS)
            return
        except Exception as error:  # noqa: BLE001 — reported to the client, which knows what it means for the job
            self._report(job, error)
            return
        seconds = time.monotonic() - began
        job.client.send("done", {"seconds": seconds})
        if on_job is not None:
            on_job(job.settings, takes, seconds)

    def _traced(self, job: _Job, generate: Generate) -> Iterator[Progress | Take]:
        """Give the events of a job, each with a span of the time that it took."""
        name, _, attempt = job.name.rpartition("-")
        about = {"job": name, "attempt": attempt, "method": job.settings.method}
        with tracing.span("engine.generate", about, job.traceparent):
            began = tracing.now()
            for event in self._until_stopped(job, generate):
                ended = tracing.now()
                if isinstance(event, Progress):
                    tracing.record("engine.step", began, ended, {"step": event.step, "take": event.take + 1})
                else:
                    tracing.record("engine.take", began, ended, {"take": event.index + 1})
                yield event
                began = tracing.now()

    def _until_stopped(self, job: _Job, generate: Generate) -> Iterator[Progress | Take]:
        """Give the events of a job, its progress sent on the way.

        Raises `_Stopped` at the first step after a cancel.
        """
        previewed = time.monotonic()
        for event in generate(job.pictures, job.settings, job.bits):
            now = time.monotonic()
            if job.stopped or self._stopping:
                raise _Stopped
            if isinstance(event, Progress):
                self._steps.append(now - self._sign_of_life)
                parts: tuple[bytes, ...] = ()
                if now - previewed >= previews.SECONDS_BETWEEN:
                    previewed = now
                    parts = _preview(event)
                job.client.send("progress", protocol.numbers(event), *parts)
            self._sign_of_life = now
            yield event

    def _report(self, job: _Job, error: Exception) -> None:
        if isinstance(error, SettingsError):
            values = _bad_input(error)
        elif _is_cuda(error):
            values = {"kind": "cuda", "detail": str(error).splitlines()[0]}
        else:
            values = {"kind": "internal", "detail": f"{type(error).__name__}: {error}"}
        name, _, attempt = job.name.rpartition("-")
        about = {"job": name, "attempt": attempt, "trace": tracing.trace_id(job.traceparent)}
        log.error("generate failed", **about, **values, exc_info=values["kind"] != "bad-input")
        job.client.send("error", values)
        if values["kind"] == "cuda":
            raise CudaFailed(values["detail"]) from error

    def _accept(self) -> None:
        while True:
            client = _JobClient(self._listener.accept())
            threading.Thread(target=client.write, daemon=True).start()
            threading.Thread(target=self._listen, args=(client,), daemon=True).start()

    def _listen(self, client: _JobClient) -> None:
        """Take a client's messages until it closes or talks nonsense."""
        job: _Job | None = None
        try:
            while True:
                message = protocol.receive(client.connection)
                if message.type == "status":
                    client.send("status", self._status())
                elif message.type == "cancel" and job is not None:
                    job.canceled.set()
                elif message.type == "generate":
                    job = self._enqueue(client, message)
                else:
                    raise protocol.ProtocolError(f"unexpected message {message.type!r}")
        except (EOFError, OSError):
            client.gone.set()
        except (protocol.ProtocolError, KeyError, TypeError, ValueError) as error:
            log.error("client dropped", reason=f"{type(error).__name__}: {error}")
            client.gone.set()
        client.outbox.put(None)

    def _enqueue(self, client: _JobClient, message: protocol.Message) -> _Job | None:
        values = message.values
        try:
            settings = Settings.from_json(values["settings"])
        except SettingsError as error:
            client.send("error", _bad_input(error))
            return None
        if values["bits"] not in (8, 16):
            raise protocol.ProtocolError(f"{values['bits']!r} bits")
        pictures = protocol.pictures(message.parts, values["pictures"])
        job = _Job(values["job"], settings, pictures, values["bits"], values.get("traceparent"), client)
        with self._work:
            ahead = len(self._line) + (self.busy_with is not None)
            client.send("waiting", {"ahead": ahead})
            self._line.append(job)
            self._work.notify_all()
        return job

    def _status(self) -> dict[str, Any]:
        busy, steps = self.busy_with, self._steps
        return {
            "state": self.state,
            "model": self.model,
            "interpolators": self.interpolators,
            "busy_with": busy,
            "waiting": len(self._line),
            "quiet_seconds": time.monotonic() - self._sign_of_life if busy else None,
            "median_step": statistics.median(steps) if steps else None,
            "refuses": self.refuses,
        }


class _Stopped(Exception):
    """The client cancelled or went away."""


def _bad_input(error: SettingsError) -> dict[str, Any]:
    return {"kind": "bad-input", "detail": error.problem, "field": error.field, "remedy": error.remedy}


def _preview(progress: Progress) -> tuple[bytes, ...]:
    """Make a small JPEG of the current estimate, if the method can give one."""
    picture = progress.preview()
    return () if picture is None else (previews.jpeg(picture),)


def _send_take(client: _JobClient, take: Take) -> None:
    bits = 8 * take.frames.dtype.itemsize
    frames = take.frames if take.matte is None else np.concatenate([take.frames, take.matte[..., None]], -1)
    values = {"index": take.index, "seed": take.seed, "fps": take.fps, "shape": frames.shape, "bits": bits}
    motions = [asdict(one) if one is not None else None for one in take.motions]
    about = {"motions": motions, "interpolator": take.interpolator}
    latents = {"groups": take.groups, "motion_bucket_ids": take.motion_bucket_ids}
    client.send("take", {**values, **about, **latents}, *frames)


def _is_cuda(error: Exception) -> bool:
    """Tell whether the error leaves the CUDA context unusable. Running out of memory does not."""
    if type(error).__name__ == "OutOfMemoryError":
        return False
    return any(sign in str(error) for sign in ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS"))
