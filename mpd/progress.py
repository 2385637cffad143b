"""What a running job reports: steps on the way, and a finished take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Progress:
    """One more step is done.

    take, segment: zero-based; step: one-based; fraction: share of the whole job's steps done, takes included.
    sigma: noise level reached, None for methods without one.
    preview: gives a small uint8 picture (h, w, 3) of the current estimate when called, or None.
    """

    take: int
    takes: int
    segment: int
    segments: int
    step: int
    steps: int
    fraction: float
    sigma: float | None
    preview: Callable[[], Pictures | None]


@dataclass(frozen=True)
class Take:
    """A finished video: frames (N, H, W, 3) uint8 sRGB."""

    index: int
    seed: int
    frames: Pictures
    fps: int
