"""Inbetweens by optical flow, for photographs on a machine without a model.

Motion is estimated both ways at about 512×288: OpenCV's dense inverse search (DIS) from a standing start and from
each of a few similarity motions that SIFT matches agree on, so that large motion is found too; every pixel
keeps the candidate under which the pictures look most alike. Motion that the opposite direction contradicts is
taken for occluded and filled from its surroundings. For each inbetween the motion of both keyframes is carried to
its moment, merged, and both keyframes are sampled along it, each counting where it is visible. Pictures that have
nothing to do with each other end in a plain dissolve.

Knows nothing of models or torch. Motion fields are float32 (H, W, 2), pixels, x first; pictures are uint8 RGB, with a
matte as a fourth channel where there is one, which goes where the colours go and has no say in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd import vector_fields
from mpd.lengths import flow_size, segment_frames, total_frames
from mpd.methods import FLOW_FRAMES, Settings, SettingsError
from mpd.output.clip import eight_bits, to_bits
from mpd.progress import Frames, Pictures, Progress, Take
from mpd.vector_fields import Field

__all__ = ["FLOW_FRAMES", "flow_frames", "flow_size", "generate"]

_MOST_MOTIONS = 4
_FEWEST_MATCHES = 8
_GUESS = np.float32(0.02)  # weight of a filled-in motion beside 1 for a confirmed one
_SEAM = 4.0  # pixels over which a keyframe fades in from its edge, so that no line shows where it begins
_PREVIEW_WIDTH = 256


def generate(pictures: Sequence[Pictures], settings: Settings, bits: int = 8) -> Iterator[Progress | Take]:
    """Make all segments between the pictures (H, W, 3 or 4): one `Progress` per frame, then a `Take` per seed.

    bits: 8 or 16, of the frames' samples. Nothing here is random, so the takes are equal and only the first costs
    anything. Raises `SettingsError` when the pictures do not fit the settings.
    """
    if len({picture.shape for picture in pictures}) > 1:
        raise SettingsError("keyframes", "differ in size", "Bring all to one size first")
    return _takes(pictures, settings, segment_frames(settings, len(pictures), FLOW_FRAMES), bits)


def _takes(
    pictures: Sequence[Pictures], settings: Settings, lengths: tuple[int, ...], bits: int
) -> Iterator[Progress | Take]:
    total = total_frames(lengths, settings.loop)
    stops = [*pictures, pictures[0]] if settings.loop else pictures
    frames: Frames = np.empty((total, *pictures[0].shape), np.uint8 if bits == 8 else np.uint16)
    done = 0
    for segment, (ends, length) in enumerate(zip(itertools.pairwise(stops), lengths, strict=True)):
        # A boundary frame belongs to the segment before it, and a loop's return to the start to none.
        first, last = int(segment > 0), length - int(settings.loop and segment == len(lengths) - 1)
        for step, frame in enumerate(itertools.islice(flow_frames(*ends, length, bits), first, last), 1):
            frames[done] = frame
            done += 1
            yield Progress(
                take=0,
                takes=len(settings.seeds),
                segment=segment,
                segments=len(lengths),
                step=step,
                steps=last - first,
                fraction=done / total,
                sigma=None,
                preview=partial(_small, frame),
            )
    for index, seed in enumerate(settings.seeds):
        matte = frames[..., 3] if frames.shape[3] == 4 else None
        yield Take(index, seed, frames[..., :3], settings.fps, matte)


def flow_frames(start: Pictures, end: Pictures, frames: int, bits: int = 8) -> Iterator[Frames]:
    """Yield `frames` pictures (H, W, 3 or 4) in order; the first and the last are exactly `start` and `end`.

    With 16 bits, what lies between two levels of the keyframes is kept.
    """
    if bits == 16:
        ends: list[Frames] = [to_bits(picture, 16) for picture in (start, end)]
        given: list[Frames] = [picture.astype(np.float32) for picture in ends]
    else:
        ends = given = [start, end]
    yield ends[0]
    if frames > 2:
        motion = _estimate(start[..., :3], end[..., :3])
        for index in range(1, frames - 1):
            between = _inbetween(given[0], given[1], motion, np.float32(index / (frames - 1)))
            yield between if bits == 8 else np.rint(np.clip(between, 0, 65535)).astype(np.uint16)
    yield ends[1]


@dataclass(frozen=True)
class _Motion:
    """Motion between two keyframes at working size: `forward` from the start keyframe's pixels, `backward` from the
    end keyframe's, with the weight (h, w) that each pixel's motion deserves. `rigid` (2, 3) is the one motion that
    says most about the whole picture, `gain` (3,) the change of exposure."""

    forward: Field
    backward: Field
    forward_weight: Field
    backward_weight: Field
    rigid: NDArray[np.float64]
    gain: Field


def _estimate(start: Pictures, end: Pictures) -> _Motion:
    size = vector_fields.working_size(*start.shape[:2])
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (start, end)]
    grey_start, grey_end = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in small)
    look_start, look_end = (_appearance(picture) for picture in small)
    motions = _rigid_motions(grey_start, grey_end)
    forward = _dense(grey_start, grey_end, look_start, look_end, motions)
    inverses = [cv2.invertAffineTransform(motion) for motion in motions]
    backward = _dense(grey_end, grey_start, look_end, look_start, inverses)
    sure_forward, sure_backward = _agreement(forward, backward), _agreement(backward, forward)
    related = _ramp(np.minimum(sure_forward.mean(), sure_backward.mean()), 0.1, 0.35)
    sure_forward, sure_backward = sure_forward * related, sure_backward * related
    rigid = motions[0] if motions and related > 0 else np.eye(2, 3)
    return _Motion(
        _filled(forward, sure_forward, _rigid_field(rigid, forward.shape[:2])),
        _filled(backward, sure_backward, -_rigid_field(rigid, forward.shape[:2], 1.0)),
        sure_forward * _texture(look_start) + _GUESS,
        sure_backward * _texture(look_end) + _GUESS,
        rigid,
        _gain(look_start, look_end, forward, sure_forward),
    )


def _appearance(picture: Pictures) -> Field:
    """Give RGB in 0…1 and the grey level's gradient, which a change of exposure leaves alone: (h, w, 5)."""
    colour = picture.astype(np.float32) / 255
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    return np.dstack([colour, cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 2, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 2])


