"""A base that is not SVD: found by its class, sampled by what suits it, and refused with the reason for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpd
from mpd import loader
from mpd.base import Base
from mpd.methods import METHODS, Settings, SettingsError
from mpd.progress import Pictures, Progress, Take
from mpd.segments import generate, methods
from mpd.svd.model import Model
from service.settings import ServiceSettings
from tests.mpd import second_base
from tests.mpd.second_base import CLASS, STRIDE, Flow, RandomWalk, Velocity
from worker.engine import held, main
from worker.engine.held import Held

TWO_PATHS = [name for name, method in METHODS.items() if method.reverses_time]
DARK, BRIGHT = (np.full((32, 32, 3), level, np.uint8) for level in (51, 204))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What says that it is the second base's, which is known while a test lasts."""
    monkeypatch.setitem(loader.BASES, CLASS, second_base.__name__)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": CLASS}))
    return tmp_path


@pytest.fixture
def walk() -> Base:
    return RandomWalk("walk")


@pytest.fixture
def svd(tiny_model: Model) -> Base:
    return tiny_model


def take(base: Base, pictures: list[Pictures], **settings: Any) -> Take:
    (made,) = [one for one in generate(base, pictures, Settings(**settings)) if isinstance(one, Take)]
    return made


def test_a_folder_of_its_class_is_loaded_as_it(folder: Path) -> None:
    model = mpd.load(folder)
    assert isinstance(model, RandomWalk)
    assert model.name == str(folder)


@pytest.mark.parametrize("sigma", [50.0, 1.0, 0.05])
def test_the_change_of_variables_is_the_posterior_mean(sigma: float) -> None:
    """E[x0 | x0 + σn = x] of a normal x0 is μ + C (C + σ²)⁻¹ (x − μ), whatever coordinates a model was trained in."""
    x = sigma * torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 2, 2)
    given, none = Velocity(mean), Velocity(0 * mean, spread=1.0)
    for velocity, estimate in zip((given, none), Flow(given, none)(x, sigma), strict=True):
        index = torch.arange(6, dtype=torch.float64)
        covariance = STRIDE**2 * torch.minimum(index[:, None], index) + velocity.spread
        weight = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(6, dtype=torch.float64))
        known = velocity.mean + torch.einsum("ij,jchw->ichw", weight, x - velocity.mean)
        assert estimate is not None
        torch.testing.assert_close(estimate, known, rtol=1e-10, atol=1e-10)


def test_mpd_reaches_both_keyframes_on_it(walk: Base) -> None:
    levels = take(walk, [DARK, BRIGHT], method="mpd").frames.mean((1, 2, 3))
    assert (levels[0], levels[-1]) == (51, 204)
    assert (np.diff(levels) > 5).all()


def test_svd_goes_on_from_the_start_alone(walk: Base) -> None:
    levels = take(walk, [DARK], method="svd", noise_aug_strength=0.0).frames.mean((1, 2, 3))
    assert levels == pytest.approx(51, abs=20)
    assert len(levels) == walk.native_frames
    assert levels[0] == 51
    assert np.ptp(levels) > 1


def test_it_goes_the_whole_way_from_any_pictures(walk: Base) -> None:
    settings = Settings(method="mpd", steps=4, fit="contain", loop=True, width=32, height=64)
    reports = list(mpd.inbetween(walk, [DARK, BRIGHT], settings, bits=16))
    *steps, made = reports
    assert isinstance(made, Take)
    assert made.frames.dtype == np.uint16
    assert made.frames.shape == (8, 32, 32, 3)
    assert len(steps) == 2 * 4
    assert isinstance(steps[0], Progress)
    preview = steps[0].preview()
    assert preview is not None
    assert preview.shape == (16, 8, 3)


@pytest.mark.parametrize("method", TWO_PATHS)
def test_two_paths_are_refused_with_the_reason(walk: Base, svd: Base, method: str) -> None:
    for begin in (generate, mpd.inbetween):
        with pytest.raises(SettingsError, match="latents of walk cannot be reversed") as refused:
            begin(walk, [DARK, BRIGHT], Settings(method=method))
        assert refused.value.field == "method"
        assert refused.value.remedy == "Choose one of svd, mpd"
    assert method in methods(svd)


def test_more_frames_than_it_makes_are_refused(walk: Base) -> None:
    with pytest.raises(SettingsError, match="34 are too many") as refused:
        generate(walk, [DARK, BRIGHT], Settings(method="mpd", frames=34))
    assert (refused.value.field, refused.value.remedy) == ("frames", "Use at most 33")
    with pytest.raises(SettingsError) as refused:
        generate(walk, [DARK, BRIGHT], Settings(method="mpd", positions=(0, 33)))
    assert refused.value.field == "positions"
    generate(walk, [DARK, BRIGHT], Settings(method="mpd", frames=33))


def test_an_engine_serves_it_and_offers_what_suits_it(folder: Path, svd: Base) -> None:
    holds = held.load(ServiceSettings(model=str(folder), rife="off"))
    assert holds.model is not None
    assert main.warm_up(holds.model, holds.generate) > 0
    offered = held.capabilities(holds)
    assert offered["methods"] == ("svd", "mpd")
    assert (offered["max_frames"], offered["native_frames"], offered["size_multiple"]) == (33, 5, 4)
    sampled = tuple(name for name, method in METHODS.items() if method.needs_model)
    assert held.capabilities(Held(svd, None))["methods"] == sampled


def test_an_engine_names_the_classes_it_knows(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": CLASS}))
    with pytest.raises(held.HeldError, match=f"is a '{CLASS}'.* known is a diffusers folder of StableVideo"):
        held.load(ServiceSettings(model=str(tmp_path)))
