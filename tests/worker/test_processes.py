"""Launcher, engine, stock RQ workers and keeper as real processes around a real Redis: whole jobs, and every death.

The model is the tiny random one; what the pictures look like is no matter here.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import redis
from PIL import Image

from mpd.methods import METHODS
from service.engines import Engine, EngineState, live
from service.jobs import Job, Jobs, NewJob, State, files_prefix, new_id
from service.settings import Settings
from service.storage import Storage, open_storage

PATIENCE = 120.0
"""Seconds that nothing here should ever take; a test that waits this long has failed."""


LARGE = [(1200, 800), (1200, 800)]
"""Sizes of keyframes that keep `flow` busy for a while."""


class Site:
    """One namespace with its settings, and the processes started in it."""

    def __init__(self, redis_url: str, area: Path, **variables: str) -> None:
        self.variables = {
            "REDIS_URL": redis_url,
            "NAMESPACE": f"site-{new_id()[-8:]}",
            "STORAGE_URL": str(area / "storage"),
            "LEASE_TTL": "2",
            "WORKERS_PER_ENGINE": "2",
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        self.area = area
        self.settings = Settings(_env_file=None, **{name.lower(): value for name, value in self.variables.items()})
        self.redis = redis.Redis.from_url(redis_url)
        self.jobs = Jobs(self.redis, self.settings)
        self.storage: Storage = open_storage(self.settings, self.redis)
        self.started: list[psutil.Popen] = []

    launcher: psutil.Popen

    def start(self, command: str, **variables: str) -> psutil.Popen:
        environment = {**os.environ, **self.variables, **variables}
        with (self.area / f"{command}.log").open("ab") as output:
            process = psutil.Popen(
                [sys.executable, "-m", "worker.cli", command], env=environment, stdout=output, stderr=output
            )
        self.started.append(process)
        return process

    def submit(self, method: str, sizes: list[tuple[int, int]] | None = None, **options: Any) -> Job:
        """A job as the API writes it down: keyframes in storage first."""
        job_id = new_id()
        keyframes = []
        for number, size in enumerate(sizes or [(64, 64), (64, 64)]):
            buffer = io.BytesIO()
            Image.fromarray(picture(size, number)).save(buffer, "PNG")
            key = f"{files_prefix(job_id)}keyframes/{number}"
            self.storage.put(key, buffer.getvalue(), "image/png")
            keyframes.append({"key": key, "content_type": "image/png", "sha256": "0" * 64, "size": buffer.tell()})
        wanted = {"method": method, "formats": ["mp4"], "frames": 8, **options}
        lane = "gpu" if METHODS[method].needs_model else "cpu"
        return self.jobs.submit(NewJob("local", wanted, keyframes, lane, result_ttl=600, id=job_id))

    def events(self, job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
        """The job's event stream from its beginning."""
        last = b"0"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for _, entries in self.redis.xread({self.jobs.keys.events(job.id): last}, block=1000):
                for entry, fields in entries:
                    last = entry
                    yield fields[b"type"].decode(), json.loads(fields[b"data"])
        raise AssertionError(f"{self.jobs.get(job.id)} went no further:\n{self.log()}")

    def until(self, job: Job, kind: str, **values: Any) -> dict[str, Any]:
        """The first event of this kind with these values."""
        return next(data for name, data in self.events(job) if name == kind and values.items() <= data.items())

    def stepping(self, job: Job) -> dict[str, Any]:
        """The first step that is reported; those that come fast are left out."""
        return next(data for name, data in self.events(job) if name == "progress" and "step" in data)

    def ended(self, job: Job) -> Job:
        """The job's record once it has ended."""
        for name, data in self.events(job):
            if name == "state" and State(data["state"]).is_terminal:
                break
        found = self.jobs.get(job.id)
        assert found is not None
        return found

    def engine(self, state: EngineState = EngineState.ready) -> Engine:
        """What the engine says once it is in this state."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for engine in live(self.redis, self.settings):
                if engine.state is state:
                    return engine
            time.sleep(0.05)
        raise AssertionError(f"no engine is {state}:\n{self.log()}")

    def process(self, of: psutil.Process, word: str) -> psutil.Process:
        """The process below `of` whose command line has this word."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for child in of.children(recursive=True):
                if word in " ".join(child.cmdline()):
                    return child
            time.sleep(0.05)
        raise AssertionError(f"no {word} below {of}")

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.area.glob("*.log")))

    def close(self) -> None:
        for process in self.started:
            if process.is_running():
                process.kill()
            process.wait(10)
        self.redis.close()


