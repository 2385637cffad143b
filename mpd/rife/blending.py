"""One frame of RIFE's network and of `flow`'s motion: each pixel as the motion shows it under which the pictures agree.

Pictures are blended, never motions: the mean of two motions is a third that nobody has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd import vector_fields
from mpd.flow.motion import appearance
from mpd.flow.rendering import IntermediateFlows
from mpd.progress import Pictures
from mpd.rife.interpolator import Rendered
from mpd.vector_fields import Field, inside, ramp

_HANDICAP = 0.04
"""What `flow` pays on photographs, where a wrong motion may fit better than a true one; among flat colours, nothing."""
_GUESSED = 0.3
"""What `flow` pays besides where its motion was seen in neither picture."""
_SEEN = (0.02, 0.3)
"""Shares of its motion that was seen from which it pays less, and from which nothing."""
_FLAT = (0.5, 0.8)
"""Shares of exactly flat pixels around a pixel from which a picture is taken for a drawing."""
_AROUND = 24.0
"""Pixels at working size that those shares are taken over (σ)."""
_SOFTNESS = 0.008
"""Difference of mismatch over which one motion gives way to the other."""


@dataclass(frozen=True)
class Looks:
    """Two pictures as motions between them are judged, at working size."""

    start: Field
    end: Field
    #: (h, w) in 0…1: how much of its surroundings is flat.
    flat: NDArray[np.float32]
    #: (width, height).
    size: tuple[int, int]

    def mismatch(self, to_start: Field, to_end: Field) -> NDArray[np.float32]:
        """Measure how unlike the two places are that a frame's pixels (h, w) come from."""
        grid = vector_fields.grid(*to_start.shape[:2])
        places = grid + to_start, grid + to_end
        change = np.abs(vector_fields.sample(self.start, places[0]) - vector_fields.sample(self.end, places[1])).mean(
            -1
        )
        outside = 1 - inside(places[0]) * inside(places[1])
        blurred: NDArray[np.float32] = cv2.GaussianBlur(
            np.minimum(change, np.float32(0.25)) + np.float32(0.1) * outside, (0, 0), 3
        )
        return blurred


def looks(start: Pictures, end: Pictures, size: tuple[int, int]) -> Looks:
    """Look at two pictures (H, W, 3) at working size (width, height)."""
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (start, end)]
    flat = np.minimum(*(_flat(picture, size) for picture in (start, end)))
    return Looks(appearance(small[0]), appearance(small[1]), cv2.GaussianBlur(flat, (0, 0), _AROUND), size)


def _flat(picture: Pictures, size: tuple[int, int]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    alike = np.zeros(grey.shape, np.float32)
    alike[:-1, :-1] = (grey[:-1, :-1] == grey[1:, :-1]) & (grey[:-1, :-1] == grey[:-1, 1:])
    small: NDArray[np.float32] = cv2.resize(alike, size, interpolation=cv2.INTER_AREA)
    return small


def shares(seen: Looks, rendered: Rendered, flows: IntermediateFlows) -> NDArray[np.float32]:
    """Give how much (h, w) of the frame is shown as the network has it; the rest is `flow`'s."""
    network = [_working(flow, seen.size) for flow in (rendered.to_start, rendered.to_end)]
    share = cv2.resize(rendered.share, seen.size, interpolation=cv2.INTER_LINEAR)
    own = seen.mismatch(flows.to_start, flows.to_end)
    flat = ramp(seen.flat, *_FLAT)
    # Where the network shows one picture alone, the other is hidden there and need not be like it.
    both = flat + (1 - flat) * 4 * share * (1 - share)
    handicap = (1 - flat) * _HANDICAP + _GUESSED * (1 - ramp(flows.seen, *_SEEN))
    lead = own + handicap - seen.mismatch(*network) * both
    given: NDArray[np.float32] = 1 / (1 + np.exp(-np.clip(lead / _SOFTNESS, -30, 30)))
    return given.astype(np.float32)


def _working(flow: Field, size: tuple[int, int]) -> Field:
    return vector_fields.resized(flow, *size)


def blended(network: Any, own: Any, share: NDArray[np.float32]) -> Any:
    """Blend two frames (H, W, C) by the share (h, w) of the first."""
    height, width = network.shape[:2]
    full = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    return own + full * (network - own)


def chosen(network: Field, own: Field, share: NDArray[np.float32]) -> Field:
    """Give at each pixel (H, W, 2) the motion that shows more of it, by the share (h, w) of the first."""
    height, width = network.shape[:2]
    most = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)[..., None] > 0.5
    picked: Field = np.where(most, network, own)
    return picked
