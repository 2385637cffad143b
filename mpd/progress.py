"""What a running job reports: steps on the way, and a finished take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Frames = NDArray[Any]
"""Frames of 8 or of 16 bits a sample: uint8 or uint16, full scale 255 or 65535."""


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
    """A finished video: frames (N, H, W, 3) sRGB, of 8 or 16 bits a sample.

    matte: (N, H, W) in the same number of bits, how opaque each pixel is; None where all are. The frames themselves are
        opaque: what shines through is the background that was asked for.
    """

    index: int
    seed: int
    frames: Frames
    fps: int
    matte: Frames | None = None
