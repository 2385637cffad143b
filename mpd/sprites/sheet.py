"""Sample sheets: pictures in which a person sees how good a model is. Knows models only by `mpd`'s own samplers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd.sprites import gate, world
from mpd.svd.model import Model

ZOOM = 2


def strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay frames (N, H, W, 3) in one row (H, N·W, 3), a pixel of black between them."""
    edged = np.pad(frames, ((0, 0), (0, 1), (0, 1), (0, 0)))
    return np.concatenate(list(edged), axis=1)


def samples(model: Model, seeds: Sequence[int], steps: int = 25) -> NDArray[np.uint8]:
    """Lay out per seed three rows: the true clip, its round trip through the VAE, and `svd` from its first frame."""
    rows = []
    for seed in seeds:
        scene = world.scene(seed)
        truth = world.render(scene)
        made = gate.continued(model, scene, truth[0], seed % (1 << 32), steps)
        rows += [strip(truth), strip(gate.round_trip(model, truth)), strip(made)]
    return np.concatenate(rows)


def save(sheet: NDArray[np.uint8], path: Path) -> None:
    """Write the sheet as PNG, enlarged without smoothing."""
    large = cv2.resize(sheet[..., ::-1], None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST)
    if not cv2.imwrite(str(path), large):
        raise OSError(f"{path} cannot be written")
