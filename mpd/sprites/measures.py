"""What an inbetween of two sprite keyframes is judged by, and how sure the averages are.

Every measure compares a made clip with the true one of the same scene; pictures are (N, H, W, 3) uint8. Where the arrow
is not found in a frame, that frame has the worst value, so that nothing is gained by showing none.
Knows nothing of how a clip was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd.progress import Pictures
from mpd.sprites import track, world

GHOST_MASS = (0.6, 1.5)  # coloured area over an arrow's beyond which a frame holds less or more than one
GHOST_SPREAD = 1.5  # of a colour's pixels, over an arrow's, beyond which it is in two places
REGION_LEVELS = 8  # of 255, beyond which a pixel of the true clip is the arrow's
REGION_MARGIN = 5  # pixels across of the square by which the arrow's region is widened
UNSEEN_ARRIVAL = -1.0  # as if the arrow came backwards


@dataclass(frozen=True)
class Judged:
    """One clip's figures."""

    #: dB over all frames between the keyframes.
    psnr: float
    #: dB there, over the pixels of the true arrow and two around it.
    region: float
    #: Mean over the frames between the keyframes.
    ssim: float
    #: dB of the first frame.
    first: float
    #: dB of the last frame.
    last: float
    #: Mean distance in pixels of the arrow found from the true one; where none is found, as far as one could be.
    path: float
    #: Pixels moved against the heading, step by step, over the length of the true way; a step unseen counts whole.
    reverse: float
    #: Share of frames with no arrow, more than one blob, or colours of an area or spread unlike one arrow's.
    ghosts: float
    #: Way over the last quarter, along the true one and over it: 1 is right, 0 a freeze, below 0 backwards or unseen.
    arrival: float
    #: ΔE (CIE76) between the mean colours of the frames beside the keyframes and the keyframes themselves.
    drift: float


def judge(made: Pictures, truth: Pictures, scene: world.Scene) -> Judged:
    """Measure one clip against the true one.

    Raises ValueError when the clips differ in shape or hold fewer than four frames.
    """
    if made.shape != truth.shape or len(made) < 4:
        raise ValueError(f"clips of {made.shape} and {truth.shape} cannot be compared")
    found, places = track.track(made, scene.hue), world.trajectory(scene, len(made))
    low, high = GHOST_MASS
    odd = (found.sprites != 1) | (found.mass < low) | (found.mass > high) | ~(found.spread < GHOST_SPREAD)
    return Judged(
        psnr=decibels(made[1:-1], truth[1:-1]),
        region=_region(made[1:-1], truth[1:-1]),
        ssim=float(np.mean([ssim(a, b) for a, b in zip(made[1:-1], truth[1:-1], strict=True)])),
        first=decibels(made[0], truth[0]),
        last=decibels(made[-1], truth[-1]),
        path=off_path(found.places, places),
        reverse=against_heading(found.places, places),
        ghosts=float(odd.mean()),
        arrival=_arrival(found.places, places),
        drift=(_colour_gap(made[1], truth[0]) + _colour_gap(made[-2], truth[-1])) / 2,
    )


def decibels(a: Pictures, b: Pictures) -> float:
    """Measure the PSNR of two uint8 arrays of one shape; at most 108 dB, for equal ones."""
    squared = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / max(squared, 1e-6)))


def ssim(a: Pictures, b: Pictures) -> float:
    """Measure the structural similarity of two pictures (Wang et al. 2004).

    The window is a Gaussian of 1.5 pixels, the result the mean over channels.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)

    def blur(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(z, (11, 11), 1.5), dtype=np.float64)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(score[5:-5, 5:-5].mean())


def off_path(found: NDArray[np.float64], places: NDArray[np.float64]) -> float:
    """Measure how many pixels the arrow is off its true places, the mean over frames.

    Where it is not found, as many as the farthest place that a clip's arrow can be at.
    """
    far = np.linalg.norm(np.abs(places[:, :2] - world.SIZE / 2) + world.SIZE / 2 - world.MARGIN, axis=1)
    apart = np.linalg.norm(found[:, :2] - places[:, :2], axis=1)
    return float(np.mean(np.where(np.isfinite(apart), apart, far)))


def against_heading(found: NDArray[np.float64], places: NDArray[np.float64]) -> float:
    """Measure the way moved against the heading, as a share of the true way's length.

    1 is a whole clip in reverse. A step of which one end is not found counts with its true length.
    """
    moved = track.along_heading(found)
    true = np.linalg.norm(np.diff(places[:, :2], axis=0), axis=1)
    return float(np.where(np.isfinite(moved), np.maximum(0, -moved), true).sum() / true.sum())


def _arrival(found: NDArray[np.float64], places: NDArray[np.float64]) -> float:
    quarter = (len(places) - 1) // 4
    way, true = found[-1, :2] - found[-1 - quarter, :2], places[-1, :2] - places[-1 - quarter, :2]
    along = float(way @ true / (true @ true))
    return along if np.isfinite(along) else UNSEEN_ARRIVAL


def _region(made: Pictures, truth: Pictures) -> float:
    """Measure the PSNR over the pixels of the true arrow, widened; those of all frames together."""
    apart = np.abs(truth.astype(np.int16) - round(255 * world.GROUND))
    arrow = apart.max(axis=3) > REGION_LEVELS
    square = np.ones((REGION_MARGIN, REGION_MARGIN), np.uint8)
    region = np.stack([cv2.dilate(one.astype(np.uint8), square) for one in arrow]).astype(bool)
    return decibels(made[region], truth[region])


def _colour_gap(a: Pictures, b: Pictures) -> float:
    """Measure the CIE76 ΔE of two pictures' mean colours."""
    means = np.stack([a.reshape(-1, 3).mean(0), b.reshape(-1, 3).mean(0)])[None].astype(np.float32) / 255
    lab = cv2.cvtColor(means, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


def interval(values: Sequence[float], draws: int = 4000, seed: int = 0) -> tuple[float, float, float]:
    """Average over the clips and give the mean's 95 % bootstrap interval (percentiles); clips with NaN are left out.

    For a paired comparison give the differences, clip by clip. NaN throughout when nothing is left.
    """
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) == 0:
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(known), size=(draws, len(known)))
    low, high = np.percentile(known[drawn].mean(axis=1), [2.5, 97.5])
    return float(known.mean()), float(low), float(high)
