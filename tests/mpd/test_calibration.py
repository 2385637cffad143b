"""What motion bucket a distance takes: the distance, the table, the command that makes it, what a model does by it."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mpd
from mpd import calibration
from mpd.calibration import Calibration
from mpd.displacement import displacement
from mpd.methods import MOTION_BUCKET, Settings, SettingsError
from mpd.progress import Pictures, Take
from mpd.segments import generate
from mpd.sprites import PATH, world
from mpd.svd.model import Model

TABLE = Calibration((5, 10), (50, 100, 200), ((0.01, 0.02, 0.04), (0.005, 0.01, 0.02)))


@pytest.mark.parametrize("seed", world.seeds("development", 12))
def test_a_sprites_displacement_is_its_way(seed: int) -> None:
    places = world.trajectory(world.scene(seed))
    frames = world.render(world.scene(seed))
    way = np.linalg.norm(places[-1, :2] - places[0, :2]) / world.SIZE
    assert displacement(frames[0], frames[-1]) == pytest.approx(way, rel=0.2)
    assert displacement(frames[-1], frames[0]) == pytest.approx(way, rel=0.2)


def test_a_camera_that_pans_is_measured_by_flow_and_unrelated_pictures_not_at_all() -> None:
    rng = np.random.default_rng(1)
    ground = cv2.GaussianBlur(rng.integers(0, 255, (200, 400, 3), np.uint8), (0, 0), 2)
    ground = cv2.normalize(ground, np.empty_like(ground), 0, 255, cv2.NORM_MINMAX)
    before, after = ground[:180, :320], ground[:180, 16:336]
    assert displacement(before, after) == pytest.approx(16 / 320, rel=0.1)
    assert displacement(before, before) == 0
    assert displacement(before, cv2.rotate(ground, cv2.ROTATE_180)[:180, :320]) is None


@pytest.mark.parametrize(
    ("speed", "fps", "bucket"),
    [(0.02, 5, 100), (0.03, 5, 150), (0.01, 10, 100), (0.015, 7.5, 100), (0.0, 5, 50), (1.0, 5, 200), (0.02, 4, 100)],
)
def test_a_bucket_lies_in_a_line_between_those_measured(speed: float, fps: int, bucket: int) -> None:
    assert TABLE.bucket(speed, fps) == bucket


def test_a_bucket_that_moves_less_than_the_one_before_counts_as_no_more() -> None:
    odd = replace(TABLE, fps=(5,), speeds=((0.02, 0.01, 0.04),))
    assert odd.bucket(0.03, 5) == 150


def test_a_table_is_kept_in_the_models_folder(tmp_path: Path) -> None:
    assert calibration.read(tmp_path) is None
    assert calibration.read(TABLE.write(tmp_path).parent) == TABLE
    for broken in ("{", "[]", json.dumps({"fps": [5], "buckets": [1, 2], "speeds": [[0.1]]})):
        (tmp_path / calibration.FILE).write_text(broken)
        with pytest.raises(ValueError, match="mpd calibrate"):
            calibration.read(tmp_path)


def takes(model: Model, pictures: list[Pictures], **settings: Any) -> Take:
    reports = generate(model, pictures, Settings(method="mpd", steps=1, **settings))
    return next(one for one in reports if isinstance(one, Take))


@pytest.fixture
def calibrated(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(tiny_model, "calibration", TABLE)
    return tiny_model


@pytest.fixture
def pictures(calibrated: Model) -> list[Pictures]:
    """A box that goes 6 and then 3 pixels on, of the model's own size."""
    width, height = calibrated.native_size
    made = []
    for x in (4, 10, 13):
        picture = np.full((height, width, 3), 200, np.uint8)
        picture[4:12, x : x + 8] = (200, 30, 30)
        made.append(picture)
    return made


def test_each_latent_is_asked_for_what_its_keyframes_distance_takes(
    calibrated: Model, pictures: list[Pictures]
) -> None:
    longer = max(calibrated.native_size)
    apart = [TABLE.bucket(way / longer / 3, 5) for way in (6, 3)]  # four frames each
    found = takes(calibrated, pictures, fps=5, frames=4, segments="alone")
    assert found.motion_bucket_ids == pytest.approx(apart, abs=3)
    joined = takes(calibrated, pictures, fps=5, positions=(0, 1, 3))
    assert joined.motion_bucket_ids == pytest.approx([TABLE.bucket(9 / longer / 3, 5)], abs=3)
    assert takes(calibrated, pictures[:2], fps=5, frames=4, motion_bucket_id=9).motion_bucket_ids == (9,)


def test_what_is_chosen_is_what_the_model_is_told(calibrated: Model, pictures: list[Pictures]) -> None:
    chosen = takes(calibrated, pictures[:2], frames=4)
    told = takes(calibrated, pictures[:2], frames=4, motion_bucket_id=chosen.motion_bucket_ids[0])
    np.testing.assert_array_equal(chosen.frames, told.frames)
    assert chosen.motion_bucket_ids != (MOTION_BUCKET,)
    assert not np.array_equal(chosen.frames, takes(calibrated, pictures[:2], frames=4, motion_bucket_id=255).frames)


def test_without_a_calibration_auto_is_refused_and_the_default_svds(
    tiny_model: Model, pictures: list[Pictures]
) -> None:
    tiny_model.calibration = None
    assert takes(tiny_model, pictures[:2], frames=4).motion_bucket_ids == (MOTION_BUCKET,)
    with pytest.raises(SettingsError, match="no calibration") as refused:
        takes(tiny_model, pictures[:2], motion_bucket_id="auto")
    assert refused.value.field == "motion_bucket_id"


def test_one_command_calibrates_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mpd.__main__ import main

    folder = shutil.copytree(PATH, tmp_path / "model", ignore=shutil.ignore_patterns(calibration.FILE))
    pictures = [str(tmp_path / "arrow.png")]
    cv2.imwrite(pictures[0], world.render(world.scene(1), count=1)[0, ..., ::-1])
    assert main(["calibrate", str(folder), *pictures, "--fps", "7", "--buckets", "20", "200", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / calibration.FILE)
    made = mpd.load(folder).calibration
    assert made is not None
    assert (made.fps, made.buckets) == ((7,), (20, 200))
    assert made.speeds[0][0] < made.speeds[0][1]
    assert main(["calibrate", str(tmp_path / "none"), *pictures]) == 2
    assert "no folder" in capsys.readouterr().err


def test_the_sprite_model_moves_faster_the_more_it_is_asked_for() -> None:
    made = calibration.read(PATH)
    assert made is not None
    for row in made.speeds:
        assert all(a < b for a, b in itertools.pairwise(row)), row
    # 127 at 7 frames a second is 2.5 pixels a frame (`world.motion_bucket`) along a way that turns, and ends nearer.
    assert made.bucket(0.93 * 2.5 / world.SIZE, 7) == pytest.approx(127, abs=25)
