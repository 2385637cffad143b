"""Fields of positions and motions: float32 (H, W, 2), pixels, x first. What optical flow and mattes are carried by."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_WORKING_AREA = 512 * 288
"""Pixels of the pictures in which motion is looked for."""


def grid(height: int, width: int) -> Field:
    """Give every pixel's own position, (h, w, 2), x first."""
    own: Field = np.empty((height, width, 2), np.float32)
    own[..., 0] = np.arange(width, dtype=np.float32)
    own[..., 1] = np.arange(height, dtype=np.float32)[:, None]
    return own


def working_size(height: int, width: int) -> tuple[int, int]:
    """Give the (width, height) at which motion is looked for in pictures of this size."""
    scale = min(1.0, (_WORKING_AREA / (height * width)) ** 0.5)
    return max(16, round(width * scale)), max(16, round(height * scale))


def sample(picture: NDArray[Any], positions: Field) -> Any:
    """Sample a picture at fractional positions (h, w, 2), bilinear; its edge pixels go on beyond the edge."""
    return cv2.remap(picture, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
