"""Finds the arrow in a picture by its colours: where it is, where it points, and how many there are.

The head has the scene's hue, the shaft the opposite one and the background none, so one projection onto the hue
separates all three. Works on generated pictures, which have no parameters; knows nothing of how they were made.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd.sprites import world

THRESHOLD = 0.08  # of chroma; the head has 0.38, the shaft -0.30, a grey background 0
MIN_AREA = 20.0  # pixels of chroma-weighted area below which there is no part; whole parts have about 80
HEAD_REACH, SHAFT_REACH = 4.15, 3.73  # root mean square distance of a part's pixels from its centre
MIN_BLOB = 25  # pixels of a connected blob that counts as a sprite of its own


@dataclass(frozen=True)
class Track:
    """What was found in N frames."""

    #: (N, 3) x, y, heading, in `world`'s coordinates; NaN where head or shaft was not found.
    places: NDArray[np.float64]
    #: (N,) coloured area over a whole arrow's: about 1 for one arrow, about 2 when there is a ghost.
    mass: NDArray[np.float64]
    #: (N,) connected coloured blobs.
    sprites: NDArray[np.int64]
    #: (N,) how far a colour's pixels lie from their centre (root mean square) over a whole part's own, the larger of
    #: head's and shaft's: about 1 for one arrow, more where two overlap. NaN where `places` is.
    spread: NDArray[np.float64]


def chroma(frames: NDArray[np.uint8], hue: float) -> NDArray[np.float64]:
    """Measure the signed chroma along `hue`, (N, H, W): positive on the head, negative on the shaft, 0 on any grey."""
    projected: NDArray[np.float64] = (frames / 255.0) @ world.hue_direction(hue) / 1.5
    return projected


def track(frames: NDArray[np.uint8], hue: float) -> Track:
    """Find the arrow of this hue in every frame of (N, H, W, 3) uint8."""
    signed = chroma(frames, hue)
    found = [_find(one) for one in signed]
    return Track(
        np.array([place for place, _, _, _ in found]),
        np.array([mass for _, mass, _, _ in found]),
        np.array([count for _, _, count, _ in found], dtype=np.int64),
        np.array([spread for _, _, _, spread in found]),
    )


def _find(signed: NDArray[np.float64]) -> tuple[tuple[float, float, float], float, int, float]:
    head = np.where(signed > THRESHOLD, signed, 0) / world.HEAD_CHROMA
    shaft = np.where(signed < -THRESHOLD, signed, 0) / world.SHAFT_CHROMA
    area = abs(np.linalg.det(world.HEAD[1:] - world.HEAD[0])) / 2 + 77.0
    mass = float(head.sum() + shaft.sum()) / float(area)
    # Where head and shaft meet, their chromas cancel: growing by a pixel closes that seam.
    coloured = cv2.dilate((np.abs(signed) > 2 * THRESHOLD).astype(np.uint8), np.ones((3, 3), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(coloured, connectivity=8)
    sprites = int((stats[1:, cv2.CC_STAT_AREA] >= MIN_BLOB).sum())
    if head.sum() < MIN_AREA or shaft.sum() < MIN_AREA:
        return (np.nan, np.nan, np.nan), mass, sprites, np.nan
    (front, head_reach), (back, shaft_reach) = _centroid(head), _centroid(shaft)
    spread = max(head_reach / HEAD_REACH, shaft_reach / SHAFT_REACH)
    heading = float(np.arctan2(front[1] - back[1], front[0] - back[0]))
    weight = -world.SHAFT_CENTRE / (world.HEAD_CENTRE - world.SHAFT_CENTRE)
    x, y = weight * front + (1 - weight) * back
    return (float(x), float(y), heading), mass, sprites, spread


def _centroid(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Find the weighted mean of the pixels' centres, (2,) x and y, and their root mean square distance from it."""
    height, width = weights.shape
    total = weights.sum()
    across, down = np.arange(width) + 0.5, np.arange(height) + 0.5
    x, y = (weights.sum(axis=0) * across).sum() / total, (weights.sum(axis=1) * down).sum() / total
    squared = (weights.sum(axis=0) * (across - x) ** 2 + weights.sum(axis=1) * (down - y) ** 2).sum() / total
    return np.array([x, y]), float(np.sqrt(squared))


def along_heading(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the pixels moved per step along the mean heading of both frames, (N-1,).

    Negative is reverse play, NaN unknown.
    """
    steps = np.diff(places[:, :2], axis=0)
    facing = np.exp(1j * places[:, 2])
    middle = facing[1:] + facing[:-1]
    moved: NDArray[np.float64] = steps[:, 0] * np.cos(np.angle(middle)) + steps[:, 1] * np.sin(np.angle(middle))
    return moved


def moves_forward(places: NDArray[np.float64]) -> bool:
    """Tell whether a clip moves along its heading.

    Its arrow is seen in every frame, and moves forward on the whole and in ≥ 90 % of the steps.
    """
    moved = along_heading(places)
    return bool(np.isfinite(moved).all() and moved.sum() > 0 and (moved > 0).mean() >= 0.9)


def plays_reversed(places: NDArray[np.float64], by: float = 1.0) -> bool:
    """Tell whether the arrow moves against its heading by more than `by` pixels over any three successive steps."""
    moved = np.nan_to_num(along_heading(places))
    windows = np.convolve(moved, np.ones(min(3, len(moved))), mode="valid")
    return bool((windows < -by).any())
