"""Motions that may hold for a part of a picture: which pixel follows which is decided by who asks.

Two sorts. Similarity motions are what the SIFT matches of textured surfaces agree on; shifts are what the edges of
everything that differs agree on, and so find what has no texture: a painted figure before a ground that stands.

Looks are as `mpd.flow.motion.appearance` gives them; a motion is a (2, 3) affine matrix of pixels, x first.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd.progress import Pictures
from mpd.vector_fields import Field, ramp

Affine = NDArray[np.float64]

_MOST_SIMILARITIES = 4
_FEWEST_MATCHES = 8
_MOST_SHIFTS = 4
_DIFFERS = (0.03, 0.08)
"""Difference of colour, in 0…1, from which an edge counts, and from which wholly."""
_LEAST_PEAK = 0.15
"""Of the highest peak's height, that another must have."""
_LEAST_SPREADS = 8.0
"""Standard deviations of the correlation above which there is a peak, and not its noise."""
_PEAK_RADIUS = 6
"""Pixels across and down from a peak in which none is higher."""
_LEAST_SHIFT = 2.0
"""Pixels, below which the search from a standing start does as well."""
_FURTHEST = 1 / 3
"""Of the picture's longer side."""


def similarities(start: Pictures, end: Pictures) -> list[Affine]:
    """Find up to four similarity motions of grey pictures, the most supported first.

    Each is the one that most of the SIFT matches left over by those before agree on (RANSAC).
    """
    sift = cv2.SIFT_create(1500, contrastThreshold=0.02)  # type: ignore[attr-defined]  # missing in its stubs
    (points_start, marks_start), (points_end, marks_end) = (sift.detectAndCompute(grey, None) for grey in (start, end))
    if min(len(points_start), len(points_end)) < _FEWEST_MATCHES:
        return []
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(marks_start, marks_end, k=2)
    matches = [best for best, second in pairs if best.distance < 0.8 * second.distance]
    here = np.array([points_start[match.queryIdx].pt for match in matches], np.float32).reshape(-1, 2)
    there = np.array([points_end[match.trainIdx].pt for match in matches], np.float32).reshape(-1, 2)
    motions: list[Affine] = []
    while len(motions) < _MOST_SIMILARITIES and len(here) >= _FEWEST_MATCHES:
        motion, agree = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=3)
        if motion is None or agree.sum() < _FEWEST_MATCHES:
            break
        size = np.hypot(motion[0, 0], motion[1, 0])
        # Beyond 60 degrees points that go straight pass too near each other: at 180 they all meet halfway.
        if 1 / 3 < size < 3 and motion[0, 0] > size / 2:
            motions.append(motion)
        left = agree.ravel() == 0
        here, there = here[left], there[left]
    return motions


def shifts(start: Field, end: Field) -> list[Affine]:
    """Find up to four shifts of what differs between two looks (h, w, 5), the most supported first.

    The peaks of the correlation, half whitened, of both pictures' edges where they differ: what stands still in both
    would be the highest peak of all. Several peaks as candidate vectors: G. A. Thomas, "Television motion measurement
    for DATV and other applications", BBC Research Department report 1987/11.
    """
    colours = start[..., :3], end[..., :3]
    change = cv2.dilate(cv2.absdiff(*colours).max(-1), np.ones((3, 3), np.uint8))
    differs = ramp(change, *_DIFFERS)
    height, width = differs.shape
    reach = round(max(height, width) * _FURTHEST)
    across, down = min(reach, width - 1), min(reach, height - 1)
    # As much ground behind the edge as the furthest shift needs, or one side would be taken for going on at the other.
    size = cv2.getOptimalDFTSize(height + down), cv2.getOptimalDFTSize(width + across)
    spectrum = np.zeros(size, np.complex64)
    for channel in range(3):
        first, second = (np.fft.fft2(_edges(colour[..., channel]) * differs, size) for colour in colours)
        spectrum += first.conj() * second
    power = np.abs(spectrum)
    if not power.any():
        return []
    correlation = np.fft.ifft2(spectrum / np.sqrt(power + 0.3 * power.mean())).real.astype(np.float32)
    within = np.roll(correlation, (down, across), (0, 1))[: 2 * down + 1, : 2 * across + 1]
    return _peaks(cv2.GaussianBlur(within, (0, 0), 1), (across, down))


def _edges(channel: Field) -> NDArray[np.complex64]:
    edges: NDArray[np.complex64] = cv2.Sobel(channel, cv2.CV_32F, 1, 0) + 1j * cv2.Sobel(channel, cv2.CV_32F, 0, 1)
    return edges


def _peaks(correlation: Field, origin: tuple[int, int]) -> list[Affine]:
    around = np.ones((2 * _PEAK_RADIUS + 1, 2 * _PEAK_RADIUS + 1), np.uint8)
    highest = float(correlation.max())
    least = max(_LEAST_PEAK * highest, _LEAST_SPREADS * float(correlation.std()))
    rows, columns = np.nonzero((correlation == cv2.dilate(correlation, around)) & (correlation > least))
    order = np.argsort(-correlation[rows, columns], kind="stable")[:_MOST_SHIFTS]
    found = [(float(columns[one] - origin[0]), float(rows[one] - origin[1])) for one in order]
    return [
        np.array([[1, 0, across], [0, 1, down]]) for across, down in found if np.hypot(across, down) >= _LEAST_SHIFT
    ]
