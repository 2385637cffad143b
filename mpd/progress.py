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
    """One more step is done."""

    #: Zero-based.
    take: int
    takes: int
    #: Zero-based, of the parts that are made one after the other: segments, or groups that are sampled as one.
    segment: int
    segments: int
    #: One-based.
    step: int
    steps: int
    #: Share of the whole job's steps done, takes included.
    fraction: float
    #: Noise level reached, None for methods without one.
    sigma: float | None
    #: Gives a small uint8 picture (h, w, 3) of the current estimate when called, or None.
    preview: Callable[[], Pictures | None]


@dataclass(frozen=True)
class MotionReport:
    """How far the motion between two keyframes is to be believed."""

    #: Share of the pixels that do not stand still whose motion both keyframes agree on, in 0…1.
    trusted: float
    #: Share of the same that are dissolved rather than moved, in 0…1.
    dissolved: float
    #: Pixels of the frame that the furthest trusted motion goes.
    largest: float
    #: One plain sentence.
    says: str


@dataclass(frozen=True)
class Take:
    """A finished video."""

    index: int
    seed: int
    #: (N, H, W, 3) sRGB, of 8 or 16 bits a sample; opaque, over `background`.
    frames: Frames
    fps: int
    #: (N, H, W) in the same number of bits, how opaque each pixel is; None where all are.
    matte: Frames | None = None
    #: What shines through, as #rrggbb.
    background: str = "#000000"
    #: Of each segment in order, None where nothing lies between; empty where none is measured, as for sampled methods.
    motions: tuple[MotionReport | None, ...] = ()
    #: What made frames between those of a model (`facts` of the interpolator), None where nothing did.
    interpolator: dict[str, Any] | None = None
    #: The keyframes that were sampled as one latent, by their numbers, for each latent; empty where nothing is sampled.
    groups: tuple[tuple[int, ...], ...] = ()
    #: The motion bucket that each of these latents was asked for.
    motion_bucket_ids: tuple[int, ...] = ()

    @property
    def motion(self) -> MotionReport | None:
        """Of the worst segment; None where no motion is measured."""
        return min((one for one in self.motions if one is not None), key=lambda one: one.trusted, default=None)
