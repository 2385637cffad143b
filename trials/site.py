"""A whole site for tests: launcher, engine, stock RQ workers and keeper as real processes around a real Redis."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from mpd.methods import METHODS
from service.database.connections import connect
from service.fleet.engines import Engine, EngineState, live
from service.jobs.record import Job, Lane, NewJob, State, files_prefix, new_id
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import Storage, open_storage
from trials.processes import LONGEST_WAIT, Processes

PATIENT_LEASE = "6"
"""Seconds. What gets no processor for so long looks dead, and a busy machine lets a process wait for two or three."""
LARGE = [(1200, 800), (1200, 800)]
"""Sizes of keyframes that keep `flow` busy for a while."""


class Site(Processes):
    """One namespace with its settings, and the processes started in it."""

    def __init__(self, redis_url: str, area: Path, **variables: str) -> None:
        given = {
            "REDIS_URL": redis_url,
            "NAMESPACE": f"site-{new_id()[-8:]}",
            "STORAGE_URL": str(area / "storage"),
            "LEASE_TTL": PATIENT_LEASE,
            "WORKERS_PER_ENGINE": "2",
            "WEBHOOK_WORKERS": "1",
            "OMP_NUM_THREADS": "1",
            "RIFE": "off",
            **variables,
        }
        super().__init__(area, given)
        known: dict[str, Any] = {name.lower(): value for name, value in self.variables.items()}
        self.settings = ServiceSettings(_env_file=None, **known)
        self.redis = connect(self.settings)
        self.jobs = Jobs(self.redis, self.settings)
        self.storage: Storage = open_storage(self.settings, self.redis)

    launcher: psutil.Popen

    def submit(
        self, method: str, sizes: list[tuple[int, int]] | None = None, see_through: bool = False, **options: Any
    ) -> Job:
        """Submit a job as the API writes it down, keyframes in storage first.

        see_through: they are transparent to the left of the middle.
        """
        job_id = new_id()
        keyframes = []
        for number, size in enumerate(sizes or [(64, 64), (64, 64)]):
            buffer = io.BytesIO()
            image = Image.fromarray(picture(size, number))
            if see_through:
                image.putalpha(
                    Image.fromarray(np.repeat([0, 255], size[0] // 2)[None].repeat(size[1], 0).astype(np.uint8))
                )
            image.save(buffer, "PNG")
            key = f"{files_prefix(job_id)}keyframes/{number}"
            self.storage.put(key, buffer.getvalue(), "image/png")
            digest = hashlib.sha256(buffer.getvalue()).hexdigest()
            keyframes.append({"key": key, "content_type": "image/png", "sha256": digest, "size": buffer.tell()})
        wanted = {"method": method, "formats": ["mp4"], "frames": 8, **options}
        lane: Lane = "gpu" if METHODS[method].needs_model else "cpu"
        return self.jobs.submit(NewJob("local", wanted, keyframes, lane, result_ttl=600, id=job_id))

    def events(self, job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the job's event stream from its beginning, as long as it goes on."""
        last = b"0"
        deadline = time.monotonic() + LONGEST_WAIT
        while time.monotonic() < deadline:
            read: Any = self.redis.xread({self.jobs.keys.events(job.id): last}, block=1000)
            for _, entries in read:
                for entry, fields in entries:
                    last = entry
                    deadline = time.monotonic() + LONGEST_WAIT
                    yield fields[b"type"].decode(), json.loads(fields[b"data"])
        raise AssertionError(f"{self.jobs.get(job.id)} went no further:\n{self.log()}")

    def until(self, job: Job, kind: str, **values: Any) -> dict[str, Any]:
        """Wait for the first event of this kind with these values."""
        return next(data for name, data in self.events(job) if name == kind and values.items() <= data.items())

    def stepping(self, job: Job) -> dict[str, Any]:
        """Wait for the first step that is reported; those that come fast are left out."""
        return next(data for name, data in self.events(job) if name == "progress" and "step" in data)

    def ended(self, job: Job) -> Job:
        """Wait until the job has ended, and give its record."""
        for name, data in self.events(job):
            if name == "state" and State(data["state"]).is_terminal:
                break
        found = self.jobs.get(job.id)
        assert found is not None
        return found

    def engine(self, state: EngineState = EngineState.ready) -> Engine:
        """Wait until an engine is in this state, and give what it says."""
        deadline = time.monotonic() + LONGEST_WAIT
        while time.monotonic() < deadline:
            for engine in live(self.redis, self.settings):
                if engine.state is state:
                    return engine
            time.sleep(0.05)
        raise AssertionError(f"no engine is {state}:\n{self.log()}")

    def below(self, of: psutil.Process, count: int) -> list[psutil.Process]:
        """Wait until there are `count` processes below `of` or more, and list them all."""
        deadline = time.monotonic() + LONGEST_WAIT
        while len(found := of.children(recursive=True)) < count:
            assert time.monotonic() < deadline, f"{len(found)} processes below {of}:\n{self.log()}"
            time.sleep(0.05)
        return list(found)

    def process(self, of: psutil.Process, word: str) -> psutil.Process:
        """Wait for the process below `of` whose command line has this word."""
        deadline = time.monotonic() + LONGEST_WAIT
        while time.monotonic() < deadline:
            for child in of.children(recursive=True):
                if word in command(child):
                    return child
            time.sleep(0.05)
        raise AssertionError(f"no {word} below {of}")

    def close(self) -> None:
        super().close()
        self.redis.close()


def picture(size: tuple[int, int], number: int) -> np.ndarray:
    """Draw a smooth picture with a bright square that moves with `number`."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 200 // width, y * 200 // height, np.full_like(x, 60)], axis=-1).astype(np.uint8)
    left = width // 8 + number * width // 16
    pixels[height // 4 : height // 2, left : left + width // 4] = 255
    return pixels


def command(process: psutil.Process) -> str:
    """Give its command line, empty where it has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def gone(processes: list[psutil.Process]) -> bool:
    """Tell whether all of these processes end soon."""
    return not psutil.wait_procs(processes, timeout=10)[1]
