"""How long a job waits after a kill -9 until its next attempt starts: with this service, and with stock RQ alone.

Ours runs with the settings it ships with. Stock RQ is two plain `rq worker`s with its own maintenance and `Retry`, the
way its documentation advises for jobs that must survive their worker.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import redis
from PIL import Image
from rq import Queue, Retry
from rq.job import Job as Carried

from service.jobs.record import Job, NewJob, State, files_prefix, new_id
from trials.chaos.house import HOUSE_PATIENCE, House, below, has

STEPS = 60
"""Of a job that is long enough to be hit in its middle."""


def ours(house: House, whom: str) -> float:
    """Measure the seconds from the kill of a job's work-horse to the start of its next attempt.

    Or from the kill of its worker, and so of both.
    """
    job = _submit(house)
    running = _await(house, job, lambda now: now.state is State.running and "step" in (now.progress or {}))
    assert running.worker is not None
    horse = psutil.Process(int(running.worker.rpartition("-")[2]))
    victim = horse if whom == "horse" else psutil.Process(horse.ppid())
    victim.kill()
    killed = time.monotonic()
    _await(house, job, lambda now: now.state is State.running and now.attempt > running.attempt)
    seconds = time.monotonic() - killed
    house.jobs.delete(job)
    return seconds


def stock(house: House, area: Path, whom: str, patience: float) -> float | None:
    """Measure with stock RQ the seconds from a kill until the job is taken up again; None when none did in `patience`.

    whom: `horse`, `worker` (alone: its work-horse lives on), or `both`, as when a container is killed.
    """
    name = f"stock-{new_id()[-8:]}"
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", house.settings.redis_url, name]
    with (area / "stock.log").open("ab") as log:
        workers = [psutil.Popen(command, env={**os.environ}, stdout=log, stderr=log) for _ in range(2)]
    connection = redis.Redis.from_url(house.settings.redis_url)
    try:
        carried = Queue(name, connection=connection).enqueue("time.sleep", 600, retry=Retry(max=3), job_timeout=1200)
        horse = _horse(workers)
        worker = psutil.Process(horse.ppid())
        first = _started(carried)
        for victim in {"horse": [horse], "worker": [worker], "both": [worker, horse]}[whom]:
            victim.kill()
        killed = time.monotonic()
        while time.monotonic() - killed < patience:
            if _started(carried) not in (None, first):
                return time.monotonic() - killed
            time.sleep(0.1)
        return None
    finally:
        _kill_all(name)
        psutil.wait_procs(workers, timeout=10)
        connection.close()


def _submit(house: House) -> str:
    job = new_id()
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 90, 30)).save(picture, "PNG")
    keyframes = []
    for number in range(2):
        key = f"{files_prefix(job)}keyframes/{number}"
        house.storage.put(key, picture.getvalue(), "image/png")
        digest = hashlib.sha256(picture.getvalue()).hexdigest()
        keyframes.append({"key": key, "content_type": "image/png", "sha256": digest, "size": picture.tell()})
    options = {"method": "mpd-vibid", "formats": ["mp4"], "frames": 8, "steps": STEPS}
    return house.jobs.submit(NewJob("local", options, keyframes, "gpu", result_ttl=600, id=job)).id


def _await(house: House, job: str, wanted: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + HOUSE_PATIENCE
    while time.monotonic() < deadline:
        now = house.jobs.get(job)
        if now is not None and wanted(now):
            return now
        time.sleep(0.05)
    raise AssertionError(f"{house.jobs.get(job)} went no further; logs are in {house.area}")


def _horse(workers: list[psutil.Popen]) -> psutil.Process:
    """Find the work-horse that a worker has begun the job with; what a worker starts for a moment is none."""
    deadline = time.monotonic() + HOUSE_PATIENCE
    while time.monotonic() < deadline:
        for horse in (horse for worker in workers for horse in below(worker)):
            time.sleep(0.5)
            if horse.is_running():
                return horse
        time.sleep(0.05)
    raise AssertionError("stock RQ started no work-horse")


def _started(carried: Carried) -> str | None:
    """Tell which worker has started the job, and when."""
    when = carried.connection.hget(carried.key, "started_at")
    return when.decode() if when else None


def _kill_all(name: str) -> None:
    """Kill the workers of a queue, and the work-horses they have or left behind.

    Their command line is their worker's.
    """
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if has(one, name):
                one.kill()
