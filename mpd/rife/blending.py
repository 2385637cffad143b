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
from mpd.flow.motion import appearance, mismatch_between, texture
from mpd.flow.rendering import IntermediateFlows
from mpd.progress import Pictures
from mpd.rife.interpolator import Rendered
from mpd.vector_fields import Field, ramp, reached

# What is one number for photographs, another for drawings.
_HANDICAP = (0.04, 0.0)
"""What `flow` pays: on photographs a wrong motion may fit better than a true one."""
_GUESSED = (0.3, 0.1)
"""What `flow` pays besides where its motion was seen in neither picture."""
_HIDDEN = (0.0, 0.5)
"""What a motion pays for what the other shows and it does not, of what is seen."""
_TORN = (0.0, 0.5)
"""What a motion pays for where it changes from pixel to pixel."""
_SOFTNESS = (0.008, 0.025)
"""Difference of mismatch over which one motion gives way to the other."""

_SEEN = (0.02, 0.3)
"""Shares of its motion that was seen from which `flow` pays less, and from which nothing."""
_FLAT = (0.5, 0.8)
"""Shares of exactly flat pixels around a pixel from which a picture is taken for a drawing there."""
_FLAT_ALL = (0.6, 0.8)
"""Shares of them in all from which it is taken for a drawing everywhere."""
_AROUND = 24.0
"""Pixels at working size that those shares are taken over (σ)."""
_HIDDEN_AROUND = 5.0
"""Pixels at working size over which it is asked what is hidden (σ)."""
_TORN_AROUND = 4.0
"""The same of what is torn (σ)."""
_TEARS = 4.0
"""Pixels, from one pixel to the next, by which a motion is torn wholly."""
UNLIKE = (0.02, 0.1)
"""Mismatch of the two places that a pixel comes from up to which its motion is believed, and from which not."""


Ways = tuple[Field, Field]
"""(h, w, 2) each: from a frame to the start picture, and to the end picture."""


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
        return mismatch_between(self.start, self.end, to_start, to_end)


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
    own = flows.to_start, flows.to_end
    network = _working(rendered.to_start, seen.size), _working(rendered.to_end, seen.size)
    share = cv2.resize(rendered.share, seen.size, interpolation=cv2.INTER_LINEAR)
    unlike_own, unlike_network = seen.mismatch(*own), seen.mismatch(*network)
    flat = np.maximum(ramp(seen.flat, *_FLAT), ramp(seen.flat.mean(), *_FLAT_ALL))
    # Where the network shows one picture alone, the other is hidden there and need not be like it.
    both = flat + (1 - flat) * 4 * share * (1 - share)
    pays = _of(flat, _HANDICAP) + _of(flat, _GUESSED) * (1 - ramp(flows.seen, *_SEEN))
    if flat.any():
        pays += _of(flat, _TORN) * (_torn(own) - _torn(network))
        hidden = _hidden(seen, network, unlike_network, own, unlike_own)
        hidden -= _hidden(seen, own, unlike_own, network, unlike_network)
        pays += _of(flat, _HIDDEN) * cv2.GaussianBlur(hidden, (0, 0), _HIDDEN_AROUND)
    lead = unlike_own + pays - unlike_network * both
    given: NDArray[np.float32] = 1 / (1 + np.exp(-np.clip(lead / _of(flat, _SOFTNESS), -30, 30)))
    return given.astype(np.float32)


def _of(flat: Field, values: tuple[float, float]) -> Field:
    """Give at each pixel (h, w) the value for photographs, or for drawings."""
    photograph, drawing = values
    given: Field = np.float32(photograph) + flat * np.float32(drawing - photograph)
    return given


def _torn(ways: Ways) -> NDArray[np.float32]:
    """Measure (h, w) how much a motion changes from pixel to pixel: what moves is whole."""
    motion = ways[1] - ways[0]
    torn = np.zeros(motion.shape[:2], np.float32)
    for axis in (0, 1):
        step = np.abs(np.diff(motion, axis=axis, prepend=motion.take([0], axis))).sum(-1)
        torn += np.minimum(step / np.float32(_TEARS), 1)
    blurred: NDArray[np.float32] = cv2.GaussianBlur(torn, (0, 0), _TORN_AROUND)
    return blurred


def _hidden(seen: Looks, ways: Ways, unlike: Field, others: Ways, unlike_others: Field) -> NDArray[np.float32]:
    """Measure (h, w) of what a frame shows by its ways how much is nowhere in the frame by the others.

    Two places may be alike because neither shows the line that was between them: paper is like paper.
    """
    grid = vector_fields.grid(*unlike.shape)
    sure, others_sure = (1 - ramp(value, *UNLIKE) for value in (unlike, unlike_others))
    halves = [
        vector_fields.sample(texture(look) * (1 - reached(other, others_sure)), grid + way)
        for look, way, other in zip((seen.start, seen.end), ways, others, strict=True)
    ]
    hidden: NDArray[np.float32] = sure * (halves[0] + halves[1]) / 2
    return hidden


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
