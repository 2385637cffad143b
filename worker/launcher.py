"""Runs an engine and the RQ workers beside it, and nothing else: starts, watches, restarts and drains them.

Workers of the gpu lane run only while the engine is ready. Without MODEL the engine holds the learned interpolator
alone, or there is none, and all workers serve the cpu lane. Some more deliver webhooks, so that a slow receiver never
holds up a job. While the machine is not well, no worker takes jobs. Everything under the launcher dies with it, however
it ends. Single-threaded: it never waits for a child.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import redis
import structlog

from mpd import hub
from service import machine
from service.fleet import engines
from service.fleet.engines import ENGINE_ID, EngineState
from service.settings import ServiceSettings
from worker import webhook_workers
from worker.engine import held, protocol
from worker.process import exit_codes, parent_death, scratch
from worker.process.fitness import LAUNCHER_FD, Fitness
from worker.process.supervise import Child, Wakeups
from worker.task.lease import DRAIN_FD, UNWIND_SECONDS

LOOK_SECONDS = 1.0
HURRIED_LOOK_SECONDS = 0.1
FIRST_STEP_FACTOR = 10
"""Before a job's first step, and while the engine starts, silence may last this many times longer."""

ENGINE = (sys.executable, "-P", "-m", "worker.engine.main")

log = structlog.get_logger("launcher")


def run(settings: ServiceSettings, engine: Sequence[str] = ENGINE) -> int:
    """Work until SIGTERM or SIGINT, then drain; a second one gives running jobs back at once. Returns the exit code.

    engine: the command that serves worker/engine/protocol.py at ENGINE_DIR and publishes itself.
    """
    connection = exit_codes.need_redis(settings)
    with scratch.folder() as own:
        folder = settings.engine_dir or own
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            protocol.socket_path(folder)
        except OSError as error:
            return exit_codes.explain(f"ENGINE_DIR: {error}", exit_codes.CONFIG)
        except ValueError as error:
            return exit_codes.explain(str(error), exit_codes.CONFIG)
        try:
            launcher = Launcher(settings, connection, folder, own, engine)
        except held.HeldError as error:
            return exit_codes.explain(str(error), exit_codes.CONFIG)
        return launcher.run()


