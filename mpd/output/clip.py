"""A finished video as it is written to a file: its frames, its matte, and pictures of either depth from them.

Frames are opaque, over the background that was asked for. Where there is a matte, `straight` takes that background out
again: the colours of the subject itself, which a program that lays it over something else needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mpd.progress import Frames, Pictures, Take

OnFrame = Callable[[int], None]
"""Called with the number of each frame that has been written."""


@dataclass(frozen=True)
class Clip:
    """A video as it is written down: its frames, and how opaque they are."""

    #: (N, H, W, 3) uint8 or uint16.
    frames: Frames
    fps: int
    #: (N, H, W) of the same type as the frames, or None.
    matte: Frames | None = None
    #: `#rrggbb`.
    background: str = "#000000"

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.frames.shape[2], self.frames.shape[1]

    def opaque(self, index: int, bits: int = 8) -> Frames:
        """Give one frame (H, W, 3) over its background, in so many bits."""
        return to_bits(np.ascontiguousarray(self.frames[index]), bits)

    def straight(self, index: int, bits: int = 8) -> Frames:
        """Give one frame (H, W, 4) with its transparency, in so many bits; (H, W, 3) where there is no matte."""
        if self.matte is None:
            return self.opaque(index, bits)
        frame, matte = self.frames[index], self.matte[index]
        most = np.float32(np.iinfo(frame.dtype).max)
        share = (matte / most).astype(np.float32)[..., None]
        below = np.array([int(self.background[at : at + 2], 16) for at in (1, 3, 5)], np.float32) * most / 255
        colour = (frame - below * (1 - share)) / np.maximum(share, 1 / most)
        colour = np.where(share == 0, frame, np.rint(np.clip(colour, 0, most)))
        return to_bits(np.dstack([colour.astype(frame.dtype), matte]), bits)

    def pictures(self, alpha: bool, bits: int = 8) -> Iterator[Frames]:
        """Yield all frames in order, with their transparency or over the background."""
        one = self.straight if alpha else self.opaque
        return (one(index, bits) for index in range(len(self)))


def of(take: Take) -> Clip:
    """Make the clip of a take."""
    return Clip(take.frames, take.fps, take.matte, take.background)


def to_bits(samples: Frames, bits: int) -> Frames:
    """Bring samples of 8 or 16 bits to the other depth: 255 is 65535, and what lies between is rounded."""
    if samples.dtype == np.uint8:
        return samples if bits == 8 else samples.astype(np.uint16) * np.uint16(257)
    if bits == 16:
        return samples
    return eight_bits(samples)


def eight_bits(samples: Frames) -> Pictures:
    """Bring samples of 8 or 16 bits to 8."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
