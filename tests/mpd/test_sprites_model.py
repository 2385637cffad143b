"""The model that ships: it loads, fits its limits, and has learnt that arrows fly where they point."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import mpd.sprites
from mpd.sprites import gate, track, world
from mpd.svd.model import Model, load

MOST_BYTES = 24e6


@pytest.fixture(scope="module")
def model() -> Model:
    torch.set_num_threads(1)
    return load(mpd.sprites.PATH)


def test_the_weights_are_small_and_have_a_card_with_a_licence(model: Model) -> None:
    files = [path for path in mpd.sprites.PATH.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert (mpd.sprites.PATH / "log.jsonl").is_file()
    assert model.license == "apache-2.0"


def test_it_is_made_for_the_world(model: Model) -> None:
    assert model.native_frames == world.FRAMES
    assert model.native_size == (world.SIZE, world.SIZE)


def test_a_clip_survives_the_vae(model: Model) -> None:
    scenes = [world.scene(seed) for seed in world.seeds("held-out", 4)]
    clips = [world.render(scene) for scene in scenes]
    back = [gate.round_trip(model, clip) for clip in clips]
    assert np.mean([gate.psnr(a, b) for a, b in zip(back, clips, strict=True)]) > gate.ROUND_TRIP - 0.5
    for scene, clip in zip(scenes, back, strict=True):
        assert track.moves_forward(track.track(clip, scene.hue).places)


def test_arrows_fly_where_they_point(model: Model) -> None:
    measured = gate.measure(model, world.seeds("held-out", 6), steps=10)
    assert measured.forward >= 5 / 6
    assert measured.reverse == 0
    assert measured.first_round_trip - measured.first_frame <= gate.FIRST_FRAME


def test_the_ids_say_how_fast(model: Model) -> None:
    speeds = {}
    scenes = [world.scene(seed) for seed in world.seeds("held-out", 30)]
    open_ground = [scene for scene in scenes if 20 < scene.x < 44 and 20 < scene.y < 44][:3]
    for bucket in (60, 150):
        moved = []
        for scene in open_ground:
            told = replace(scene, fps=7, motion_bucket_id=bucket)
            made = gate.continued(model, told, world.render(scene, count=1)[0], seed=1, steps=8)
            moved.append(np.nanmean(track.along_heading(track.track(made, scene.hue).places)))
        speeds[bucket] = np.mean(moved)
    assert speeds[150] > speeds[60] + 0.4


def test_naming_the_model_loads_no_torch() -> None:
    code = "import sys, mpd.sprites; print(mpd.sprites.PATH.name, 'torch' in sys.modules, 'cv2' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["weights", "False", "False"]
