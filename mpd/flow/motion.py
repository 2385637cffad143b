"""The motion between two pictures, both ways, by OpenCV's dense inverse search (DIS).

Estimated at about 512×288: from a standing start and from each of a few motions that may hold for a part of the
picture, so that large motion is found too; every pixel keeps the candidate under which the pictures look most alike.
Motion that the opposite direction contradicts is taken for occluded and filled from its surroundings.

Knows nothing of models or torch. Motion fields are float32 (H, W, 2), pixels, x first; pictures are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd import vector_fields
from mpd.flow.candidates import Affine, shifts, similarities
from mpd.progress import Pictures
from mpd.vector_fields import Field, inside, ramp, working_size

GUESS = np.float32(0.02)
"""Weight of a filled-in motion beside 1 for a confirmed one."""
RELATED = (0.1, 0.35)
"""Sure shares of what is seen up to which two pictures have nothing to do with each other, and from which they have."""

_UNLIKE = (0.08, 0.14)
"""Mismatch of two places up to which one may be the other, and from which not."""
_DEPARTS = (1.0, 2.0)
"""Pixels from the rigid motion up to which another is the same, and from which not."""
_STILL = (4 / 255, 12 / 255)
"""Difference of colour up to which a place stands still, and from which not."""


@dataclass(frozen=True)
class Motion:
    """Motion between two keyframes at working size."""

    #: (h, w, 2), from the start keyframe's pixels.
    forward: Field
    #: (h, w, 2), from the end keyframe's pixels.
    backward: Field
    #: (h, w), the weight that each pixel's motion deserves.
    forward_weight: Field
    backward_weight: Field
    #: (h, w) for each keyframe: the weight of the motion that departs from the rigid one.
    departing: tuple[Field, Field]
    #: (2, 3), the one motion that says most about the whole picture.
    rigid: NDArray[np.float64]
    #: (3,), the change of exposure from the start to the end.
    gain: Field
    #: (h, w, 5) each: how both keyframes look at the end's exposure.
    looks: tuple[Field, Field]
    #: (h, w) for each keyframe, in 0…1: how far the opposite motion agrees and the places look alike.
    sure: tuple[Field, Field]
    #: In 0…1; where the keyframes have nothing to do with each other, nothing is sure.
    related: float


def estimate(start: Pictures, end: Pictures) -> Motion:
    """Estimate the motion between two pictures (H, W, 3), both ways; where they are unrelated nothing is sure of it."""
    size = working_size(*start.shape[:2])
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (start, end)]
    grey_start, grey_end = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in small)
    look_start, look_end = (appearance(picture) for picture in small)
    motions = similarities(grey_start, grey_end)
    candidates = [*motions, *shifts(look_start, look_end)]
    forward = _dense(grey_start, grey_end, look_start, look_end, candidates)
    inverses = [cv2.invertAffineTransform(motion) for motion in candidates]
    backward = _dense(grey_end, grey_start, look_end, look_start, inverses)
    sure_forward, sure_backward = _agreement(forward, backward), _agreement(backward, forward)
    gain = _gain(look_start, look_end, forward, sure_forward)
    look_exposed = _exposed(look_start, gain)
    sure_forward = sure_forward * _likeness(look_exposed, look_end, forward)
    sure_backward = sure_backward * _likeness(look_end, look_exposed, backward)
    texture_start, texture_end = texture(look_start), texture(look_end)
    related = min(_seen_share(sure_forward, texture_start), _seen_share(sure_backward, texture_end))
    related = ramp(np.float32(related), *RELATED)
    sure_forward, sure_backward = sure_forward * related, sure_backward * related
    rigid = motions[0] if motions and related > 0 else np.eye(2, 3)
    ways = rigid_field(rigid, forward.shape[:2]), -rigid_field(rigid, forward.shape[:2], 1.0)
    forward, backward = filled(forward, sure_forward, ways[0]), filled(backward, sure_backward, ways[1])
    weights = sure_forward * texture_start + GUESS, sure_backward * texture_end + GUESS
    return Motion(
        forward,
        backward,
        *weights,
        (weights[0] * _departs(forward, ways[0]), weights[1] * _departs(backward, ways[1])),
        rigid,
        gain if related > 0 else np.ones(3, np.float32),
        (look_exposed, look_end),
        (sure_forward, sure_backward),
        float(related),
    )


def _departs(motion: Field, rigid: Field) -> Field:
    """Tell in 0…1, (h, w), where a motion is another than the rigid one."""
    departs: Field = ramp(np.linalg.norm(motion - rigid, axis=-1), *_DEPARTS)
    return departs


def appearance(picture: Pictures) -> Field:
    """Give RGB in 0…1 and the grey level's gradient, which a change of exposure leaves alone: (h, w, 5)."""
    colour = picture.astype(np.float32) / 255
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    return np.dstack([colour, cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 2, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 2])


def _dense(grey: Pictures, other_grey: Pictures, look: Field, other_look: Field, motions: Sequence[Affine]) -> Field:
    """Estimate the motion from one grey picture to another: at each pixel what fits best.

    The choice is of DIS alone and of DIS after each of the motions.
    """
    grid = vector_fields.grid(*grey.shape)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    search.setFinestScale(0)
    best: Field = search.calc(grey, other_grey, None)
    lowest = mismatch(look, other_look, best)
    for motion in motions:
        turn, shift = motion[:, :2].T.astype(np.float32), motion[:, 2].astype(np.float32)
        brought_near = vector_fields.sample(other_grey, grid @ turn + shift)
        candidate = (grid + search.calc(grey, brought_near, None)) @ turn + shift - grid
        # Where every motion fits, as in flat regions, the search from a standing start is kept.
        apart = mismatch(look, other_look, candidate) + 0.004
        better = apart < lowest
        best[better], lowest[better] = candidate[better], apart[better]
    return best


