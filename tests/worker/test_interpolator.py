"""An engine that holds the learned interpolator alone, in a launcher without MODEL."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from mpd.rife import weights
from service.jobs.record import State, files_prefix
from tests.mpd.test_film import Dissolve, saved
from trials.site import Site


@pytest.fixture(scope="module")
def site(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(redis_server, tmp_path_factory.mktemp("i"), RIFE="auto", WORKERS_PER_ENGINE="1")
    site.launcher = site.start("worker")
    site.start("keeper")
    yield site
    site.close()


def result(site: Site, **options: Any) -> dict[str, Any]:
    job = site.ended(site.submit("rife", **options))
    assert job.state is State.succeeded, job
    assert job.result is not None
    return job.result


def test_the_engine_says_what_it_can(site: Site) -> None:
    engine = site.engine()
    assert (engine.model, engine.methods) == ("", ("rife",))
    assert (engine.native_frames, engine.seconds_per_call, engine.default_method) == (None, None, None)


def test_a_job_names_the_network_and_its_licence(site: Site) -> None:
    made = result(site, frames=4, output_fps=14)
    (digest,) = weights.RELEASES
    assert made["model"] == {
        "name": "RIFE 4.0",
        "license": "MIT",
        "sha256": digest,
        "device": "cpu",
        "dtype": str(torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32)[6:],
    }
    assert made["interpolator"] is None, "all of them are the model's"


def test_a_result_names_the_motion_that_was_taken(site: Site) -> None:
    assert result(site, frames=3)["settings"]["motion"] == "auto"
    assert result(site, frames=3, motion="dis")["settings"]["motion"] == "dis"


def test_transparency_and_16_bits_pass_through_the_engine(site: Site) -> None:
    job = site.ended(site.submit("rife", frames=3, formats=["png16"], see_through=True))
    assert job.result is not None, job.error
    archived = site.storage.get(f"{files_prefix(job.id)}{job.attempt}/take-1-16bit.zip")
    with ZipFile(BytesIO(archived)) as archive:
        frames = [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".png")]
    assert len(frames) == 3
    with Image.open(BytesIO(frames[1])) as frame:
        assert frame.mode == "RGBA"
        assert sorted(np.unique(np.asarray(frame)[..., 3])) == [0, 255]
    assert [frame[24] for frame in frames] == [16, 16, 16], "the depth that their headers name"


def test_it_tells_each_frame_and_stops_at_a_cancel(site: Site) -> None:
    job = site.submit("rife", [(640, 384)] * 2, frames=200)
    step = site.stepping(job)
    assert 1 <= step["step"] < step["steps"]
    site.jobs.cancel(job.id)
    assert site.ended(job).state is State.canceled
    assert result(site, frames=3)


def test_flow_needs_no_engine(site: Site) -> None:
    made = site.ended(site.submit("flow"))
    assert made.result is not None
    assert made.result["model"] is None


def test_another_rate_and_where_each_keyframe_is_shown(site: Site) -> None:
    for method in ("flow", "rife"):
        made = site.ended(site.submit(method, [(48, 32)] * 3, frames=5, output_fps=24)).result
        assert made is not None
        assert (made["frames"], made["fps"]) == (28, 24)
        assert [one["frame"] for one in made["keyframes"]] == [0, 14, 27]
        assert all(len(one["sha256"]) == 64 for one in made["keyframes"])


def test_an_engine_that_dies_costs_its_job_one_death(site: Site) -> None:
    job = site.submit("rife", [(640, 384)] * 2, frames=24)
    site.stepping(job)
    site.process(site.launcher, "worker.engine.main").send_signal(signal.SIGKILL)
    ended = site.ended(job)
    assert (ended.state, ended.deaths) == (State.succeeded, 1)


def test_a_worker_without_an_engine_refuses_at_once(redis_url: str, tmp_path: Path) -> None:
    bare = Site(redis_url, tmp_path, RIFE="off")
    with bare:
        bare.start("worker")
        ended = bare.ended(bare.submit("rife"))
        assert ended.state is State.failed
        assert ended.error is not None
        assert (ended.error["field"], ended.error["remedy"]) == ("options.method", "Choose flow.")


def test_without_weights_the_job_goes_to_no_engine(redis_url: str, tmp_path: Path) -> None:
    bare = Site(redis_url, tmp_path, RIFE="off")
    with bare:
        launcher = bare.start("worker")
        assert bare.ended(bare.submit("flow")).state is State.succeeded
        assert not any("worker.engine.main" in " ".join(child.cmdline()) for child in launcher.children())


def test_a_network_of_the_operators_own_is_held_beside_rife(redis_url: str, tmp_path: Path) -> None:
    file = saved(Dissolve(), tmp_path / "dissolve.pt")
    own = Site(redis_url, tmp_path, RIFE="off", FILM=str(file), WORKERS_PER_ENGINE="1")
    with own:
        own.start("worker")
        assert own.engine().methods == ("film",)
        made = own.ended(own.submit("film", frames=5))
        assert made.result is not None, made.error
        facts = made.result["model"]
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert (facts["name"], facts["license"], facts["sha256"]) == ("dissolve", None, digest)
        assert own.ended(own.submit("rife")).state is State.failed


def test_a_model_s_frames_are_brought_to_another_rate_by_the_network_beside_it(
    redis_url: str, tmp_path: Path, tiny: Path
) -> None:
    both = Site(redis_url, tmp_path, MODEL=str(tiny), RIFE="auto")
    with both:
        both.start("worker")
        assert {"rife", "mpd-vibid"} <= set(both.engine().methods)
        job = both.ended(both.submit("mpd-vibid", frames=4, steps=2, output_fps=14, formats=["mp4", "png16"]))
        assert job.result is not None, job.error
        assert (job.result["frames"], job.result["fps"], job.result["settings"]["fps"]) == (7, 14, 7)
        assert [one["frame"] for one in job.result["keyframes"]] == [0, 6]
        facts = job.result["interpolator"]
        assert (facts["name"], facts["license"], facts["sha256"]) == ("RIFE 4.0", "MIT", next(iter(weights.RELEASES)))
        assert job.result["model"]["name"] != facts["name"]
        assert job.progress is not None
        assert job.progress["fraction"] == 1
        at_its_own = both.ended(both.submit("mpd-vibid", frames=4, steps=2))
        assert at_its_own.result is not None, at_its_own.error
        assert at_its_own.result["interpolator"] is None


def test_a_file_of_film_that_cannot_be_used_ends_the_launcher_with_the_reason(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no module")
    for name, words in (("none.pt", "there is no such file"), ("text.pt", "is no TorchScript")):
        with Site(redis_url, tmp_path, FILM=str(tmp_path / name)) as bare:
            assert bare.start("worker").wait(60) == 78
            assert f"FILM: {tmp_path / name}: {words}" in bare.log()


@pytest.mark.parametrize(
    ("source", "said"), [("/no/such/weights", "RIFE: /no/such/weights: there is no such file"), (os.devnull, "RIFE: ")]
)
def test_weights_that_cannot_be_used_end_the_launcher_with_the_reason(
    redis_url: str, tmp_path: Path, source: str, said: str
) -> None:
    (tmp_path / "broken.pkl").write_bytes(b"no tensors")
    with Site(redis_url, tmp_path, RIFE=source if source != os.devnull else str(tmp_path / "broken.pkl")) as bare:
        launcher = bare.start("worker")
        assert launcher.wait(60) == 78
        assert said in bare.log()
