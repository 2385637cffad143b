"""What a GPU's memory holds, as the engine goes by it and publishes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mpd.base import Room
from mpd.svd.model import Model, load
from worker.engine import held, main
from worker.engine.held import Held


@pytest.fixture(scope="module")
def model(tiny: Path) -> Model:
    """As on a GPU, as far as numbers go."""
    made = load(tiny, device="cpu")
    made.native_size, made.device = (1024, 576), torch.device("cuda")
    return made


def test_what_a_card_holds_is_published(model: Model) -> None:
    model.room = Room(pixels=1000, volume=9000)
    assert held.capabilities(Held(model, None))["max_pixels"] == 1000
    assert held.capabilities(Held(model, None))["max_volume"] == 9000
    model.room = None
    assert held.capabilities(Held(model, None))["max_volume"] is None


@pytest.mark.parametrize(
    ("volume", "size"),
    [
        (8 * 1024 * 576, (1024, 576)),
        (8 * 1024 * 576 - 1, (512, 288)),
        (8 * 256 * 144, (256, 144)),
        (8 * 64**2, (64, 32)),
    ],
)
def test_the_engine_warms_up_at_a_size_that_fits(model: Model, volume: int, size: tuple[int, int]) -> None:
    model.room = Room(pixels=volume, volume=volume)
    assert main.warm_up_size(model) == size
