"""Launcher, engine, stock RQ workers and keeper as real processes around a real Redis: whole jobs, and every death.

The model is the tiny random one; what the pictures look like is no matter here.
"""

from __future__ import annotations

import hashlib
import io
import json
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest

from mpd.tiny import build
from service.fleet.engines import EngineState, live
from service.jobs.record import Job, NewJob, State, files_prefix, new_id
from trials.site import LARGE, Site, command, gone, picture


def test_a_flow_job_leaves_a_whole_result(site: Site) -> None:
    job = site.ended(site.submit("flow", [(96, 64), (90, 70)], formats=["mp4", "gif"], frames=9, fps=12))
    assert job.state is State.succeeded, job.error
    assert job.result is not None
    assert (job.result["frames"], job.result["fps"], job.result["model"]) == (9, 12, None)
    names = {file["name"] for file in job.result["files"]}
    assert names == {"take-1.mp4", "take-1.gif", "poster.jpg", "contact-sheet.jpg", "metadata.json"}
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


def test_a_diffusion_job_in_16_bits_with_its_transparency(site: Site) -> None:
    job = site.ended(site.submit("mpd", see_through=True, steps=1, formats=["png16", "mp4"], exact_keyframes=True))
    assert job.result is not None, job.error
    assert job.result["alpha"] is True
    prefix = f"{files_prefix(job.id)}{job.attempt}/"
    with zipfile.ZipFile(io.BytesIO(site.storage.get(prefix + "take-1-16bit.zip"))) as archive:
        contents = [np.frombuffer(archive.read(name), np.uint8) for name in archive.namelist()]
    frames = [cv2.cvtColor(cv2.imdecode(one, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA) for one in contents]
    assert {frame.dtype for frame in frames} == {np.dtype(np.uint16)}
    assert (frames[0][:, 32:, :3] == picture((64, 64), 0)[:, 32:].astype(int) * 257).all()
    assert (frames[0][..., 3] == np.repeat([0, 65535], 32)).all()
    assert (frames[3][..., :3] % 257 != 0).mean() > 0.4  # the model's own numbers, where anything of it is seen


def test_a_diffusion_job_reports_its_steps_and_gives_the_frames_asked_for(site: Site) -> None:
    before = gpu_used(site)
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
    assert gpu_used(site) - before == round(1000 * done.result["gpu_seconds"]) > 0


def gpu_used(site: Site) -> int:
    """Milliseconds charged to the owner of the site's jobs, on whatever day."""
    days: Any = site.redis.keys(f"{site.settings.namespace}:gpu-used:local:*")
    return sum(int(site.redis.get(day) or 0) for day in days)


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
    digest = hashlib.sha256(b"not an image").hexdigest()
    keyframe = {"key": key, "content_type": "image/png", "sha256": digest, "size": 12}
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
    site.process(site.launcher, "worker.engine.main").send_signal(signal.SIGKILL)
    waited, retried = site.ended(waiting), site.ended(sampled)
    assert (waited.state, waited.attempt, waited.deaths) == (State.succeeded, 1, 0)
    assert (retried.state, retried.attempt, retried.deaths, retried.errors) == (State.succeeded, 2, 1, 0)


def test_an_engine_that_is_told_to_end_gives_its_job_back_at_no_cost(site: Site) -> None:
    job = site.submit("mpd-vibid", steps=20)
    site.stepping(job)
    site.process(site.launcher, "worker.engine.main").terminate()
    done = site.ended(job)
    assert (done.state, done.attempt, done.deaths, done.errors) == (State.succeeded, 2, 0, 0)


def test_a_sigterm_to_all_processes_at_once_does_not_end_a_job(site: Site) -> None:
    job = site.submit("mpd-vibid", steps=20)
    site.stepping(job)
    running = site.jobs.get(job.id)
    assert running is not None
    assert running.worker is not None
    psutil.Process(int(running.worker.rpartition("-")[2])).terminate()
    done = site.ended(job)
    assert (done.state, done.attempt, done.deaths) == (State.succeeded, 1, 0)


def test_an_engine_that_hangs_is_killed_and_the_job_goes_on(site: Site) -> None:
    job = site.submit("mpd-vibid", steps=20)
    site.stepping(job)
    engine = site.process(site.launcher, "worker.engine.main")
    engine.send_signal(signal.SIGSTOP)
    assert gone([engine])
    done = site.ended(job)
    assert (done.state, done.deaths) == (State.succeeded, 1)


def test_a_cancel_does_not_wait_for_an_engine_that_hangs_and_hits_no_other_job(site: Site) -> None:
    wedged, waiting = site.submit("mpd-vibid", steps=100), None
    site.stepping(wedged)
    engine = site.process(site.launcher, "worker.engine.main")
    engine.send_signal(signal.SIGSTOP)
    waiting = site.submit("svd", steps=2)
    site.jobs.cancel(wedged.id)
    canceled = site.ended(wedged)
    assert engine.is_running(), "the job ended before its engine did"
    assert (canceled.state, canceled.attempt, canceled.deaths) == (State.canceled, 1, 0)
    assert gone([engine])
    done = site.ended(waiting)
    assert (done.state, done.attempt, done.deaths) == (State.succeeded, 1, 0)


@pytest.mark.parametrize(("whom", "cause"), [("work-horse", "work-horse"), ("worker", "lease")])
def test_the_job_of_a_killed_process_is_taken_back(site: Site, whom: str, cause: str) -> None:
    """A work-horse's by its worker at once; a worker's, which takes its work-horse along, by the keeper."""
    before = site.jobs.counters()
    job = site.submit("mpd-vibid", steps=20)
    site.stepping(job)
    running = site.jobs.get(job.id)
    assert running is not None
    assert running.worker is not None
    horse = psutil.Process(int(running.worker.rpartition("-")[2]))
    (horse if whom == "work-horse" else horse.parent()).kill()
    done = site.ended(job)
    assert (done.state, done.attempt, done.deaths) == (State.succeeded, 2, 1)
    now = site.jobs.counters()
    reclaimed = {name for name in now if name.startswith("reclaims_total") and now[name] > before.get(name, 0)}
    assert reclaimed == {f'reclaims_total{{cause="{cause}"}}'}


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


def test_a_second_sigterm_gives_a_running_job_back_within_the_grace(bare: Site) -> None:
    launcher = bare.start("worker", DRAIN_GRACE="600")
    job = bare.submit("flow", LARGE, frames=100)
    bare.until(job, "progress", stage="sampling")
    launcher.terminate()
    bare.until_said("worker", "stopping")
    launcher.terminate()
    assert launcher.wait(60) == 0
    released = bare.jobs.get(job.id)
    assert released is not None
    assert (released.state, released.attempt) == (State.queued, 2)
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
    bare.process(launcher, "worker.engine.main")
    below = bare.below(launcher, 5)  # engine, cpu worker and its work-horse, webhooks worker and RQ's scheduler
    launcher.kill()
    launcher.wait(10)
    assert gone(below)


def test_without_a_model_flow_runs_and_no_engine_is_there(bare: Site) -> None:
    launcher = bare.start("worker")
    assert bare.ended(bare.submit("flow")).state is State.succeeded
    assert not any("worker.engine.main" in command(child) for child in launcher.children(recursive=True))
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


def test_an_engine_of_another_model_takes_no_jobs_and_says_so(
    bare: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, other = (build(tmp_path_factory.mktemp("models") / "model", seed) for seed in (0, 1))
    bare.start("worker", MODEL=str(one))
    serving = bare.engine()
    refused = bare.start("worker", MODEL=str(other))
    failed = bare.engine(EngineState.failed)
    assert failed.id != serving.id
    assert failed.error is not None
    assert "MODEL_CHANGE" in failed.error
    jobs = [bare.submit("mpd", steps=1, seeds=[number]) for number in range(3)]
    assert {bare.ended(job).state for job in jobs} == {State.succeeded}
    listening = " ".join(command(child) for child in refused.children(recursive=True))
    assert not [queue for queue in bare.settings.queues["gpu"] if queue in listening]
    refused.terminate()
    assert refused.wait(60) == 0
    bare.start("worker", MODEL=str(other), MODEL_CHANGE="true")
    deadline = time.monotonic() + 60
    while len([one for one in live(bare.redis, bare.settings) if one.state is EngineState.ready]) < 2:
        assert time.monotonic() < deadline, bare.log()
        time.sleep(0.05)
