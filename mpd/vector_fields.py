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


def inside(positions: Field, margin: float = 0.0) -> Field:
    """Weigh positions (h, w): 1 in a picture of the same size, 0 beyond a pixel outside.

    Between them the weight rises over `margin` pixels.
    """
    height, width = positions.shape[:2]
    x, y = positions[..., 0], positions[..., 1]
    depth = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    share: Field = np.clip((depth + 1) / np.float32(1 + margin), 0, 1)
    return share


def ramp(values: Any, low: float, high: float) -> Any:
    """Rise smoothly from 0 below `low` to 1 above `high`."""
    share = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return share * share * (3 - 2 * share)


def resized(field: Field, width: int, height: int) -> Field:
    """Bring motions (h, w, 2) to another size: more of them, and longer ones."""
    rows, columns = field.shape[:2]
    larger: Field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    larger *= np.array([width / columns, height / rows], np.float32)
    return larger


def reached(motion: Field, weight: Field) -> Field:
    """Tell in 0…1, (h, w), which places of a picture the pixels of another come from, by their weight (h, w)."""
    height, width = weight.shape
    places = np.rint(grid(height, width) + motion).astype(np.int64).clip(0, (width - 1, height - 1))
    total = np.bincount((places[..., 1] * width + places[..., 0]).ravel(), weight.ravel(), height * width)
    spread = cv2.GaussianBlur(total.reshape(height, width).astype(np.float32), (0, 0), 1.5)
    share: Field = np.minimum(spread, 1)
    return share