def picture(size: tuple[int, int], number: int) -> np.ndarray:
    """A smooth picture with a bright square that moves with `number`."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 200 // width, y * 200 // height, np.full_like(x, 60)], axis=-1).astype(np.uint8)
    left = width // 8 + number * width // 16
    pixels[height // 4 : height // 2, left : left + width // 4] = 255
    return pixels


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them end soon."""
    return not psutil.wait_procs(processes, timeout=10)[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    subprocess.run([sys.executable, "-m", "mpd.tiny", str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def site(redis_server: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with an engine that is ready, workers and a keeper."""
    site = Site(redis_server, tmp_path_factory.mktemp("site"), MODEL=str(tiny), STALL_SECONDS="3", DRAIN_GRACE="0")
    site.launcher = site.start("worker")
    site.start("keeper")
    site.engine()
    yield site
    site.close()


@pytest.fixture
def bare(redis_server: str, tmp_path: Path) -> Iterator[Site]:
    """A site without a model, where nothing runs yet."""
    site = Site(redis_server, tmp_path)
    yield site
    site.close()


def test_a_flow_job_leaves_a_whole_result(site: Site) -> None:
    job = site.ended(site.submit("flow", [(96, 64), (90, 70)], formats=["mp4", "gif"], frames=9, fps=12))
    assert job.state is State.succeeded, job.error
    assert job.result is not None
    assert (job.result["frames"], job.result["fps"], job.result["model"]) == (9, 12, None)
    names = {file["name"] for file in job.result["files"]}
    assert names == {"take-1.mp4", "take-1.gif", "poster.jpg", "contact-sheet.png", "metadata.json"}
    prefix = f"{files_prefix(job.id)}{job.attempt}/"
    manifest = json.loads(site.storage.get(prefix + "manifest.json"))
    assert set(site.storage.list(prefix)) == {
        prefix + file["name"] for file in [*manifest["files"], *manifest["stills"], {"name": "manifest.json"}]
    }
    assert [file["name"] for file in manifest["stills"]] == [f"take-1/frame-{n:04d}.jpg" for n in range(9)]
    with av.open(io.BytesIO(site.storage.get(prefix + "take-1.mp4"))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 9
    assert np.abs(frames[0].astype(int) - picture((96, 64), 0)).mean() < 8


def test_a_diffusion_job_reports_its_steps_and_gives_the_frames_asked_for(site: Site) -> None:
    job = site.submit("mpd-vibid", steps=3, seeds=[5, 6])
    seen = [data for name, data in _until_end(site, job) if name == "progress"]
    stages = [data["stage"] for data in seen]
    assert [stage for n, stage in enumerate(stages) if stage not in stages[:n]] == [
        "fetching", "waiting", "sampling", "encoding", "uploading"
    ]  # fmt: skip
    fractions = [data["fraction"] for data in seen if "fraction" in data]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    done = site.jobs.get(job.id)
    assert done is not None
    assert done.result is not None
    assert (done.result["frames"], done.result["width"], done.result["seeds"]) == (8, 64, [5, 6])
    assert done.result["model"]["native_frames"] == 8
    assert {"take-1.mp4", "take-2.mp4"} <= {file["name"] for file in done.result["files"]}


def _until_end(site: Site, job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, data in site.events(job):
        yield name, data
        if name == "state" and State(data["state"]).is_terminal:
            return


def test_what_the_model_cannot_do_fails_at_once_and_names_the_field(site: Site) -> None:
    job = site.ended(site.submit("svd", [(64, 64)], steps=1, width=100, height=64))
    assert (job.state, job.attempt) == (State.failed, 1)
    assert job.error is not None
    assert job.error["field"] == "options.width"


def test_a_keyframe_that_is_no_image_fails_at_once(site: Site) -> None:
    job_id = new_id()
    key = f"{files_prefix(job_id)}keyframes/0"
    site.storage.put(key, b"not an image", "image/png")
    keyframe = {"key": key, "content_type": "image/png", "sha256": "0" * 64, "size": 12}
    new = NewJob("local", {"method": "flow", "formats": ["mp4"]}, [keyframe], "cpu", result_ttl=600, id=job_id)
    job = site.ended(site.jobs.submit(new))
    assert (job.state, job.attempt) == (State.failed, 1)
    assert job.error is not None
    assert (job.error["type"], job.error["field"]) == ("/problems/invalid-image", "keyframes[0]")


def test_cancel_stops_a_running_job_and_only_that(site: Site) -> None:
    first = site.submit("mpd-vibid", steps=100)
    second = site.submit("svd", steps=2)
    site.stepping(first)
    site.jobs.cancel(first.id)
    assert site.ended(first).state is State.canceled
    assert site.ended(second).state is State.succeeded


def test_an_engine_killed_in_the_middle_costs_its_job_one_death_and_the_waiting_job_none(site: Site) -> None:
    sampled = site.submit("mpd-vibid", steps=20)
    site.stepping(sampled)
    waiting = site.submit("svd", steps=2)
    site.until(waiting, "progress", stage="waiting")
    site.process(site.launcher, "worker.engine").send_signal(signal.SIGKILL)
    waited, retried = site.ended(waiting), site.ended(sampled)
    assert (waited.state, waited.attempt, waited.deaths) == (State.succeeded, 1, 0)
    assert (retried.state, retried.attempt, retried.deaths, retried.errors) == (State.succeeded, 2, 1, 0)


def test_an_engine_that_hangs_is_killed_and_the_job_goes_on(site: Site) -> None:
    job = site.submit("mpd-vibid", steps=20)
    site.stepping(job)
    engine = site.process(site.launcher, "worker.engine")
    engine.send_signal(signal.SIGSTOP)
    assert gone([engine])
    done = site.ended(job)
    assert (done.state, done.deaths) == (State.succeeded, 1)


def test_a_killed_work_horse_is_found_by_its_lease(site: Site) -> None:
    job = site.submit("mpd-vibid", steps=20)
    site.stepping(job)
    running = site.jobs.get(job.id)
    assert running is not None
    assert running.worker is not None
    os.kill(int(running.worker.rpartition("-")[2]), signal.SIGKILL)
    done = site.ended(job)
    assert (done.state, done.attempt, done.deaths) == (State.succeeded, 2, 1)


def test_sigterm_gives_a_running_job_back_at_no_cost_and_leaves_nothing(bare: Site) -> None:
    launcher = bare.start("worker", DRAIN_GRACE="0")
    job = bare.submit("flow", LARGE, frames=100)
    bare.until(job, "progress", stage="sampling")
    below = launcher.children(recursive=True)
    launcher.terminate()
    assert bare.until(job, "state", state="queued", attempt=2)
    assert launcher.wait(60) == 0
    assert gone(below)
    released = bare.jobs.get(job.id)
    assert released is not None
    assert (released.deaths, released.errors) == (0, 0)


def test_sigterm_lets_a_short_job_end(bare: Site) -> None:
    launcher = bare.start("worker", DRAIN_GRACE="60")
    job = bare.submit("flow", LARGE, frames=12)
    bare.until(job, "progress", stage="sampling")
    launcher.terminate()
    assert launcher.wait(60) == 0
    assert bare.ended(job).attempt == 1


def test_nothing_outlives_a_killed_launcher(bare: Site, tiny: Path) -> None:
    launcher = bare.start("worker", MODEL=str(tiny))
    job = bare.submit("flow", LARGE, frames=100)
    bare.until(job, "progress", stage="sampling")
    bare.process(launcher, "worker.engine")
    below = launcher.children(recursive=True)
    assert len(below) >= 5  # engine, cpu worker and its work-horse, webhooks worker and RQ's scheduler
    launcher.kill()
    launcher.wait(10)
    assert gone(below)


def test_without_a_model_flow_runs_and_no_engine_is_there(bare: Site) -> None:
    launcher = bare.start("worker")
    assert bare.ended(bare.submit("flow")).state is State.succeeded
    assert not any("worker.engine" in " ".join(child.cmdline()) for child in launcher.children(recursive=True))
    launcher.terminate()
    assert launcher.wait(30) == 0


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"MODEL": "/no/such/model"}, 78, "MODEL: /no/such/model"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, 69, "Redis does not answer at 127.0.0.1:1/0"),
        ({"LEASE_TTL": "soon"}, 78, "LEASE_TTL='soon' cannot be used"),
        ({"ENGINE_DIR": "/tmp/" + "d" * 120, "MODEL": "x"}, 78, "too long for a unix socket"),
    ],
)
def test_what_is_wrong_outside_is_one_line_and_an_exit_code(
    bare: Site, variables: dict[str, str], code: int, words: str
) -> None:
    launcher = bare.start("worker", **variables)
    assert launcher.wait(60) == code
    assert words in bare.log()
    assert "Traceback" not in bare.log()