def mismatch(look: Field, other_look: Field, motion: Field) -> Field:
    """Measure how much the appearance changes along the motion, averaged over a small neighbourhood: (h, w)."""
    target = vector_fields.grid(*motion.shape[:2]) + motion
    return _unlike(look, vector_fields.sample(other_look, target), inside(target))


def mismatch_between(look_start: Field, look_end: Field, to_start: Field, to_end: Field) -> Field:
    """Measure how unlike the two places are that a frame's pixels come from, averaged over a small neighbourhood.

    to_start, to_end: (h, w, 2), from the frame to the two pictures. Gives (h, w).
    """
    grid = vector_fields.grid(*to_start.shape[:2])
    places = grid + to_start, grid + to_end
    shown = vector_fields.sample(look_start, places[0]), vector_fields.sample(look_end, places[1])
    return _unlike(*shown, inside(places[0]) * inside(places[1]))


def _unlike(look: Field, other_look: Field, within: Field) -> Field:
    change = cv2.absdiff(look, other_look) @ np.full(look.shape[-1], 1 / look.shape[-1], np.float32)
    blurred: Field = cv2.GaussianBlur(np.minimum(change, np.float32(0.25)) + np.float32(0.1) * (1 - within), (0, 0), 3)
    return blurred


def _agreement(motion: Field, back: Field) -> Field:
    """Measure in 0…1, (h, w), whether the opposite motion leads back, at a pixel and at most of its neighbours.

    The tolerance grows with the motion, as in Sundaram, Brox and Keutzer (2010), but smoothly.
    """
    target = vector_fields.grid(*motion.shape[:2]) + motion
    returned = vector_fields.sample(back, target)
    error = ((motion + returned) ** 2).sum(-1)
    scale = 0.5 + 0.01 * ((motion**2).sum(-1) + (returned**2).sum(-1))
    agree: Field = np.exp(-error / scale) * inside(target)
    agree *= ramp(cv2.GaussianBlur(agree, (0, 0), 6), 0.25, 0.6)
    return agree


def _seen_share(sure: Field, seen: Field) -> float:
    """Tell how much is sure (h, w) of what is seen (h, w): flat ground, where any motion fits, says little."""
    return float((sure * seen).sum() / seen.sum())


def _likeness(look: Field, other_look: Field, motion: Field) -> Field:
    """Measure in 0…1, (h, w), whether the two places look alike: two pictures may agree on a motion by chance."""
    like: Field = 1 - ramp(mismatch(look, other_look, motion), *_UNLIKE)
    return like


def _gain(look_start: Field, look_end: Field, forward: Field, sure: Field) -> Field:
    """Estimate by what factor red, green and blue grow from the start to the end on surfaces that both show: (3,).

    What stands still, unchanged, counts wholly: an exposure would change it too. 1 where the factor is more than an
    exposure can be, as in a fade.
    """
    arrived = vector_fields.sample(look_end, vector_fields.grid(*forward.shape[:2]) + forward)
    still = 1 - ramp(np.abs(look_start - look_end)[..., :3].max(-1), *_STILL)
    before, after = (
        (sure[..., None] * moved + ((1 - sure) * still)[..., None] * stood)[..., :3].mean((0, 1)) + 1e-3
        for moved, stood in ((look_start, look_start), (arrived, look_end))
    )
    gain: Field = (after / before).astype(np.float32)
    return np.where(np.all((gain >= 0.5) & (gain <= 2)), gain, np.float32(1))


def _exposed(look: Field, gain: Field) -> Field:
    """Give how a picture would look with its colours (3,) times as bright."""
    return look * np.append(gain, [gain.mean()] * 2).astype(np.float32)


def texture(look: Field) -> Field:
    """Weigh the texture of a look in 0.1…1, (h, w).

    Where two motions meet, the one of a textured surface is the one to believe.
    """
    energy = cv2.GaussianBlur((look[..., 3:] ** 2).sum(-1), (0, 0), 4)
    weight: Field = np.float32(0.1) + np.float32(0.9) * energy / (energy + np.float32(1e-4))
    return weight


def rigid_field(rigid: NDArray[np.float64], shape: tuple[int, ...], time: float = 0.0) -> Field:
    """Give how a rigid motion, each point going straight and evenly, moves what is at a pixel at `time`: (h, w, 2)."""
    turn, shift = rigid[:, :2], rigid[:, 2]
    back = np.linalg.inv((1 - time) * np.eye(2) + time * turn)
    origin = (vector_fields.grid(*shape[:2]) - (time * shift).astype(np.float32)) @ back.T.astype(np.float32)
    field: Field = origin @ (turn - np.eye(2)).T.astype(np.float32) + shift.astype(np.float32)
    return field


def filled(motion: Field, weight: Field, rigid: Field) -> Field:
    """Keep the motion where its weight (0…1) is high, and fill in the rest.

    Elsewhere it is the rigid motion and how the nearest weighty pixels depart from it.
    """
    levels = [((motion - rigid) * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 4:
        levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
    total, weight = levels[-1]
    filled = total / (weight[..., None] + np.float32(0.02))
    for total, weight in reversed(levels):
        filled = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        own = np.minimum(1, 4 * weight)[..., None]
        known = (total + np.float32(1e-3) * filled) / (weight[..., None] + np.float32(1e-3))
        filled += own * (known - filled)
    return filled + rigid
