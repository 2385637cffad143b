"""How near a made frame is to the true one, and what of a drawing is torn that stands still.

PSNR at 24 frames apart rewards blur: half a dissolve laid over a good frame gains by it. SSIM and the perceptual
distance do not, so that ghost is a row of every table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from mpd.progress import Pictures

TORN = 30
"""Levels by which a pixel that stands still is off when it counts as disturbed."""
_ALIKE = 4


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
