"""The picture between two pictures whose motion is known.

The motion of both is carried to the picture's moment and merged, and both are sampled along it, each counting where it
is visible. Pictures are (H, W, 3), or (H, W, 4) with a matte, which goes where the colours go and has no say in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mpd import vector_fields
from mpd.flow.motion import Motion, filled, mismatch_between, rigid_field
from mpd.vector_fields import Field, inside

_SEAM = 4.0  # pixels over which a keyframe fades in from its edge, so that no line shows where it begins
_LEAST_GAIN = 0.002
"""Of likeness, for which one of the motions that arrive is taken, and not what they merge to."""
_LEAST_WEIGHT = 0.01
"""Weight that must have arrived of it."""


@dataclass(frozen=True)
class IntermediateFlows:
    """Where the pixels of the frame at one moment come from, at working size."""

    #: (h, w, 2), from the frame to the start picture.
    to_start: Field
    #: (h, w, 2), from the frame to the end picture.
    to_end: Field
    #: (h, w), of the end picture.
    share: Field
    #: (h, w): how much of the motion here was seen, in 0…1; the rest is a guess from its surroundings.
    seen: Field


def intermediate(motion: Motion, time: np.float32) -> IntermediateFlows:
    """Carry the motion of both pictures to `time` (0 start … 1 end) and merge it.

    Where several motions arrive, as where a figure passes over a ground that stands, their mean may be a motion that
    nobody has seen: there the motion of what departs from the rigid one, or of what follows it, is taken in its place
    if the pictures are more alike along it.
    """
    every = _arrivals(motion, time, (motion.forward_weight, motion.backward_weight))
    rigid = rigid_field(motion.rigid, every.weight.shape, float(time))
    merged = filled(every.mean, np.minimum(1, 2 * every.weight).astype(np.float32, copy=False), rigid)
    departing = _arrivals(motion, time, motion.departing)
    following = every.less(departing)
    unlike = _unlike(motion, merged, time)
    for part in (departing, following):
        unlike_along = _unlike(motion, part.mean, time) + _LEAST_GAIN
        better = (unlike_along < unlike) & (part.weight > _LEAST_WEIGHT)
        merged[better], unlike[better] = part.mean[better], unlike_along[better]
    to_start, to_end = -time * merged, (1 - time) * merged
    grid = vector_fields.grid(*every.weight.shape)
    within = [np.maximum(inside(grid + flow, _SEAM), 1e-3) for flow in (to_start, to_end)]
    count_start = (1 - time) * within[0] * (every.seen[0] ** 2 + np.float32(3e-6))
    count_end = time * within[1] * (every.seen[1] ** 2 + np.float32(3e-6))
    return IntermediateFlows(to_start, to_end, count_end / (count_start + count_end), np.minimum(every.weight, 1))


def render(start: Any, end: Any, flows: IntermediateFlows, gain: Field, time: np.float32) -> Any:
    """Sample both pictures along the flows and blend them, in the kind of numbers that the two come in.

    gain: (3,), by which colours grow from the start to the end.
    """
    height, width = start.shape[:2]
    share = cv2.resize(flows.share, (width, height), interpolation=cv2.INTER_LINEAR)
    grid = vector_fields.grid(height, width)
    shown_start = _sharp_sample(start, grid + vector_fields.resized(flows.to_start, width, height))
    shown_end = _sharp_sample(end, grid + vector_fields.resized(flows.to_end, width, height))
    shown_start, shown_end = _exposed(shown_start, gain**time), _exposed(shown_end, gain ** (time - 1))
    return cv2.blendLinear(shown_start, shown_end, 1 - share, share)


@dataclass(frozen=True)
class _Arrivals:
    """Motion of both pictures that arrives at the pixels of one moment."""

    #: (h, w, 2): the sum of the motions from the start picture to the end picture, each times its weight.
    total: Field
    #: (h, w): the sum of the weights.
    weight: Field
    #: (h, w) each: the weight that arrives from the start picture, and from the end picture.
    seen: tuple[Field, Field]

    @property
    def mean(self) -> Field:
        """Give the mean of the motions (h, w, 2)."""
        return (self.total / np.maximum(self.weight, np.float32(1e-6))[..., None]).astype(np.float32, copy=False)

    def less(self, some: _Arrivals) -> _Arrivals:
        """Give what is left without some of them."""
        first, last = (all_seen - seen for all_seen, seen in zip(self.seen, some.seen, strict=True))
        return _Arrivals(self.total - some.total, self.weight - some.weight, (first, last))


def _arrivals(motion: Motion, time: np.float32, weights: tuple[Field, Field]) -> _Arrivals:
    """Carry the motion of both pictures, with its weights (h, w) in each, to `time`."""
    from_start, seen_start = _carried(motion.forward, weights[0], time)
    from_end, seen_end = _carried(motion.backward, weights[1], 1 - time)
    # The backward motion points the other way.
    total = (1 - time) * from_start - time * from_end
    weight = (1 - time) * seen_start + time * seen_end
    return _Arrivals(total, weight, (seen_start, seen_end))


def _unlike(motion: Motion, merged: Field, time: np.float32) -> Field:
    return mismatch_between(*motion.looks, -time * merged, (1 - time) * merged)


def _carried(motion: Field, weight: Field, share: np.float32) -> tuple[Field, Field]:
    """Move every pixel's motion along `share` of itself.

    Gives the weighted sum of the motions that arrive (h, w, 2) and their weights (h, w). Spread over a pixel's
    neighbourhood, so that a growing surface shows no cracks.
    """
    height, width = weight.shape
    target = np.rint(vector_fields.grid(height, width) + share * motion).astype(np.int64)
    arrives = (weight > 0) & (target >= 0).all(-1) & (target[..., 0] < width) & (target[..., 1] < height)
    place = (target[..., 1] * width + target[..., 0])[arrives]
    mass = weight[arrives]
    parts = (mass, *(mass * motion[..., axis][arrives] for axis in (0, 1)))
    sums = np.stack([np.bincount(place, part, height * width) for part in parts], -1)
    spread = cv2.GaussianBlur(sums.reshape(height, width, 3).astype(np.float32), (0, 0), 0.8)
    return spread[..., 1:], spread[..., 0]


def _sharp_sample(picture: Any, positions: Field) -> Any:
    """Sample a picture that is shown: bicubic, and mirrored beyond the edge, which shows less than streaks."""
    return cv2.remap(picture, positions, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _exposed(picture: Any, gain: Field) -> Any:
    """Multiply the colours of a picture (H, W, 3 or 4), uint8 or float32, by `gain` (3,)."""
    if np.abs(gain - 1).max() < 1e-3:
        return picture
    gain = np.append(gain, np.ones(picture.shape[2] - 3, np.float32))
    if picture.dtype != np.uint8:
        return picture * gain
    table = np.rint(np.clip(np.arange(256)[:, None] * gain, 0, 255)).astype(np.uint8)
    return cv2.LUT(picture, table[None])