def _rigid_motions(start: Pictures, end: Pictures) -> list[NDArray[np.float64]]:
    """Find up to four similarity motions (2×3) of grey pictures, the most supported first.

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
    motions: list[NDArray[np.float64]] = []
    while len(motions) < _MOST_MOTIONS and len(here) >= _FEWEST_MATCHES:
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


def _dense(
    grey: Pictures, other_grey: Pictures, look: Field, other_look: Field, motions: Sequence[NDArray[np.float64]]
) -> Field:
    """Estimate the motion from one grey picture to another: at each pixel what fits best.

    The choice is of DIS alone and of DIS after each rigid motion.
    """
    grid = vector_fields.grid(*grey.shape)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    search.setFinestScale(0)
    best: Field = search.calc(grey, other_grey, None)
    lowest = _mismatch(look, other_look, best)
    for motion in motions:
        turn, shift = motion[:, :2].T.astype(np.float32), motion[:, 2].astype(np.float32)
        brought_near = vector_fields.sample(other_grey, grid @ turn + shift)
        candidate = (grid + search.calc(grey, brought_near, None)) @ turn + shift - grid
        # A small handicap keeps flat regions, where every motion fits, with the plainest one.
        mismatch = _mismatch(look, other_look, candidate) + 0.004
        better = mismatch < lowest
        best[better], lowest[better] = candidate[better], mismatch[better]
    return best


def _mismatch(look: Field, other_look: Field, motion: Field) -> Field:
    """Measure how much the appearance changes along the motion, averaged over a small neighbourhood: (h, w)."""
    target = vector_fields.grid(*motion.shape[:2]) + motion
    change = np.abs(look - vector_fields.sample(other_look, target)).mean(-1)
    blurred: Field = cv2.GaussianBlur(np.minimum(change, 0.25) + np.float32(0.1) * (1 - _inside(target)), (0, 0), 3)
    return blurred


def _agreement(motion: Field, back: Field) -> Field:
    """Measure in 0…1, (h, w), whether the opposite motion leads back, at a pixel and at most of its neighbours.

    The tolerance grows with the motion, as in Sundaram, Brox and Keutzer (2010), but smoothly.
    """
    target = vector_fields.grid(*motion.shape[:2]) + motion
    returned = vector_fields.sample(back, target)
    error = ((motion + returned) ** 2).sum(-1)
    scale = 0.5 + 0.01 * ((motion**2).sum(-1) + (returned**2).sum(-1))
    agree: Field = np.exp(-error / scale) * _inside(target)
    agree *= _ramp(cv2.GaussianBlur(agree, (0, 0), 6), 0.25, 0.6)
    return agree


def _gain(look_start: Field, look_end: Field, forward: Field, sure: Field) -> Field:
    """Estimate by what factor red, green and blue grow from the start to the end on surfaces that both show: (3,)."""
    arrived = vector_fields.sample(look_end, vector_fields.grid(*forward.shape[:2]) + forward)
    before, after = ((sure[..., None] * look[..., :3]).mean((0, 1)) + 1e-3 for look in (look_start, arrived))
    gain: Field = np.clip(after / before, 0.5, 2).astype(np.float32)
    return gain


def _exposed(picture: Any, gain: Field) -> Any:
    """Multiply the colours of a picture (H, W, 3 or 4), uint8 or float32, by `gain` (3,)."""
    if np.abs(gain - 1).max() < 1e-3:
        return picture
    gain = np.append(gain, np.ones(picture.shape[2] - 3, np.float32))
    if picture.dtype != np.uint8:
        return picture * gain
    table = np.rint(np.clip(np.arange(256)[:, None] * gain, 0, 255)).astype(np.uint8)
    return cv2.LUT(picture, table[None])


def _texture(look: Field) -> Field:
    """Weigh texture in 0.1…1, (h, w).

    Where two motions meet, the one of a textured surface is the one to believe.
    """
    energy = cv2.GaussianBlur((look[..., 3:] ** 2).sum(-1), (0, 0), 4)
    texture: Field = np.float32(0.1) + np.float32(0.9) * energy / (energy + np.float32(1e-4))
    return texture


def _rigid_field(rigid: NDArray[np.float64], shape: tuple[int, ...], time: float = 0.0) -> Field:
    """Give how a rigid motion, each point going straight and evenly, moves what is at a pixel at `time`: (h, w, 2)."""
    turn, shift = rigid[:, :2], rigid[:, 2]
    back = np.linalg.inv((1 - time) * np.eye(2) + time * turn)
    origin = (vector_fields.grid(*shape[:2]) - (time * shift).astype(np.float32)) @ back.T.astype(np.float32)
    field: Field = origin @ (turn - np.eye(2)).T.astype(np.float32) + shift.astype(np.float32)
    return field


def _filled(motion: Field, weight: Field, rigid: Field) -> Field:
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


def _inbetween(start: Any, end: Any, motion: _Motion, time: np.float32) -> Any:
    """Make the picture at `time` (0 start … 1 end), in the kind of numbers that the two come in."""
    height, width = start.shape[:2]
    from_start, seen_start = _carried(motion.forward, motion.forward_weight, time)
    from_end, seen_end = _carried(motion.backward, motion.backward_weight, 1 - time)
    # The backward motion points the other way.
    total = (1 - time) * from_start - time * from_end
    weight = (1 - time) * seen_start + time * seen_end
    mean = (total / np.maximum(weight, np.float32(1e-6))[..., None]).astype(np.float32, copy=False)
    rigid = _rigid_field(motion.rigid, weight.shape, float(time))
    merged = _filled(mean, np.minimum(1, 2 * weight).astype(np.float32, copy=False), rigid)
    grid = vector_fields.grid(*weight.shape)
    inside = [np.maximum(_inside(place, _SEAM), 1e-3) for place in (grid - time * merged, grid + (1 - time) * merged)]
    count_start = (1 - time) * inside[0] * (seen_start**2 + np.float32(3e-6))
    count_end = time * inside[1] * (seen_end**2 + np.float32(3e-6))
    share = cv2.resize(count_end / (count_start + count_end), (width, height), interpolation=cv2.INTER_LINEAR)
    merged = cv2.resize(merged, (width, height), interpolation=cv2.INTER_LINEAR)
    merged *= np.array([width / weight.shape[1], height / weight.shape[0]], np.float32)
    grid = vector_fields.grid(height, width)
    shown_start = _exposed(_sharp_sample(start, grid - time * merged), motion.gain**time)
    shown_end = _exposed(_sharp_sample(end, grid + (1 - time) * merged), motion.gain ** (time - 1))
    return cv2.blendLinear(shown_start, shown_end, 1 - share, share)


def _carried(motion: Field, weight: Field, share: np.float32) -> tuple[Field, Field]:
    """Move every pixel's motion along `share` of itself.

    Gives the weighted sum of the motions that arrive (h, w, 2) and their weights (h, w). Spread over a pixel's
    neighbourhood, so that a growing surface shows no cracks.
    """
    height, width = weight.shape
    target = np.rint(vector_fields.grid(height, width) + share * motion).astype(np.int64)
    arrives = (target >= 0).all(-1) & (target[..., 0] < width) & (target[..., 1] < height)
    place = (target[..., 1] * width + target[..., 0])[arrives]
    mass = weight[arrives]
    parts = (mass, *(mass * motion[..., axis][arrives] for axis in (0, 1)))
    sums = np.stack([np.bincount(place, part, height * width) for part in parts], -1)
    spread = cv2.GaussianBlur(sums.reshape(height, width, 3).astype(np.float32), (0, 0), 0.8)
    return spread[..., 1:], spread[..., 0]


def _sharp_sample(picture: Any, positions: Field) -> Any:
    """Sample a picture that is shown: bicubic, and mirrored beyond the edge, which shows less than streaks."""
    return cv2.remap(picture, positions, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _inside(positions: Field, margin: float = 0.0) -> Field:
    """Weigh positions (h, w): 1 in a picture of the same size, 0 beyond a pixel outside.

    Between them the weight rises over `margin` pixels.
    """
    height, width = positions.shape[:2]
    x, y = positions[..., 0], positions[..., 1]
    depth = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    share: Field = np.clip((depth + 1) / np.float32(1 + margin), 0, 1)
    return share


def _ramp(values: Any, low: float, high: float) -> Any:
    """Rise smoothly from 0 below `low` to 1 above `high`."""
    share = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return share * share * (3 - 2 * share)


def _small(frame: Frames) -> Pictures:
    height, width = frame.shape[:2]
    scale = min(1.0, _PREVIEW_WIDTH / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small: Frames = cv2.resize(np.ascontiguousarray(frame[..., :3]), size, interpolation=cv2.INTER_AREA)
    return eight_bits(small)
