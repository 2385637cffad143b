"""What a release before wrote down, a job's record and its `metadata.json`, and the frames it made: they come again.

The files are of 0.1.0 before segments were joined, before steps and motion bucket could be left to a model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mpd
from mpd.methods import Settings
from mpd.progress import Pictures, Take
from mpd.segments import generate
from mpd.sprites import PATH, world
from mpd.svd.model import Model
from service.jobs.options import InbetweenRequest, settings_of
from service.jobs.stored_options import complete

FOLDER = Path(__file__).parent / "recorded"
RECORDED: dict[str, dict[str, Any]] = json.loads((FOLDER / "records.json").read_text())
CLIP = world.render(world.scene(world.seeds("held-out", 1)[0]))
AT = {2: (0, 11), 3: (0, 6, 11)}
CHANGED = "mpd, rigid and fast"


@pytest.fixture(scope="module")
def model() -> Model:
    torch.set_num_threads(1)
    made = mpd.load(PATH)
    assert isinstance(made, Model)
    assert made.calibration is not None
    assert made.schedule.own_steps != 25, "what is left out means another thing today"
    return made


def frames(model: Model, settings: Settings, count: int) -> Pictures:
    pictures = [CLIP[frame] for frame in AT[count]]
    takes = [one for one in generate(model, pictures, settings) if isinstance(one, Take)]
    return np.concatenate([np.concatenate(list(take.frames), axis=1) for take in takes])


def assert_same(made: Pictures, file: str) -> None:
    """Equal but for the last bit of sums, which another processor may round the other way."""
    known = np.asarray(Image.open(FOLDER / file)).astype(np.int16)
    assert made.shape == known.shape
    apart = np.abs(made.astype(np.int16) - known)
    assert apart.max() <= 2
    assert apart.mean() < 0.02


@pytest.mark.parametrize("name", RECORDED)
def test_a_record_keeps_its_picture(model: Model, name: str) -> None:
    one = RECORDED[name]
    settings = settings_of(complete(one["record"], one["keyframes"]))
    assert_same(frames(model, settings, one["keyframes"]), one["frames"])


@pytest.mark.parametrize("name", RECORDED)
def test_its_metadata_asks_for_the_same(name: str) -> None:
    """As it is sent again: what a record says and what `metadata.json` says come to the same settings."""
    one = RECORDED[name]
    request = InbetweenRequest.model_validate(one["metadata"])
    at = [keyframe.frame for keyframe in request.keyframes or ()]
    again = request.options.settings(None if None in at else tuple(frame for frame in at if frame is not None))
    known = settings_of(complete(one["record"], one["keyframes"]))
    assert again.spelled_out() == known.spelled_out()


def test_another_picture_is_told_from_it(model: Model) -> None:
    one = RECORDED[CHANGED]
    settings = settings_of(complete({**one["record"], "motion_bucket_id": 190}, one["keyframes"]))
    with pytest.raises(AssertionError):
        assert_same(frames(model, settings, one["keyframes"]), one["frames"])
