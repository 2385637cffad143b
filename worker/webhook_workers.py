"""The processes that deliver webhooks: several RQ workers, so that one owner's silent receivers hold up nobody else.

Each owner has a few tries at work at most, and RQ's queue holds no more of each. Needs no torch
and nothing that makes pictures. The launcher keeps some on every worker's machine; `inbetween-server webhooks` runs
nothing else. Single-threaded: it never waits for a child.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from service.settings import ServiceSettings
from service.webhooks.deliveries import queue_name
from worker.process import exit_codes, parent_death
from worker.process.supervise import Child, Wakeups

LOOK_SECONDS = 1.0
UNWIND_SECONDS = 30.0
"""Longer than a try may take: what has not ended by then is killed, and its try is made again elsewhere."""

Spawn = Callable[[list[str]], subprocess.Popen[bytes]]


def children(settings: ServiceSettings, spawn: Spawn = parent_death.spawn) -> list[Child]:
    """Give `WEBHOOK_WORKERS` processes, none of them started yet."""
    command = [sys.executable, "-P", "-m", "worker.listener", "--scheduler", queue_name(settings)]
    return [Child(f"webhooks-{n + 1}", partial(spawn, command)) for n in range(settings.webhook_workers)]


def run(settings: ServiceSettings) -> int:
    """Deliver until SIGTERM or SIGINT; tries that are being made are finished first. Returns the exit code."""
    exit_codes.need_redis(settings).close()
    wakeups, workers = Wakeups(), children(settings)
    kill_at: float | None = None
    while True:
        now = time.monotonic()
        for worker in workers:
            worker.ended(now)
        parent_death.reap_strangers([worker.pid for worker in workers if worker.pid is not None])
        if kill_at is None:
            for worker in workers:
                worker.start(now)
        elif not any(worker.running for worker in workers):
            return 0
        elif now >= kill_at:
            for worker in workers:
                worker.kill()
        if wakeups.wait(LOOK_SECONDS) and kill_at is None:
            kill_at = time.monotonic() + UNWIND_SECONDS
            for worker in workers:
                worker.stop()