class Launcher:
    """folder: of the engine's socket. scratch: for temporary files of jobs. Raises `HeldError`."""

    def __init__(
        self, settings: ServiceSettings, connection: redis.Redis, folder: Path, scratch: Path, engine: Sequence[str]
    ) -> None:
        self._settings = settings
        self._command = engine
        self._redis = connection
        self._wakeups = Wakeups()
        self._drain, self._drain_end = os.pipe()
        name = f"{socket.gethostname()}-{os.getpid()}"
        self._fitness = Fitness(settings, connection, name, partial(machine.trouble, scratch))
        self._environment = {
            "ENGINE_DIR": str(folder),
            ENGINE_ID: name,
            DRAIN_FD: str(self._drain),
            LAUNCHER_FD: str(self._fitness.pipe.writable),
        }
        self._scratch = scratch
        self._probe = protocol.StatusProbe(protocol.socket_path(folder))
        self._ready = False
        self._refused: str | None = None
        self._exit_code = 0
        self._release_at: float | None = None
        """When running jobs are given back; None unless we are stopping."""
        self._released = False
        beside = settings.workers_per_engine
        self._engine = Child("engine", self._spawn_engine) if held.anything(settings) else None
        self._laned = [self._worker(f"gpu-{n + 1}", "gpu") for n in range(beside)] if settings.model else []
        self._webhooks = webhook_workers.children(settings, self._spawn)
        self._others = [self._worker(f"cpu-{n + 1}", "cpu") for n in range(1 if settings.model else beside)]

    def run(self) -> int:
        while True:
            now = time.monotonic()
            self._look(now)
            if self._release_at is not None and self._wound_up(now):
                return self._exit_code
            hurried = self._release_at is not None or (
                self._engine is not None and not self._ready and not self._refused
            )
            for _ in self._wakeups.wait(HURRIED_LOOK_SECONDS if hurried else LOOK_SECONDS, self._fitness.pipe.readable):
                self._begin_stop(time.monotonic())

    def _look(self, now: float) -> None:
        """See what has ended and what has become ready, and start what should run."""
        for child in self._workers:
            child.ended(now)
        if self._engine is not None:
            self._look_at_engine(self._engine, now)
        children = [*self._workers, *([self._engine] if self._engine is not None else [])]
        parent_death.reap_strangers([child.pid for child in children if child.pid is not None])
        well = self._fitness.well(now)
        if self._release_at is not None:
            return
        wanted = self._others + (self._laned if self._ready else [])
        if not well:
            # Deliveries go on: they need next to nothing, and nobody else may be there for them.
            for child in self._others + self._laned:
                child.stop()
            wanted = []
        for child in self._webhooks + wanted:
            child.start(now)

    def _look_at_engine(self, engine: Child, now: float) -> None:
        code = engine.ended(now)
        if code is not None:
            self._engine_ended(code, now)
        if self._release_at is None and engine.start(now):
            log.info("engine starting", model=self._settings.model, pid=engine.pid)
            # The engine says so itself once it has read its libraries, which takes seconds.
            self._publish(EngineState.starting)
        if not engine.running:
            return
        status = self._probe.ask(now)
        if status is not None and status.state == "ready":
            self._heed(status.refuses)
        silence = stalled(self._settings, status, self._probe.silent_seconds(now), self._ready)
        if silence is not None:
            log.error("engine stalled, killing it", silent_seconds=round(silence, 1))
            engine.kill()

    def _heed(self, refuses: str | None) -> None:
        """Let the engine's workers take jobs, or have them take no more. The engine goes on with what it has."""
        if refuses and refuses != self._refused:
            log.error("engine takes no jobs", reason=refuses)
        if refuses is None and not self._ready:
            log.info("engine ready")
        if refuses is not None:
            for child in self._laned:
                child.stop()
        self._refused, self._ready = refuses, refuses is None

    def _engine_ended(self, code: int, now: float) -> None:
        self._ready = False
        self._probe.close()
        for child in self._laned:
            child.stop()
        if code == exit_codes.CONFIG and self._release_at is None:
            self._exit_code = code
            self._begin_stop(now)
        try:
            if self._release_at is not None and code != exit_codes.CONFIG:
                engines.withdraw(self._redis, self._settings, self._environment[ENGINE_ID])
        except redis.RedisError as error:
            log.warning("the engine's end is not published", error=str(error))
        if self._release_at is None:
            self._publish(EngineState.failed, f"it ended with code {code} and is started again")

    def _publish(self, state: EngineState, error: str | None = None) -> None:
        """Say of the engine what it cannot say itself."""
        model = self._settings.model
        engine = engines.Engine(
            id=self._environment[ENGINE_ID],
            state=state,
            model=engines.shown_name(model),
            revision=self._settings.model_revision,
            device=self._settings.device,
            default_method=hub.default_method(Path(model).expanduser() / "README.md"),
            started_at=time.time(),
            error=error,
        )
        try:
            engines.publish(self._redis, self._settings, engine)
        except redis.RedisError as away:
            log.warning("the engine's state is not published", state=state, error=str(away))

    def _begin_stop(self, now: float) -> None:
        """Let running jobs end within the grace, the first time; have them given back now, the second time."""
        if self._release_at is not None:
            self._release_at = now
            return
        log.info("stopping", grace_seconds=self._settings.drain_grace)
        self._release_at = now + self._settings.drain_grace
        for child in self._workers:
            child.stop()

    def _wound_up(self, now: float) -> bool:
        """Take one step of stopping: the workers first, then the engine. True when nothing runs any more."""
        assert self._release_at is not None
        workers = [child for child in self._workers if child.running]
        if workers and now >= self._release_at and not self._released:
            log.info("giving running jobs back")
            os.close(self._drain_end)
            self._released = True
        overdue = now >= self._release_at + UNWIND_SECONDS + 5
        if overdue:
            for child in workers:
                child.kill()
        if workers:
            return False
        if self._engine is not None and self._engine.running:
            self._engine.kill() if overdue else self._engine.stop()
            return False
        return True

    @property
    def _workers(self) -> list[Child]:
        return self._laned + self._others + self._webhooks

    def _worker(self, name: str, lane: str) -> Child:
        command = [sys.executable, "-P", "-m", "worker.listener", *self._settings.queues[lane]]
        return Child(name, partial(self._spawn, command))

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {**self._environment, "TMPDIR": str(self._scratch)}
        return parent_death.spawn(command, environment=environment, pass_fds=[self._drain, self._fitness.pipe.writable])

    def _spawn_engine(self) -> subprocess.Popen[bytes]:
        # What an engine that is killed leaves there goes with the launcher.
        return parent_death.spawn(self._command, environment={**self._environment, "TMPDIR": str(self._scratch)})


def stalled(settings: ServiceSettings, status: protocol.Status | None, unanswered: float, ready: bool) -> float | None:
    """Return the seconds an engine has been silent, when that is too long; else None.

    status: its latest answer. unanswered: seconds since a question that it has not answered.
    """
    floor = settings.stall_seconds
    if unanswered > (floor if ready else FIRST_STEP_FACTOR * floor):
        return unanswered
    if status is None or status.quiet_seconds is None:
        return None
    patience = FIRST_STEP_FACTOR * floor
    if status.median_step is not None:
        patience = max(floor, settings.stall_factor * status.median_step)
    return status.quiet_seconds if status.quiet_seconds > patience else None
