"""A tiny random model and pictures for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpd import tiny
from mpd.progress import Pictures
from mpd.svd.model import Model, load


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> Model:
    return load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def pictures() -> list[Pictures]:
    """Three smooth, different 64x64 keyframes."""
    y, x = np.mgrid[0:64, 0:64] / 63
    shades = [(x, y, 1 - x), (1 - y, x * y, x), (np.sin(6 * x) ** 2, 1 - x, y)]
    return [np.round(255 * np.stack(shade, -1)).astype(np.uint8) for shade in shades]
