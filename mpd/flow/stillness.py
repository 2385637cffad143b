"""What stands still in both pictures, and stays so between them.

Where two pictures agree, the likeliest thing is that nothing moved. Only something that moves may cover such a place
for a while, and it comes from where the pictures do not agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd import vector_fields
from mpd.progress import Frames, Pictures
from mpd.vector_fields import Field, ramp

_ALIKE, _APART = 4.0, 12.0
"""Levels of difference, of a pixel and its neighbours, up to which it stands still and from which it does not."""
_NEIGHBOURS = 11
"""Pixels across, at a width of 640, over which nothing may differ where the still picture is put back."""
_NEAR = 7
"""The same where something is asked to have come from a still place."""
_AT_WIDTH = 640


@dataclass(frozen=True)
class Stillness:
    """Where two pictures agree."""

    #: (H, W) in 0…1.
    still: NDArray[np.float32]
    #: The same a little nearer to what differs.
    near: NDArray[np.float32]

    def keep(self, frame: Any, start: Any, end: Any, to_start: Field, to_end: Field, time: float) -> Frames:
        """Put what stands still back into a frame (H, W, C), in the kind of numbers that it and the two come in.

        to_start, to_end: (H, W, 2), where the frame's pixels come from; one that comes from places that are still in
        neither picture covers what stands still.
        """
        grid = vector_fields.grid(*self.still.shape)
        from_still = np.maximum(
            vector_fields.sample(self.near, grid + to_start), vector_fields.sample(self.near, grid + to_end)
        )
        weight = self.still * from_still
        standing = cv2.addWeighted(start, 1 - time, end, time, 0)
        if frame.dtype == np.uint8:
            rounded: Frames = cv2.blendLinear(frame, standing, 1 - weight, weight)
            return rounded
        kept: Frames = frame + weight[..., None] * (standing - frame)
        return kept


def stillness(start: Pictures, end: Pictures) -> Stillness:
    """Find where two pictures (H, W, 3 or 4) agree."""
    change = cv2.absdiff(start, end).max(-1)
    return Stillness(_alike(change, _NEIGHBOURS), _alike(change, _NEAR))


def _alike(change: Pictures, across: int) -> NDArray[np.float32]:
    alike: NDArray[np.float32] = 1 - ramp(cv2.dilate(change, _square(across, change)), _ALIKE, _APART)
    return alike


def _square(across: int, picture: Pictures) -> Pictures:
    side = max(3, round(across * max(picture.shape[:2]) / _AT_WIDTH / 2) * 2 + 1)
    return np.ones((side, side), np.uint8)
