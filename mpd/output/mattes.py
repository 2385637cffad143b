"""The matte of a video that a model made: the keyframes' own mattes, carried along the motion seen in its frames.

A model makes opaque frames and knows no transparency. So the motion from each frame to the next is measured in the
frames themselves (DIS, at about 512×288) and added up, from a segment's start and from its end; a pixel's matte is what
both keyframes have where the pixel comes from and goes to, each counting the more the nearer it is and the more alike
the two pixels look. Frames that show a keyframe have exactly its matte.

Knows nothing of models or torch. `flow`, whose motion is known, carries its mattes itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from mpd import vector_fields
from mpd.methods import METHODS, Settings
from mpd.output.clip import eight_bits
from mpd.progress import Frames, Pictures
from mpd.vector_fields import Field

_ALIKE = np.float32(0.08)  # mean difference of colours, of 1, at which a pixel is hardly believed to be the same one


def follow(
    frames: Frames,
    keyframes: Sequence[Pictures],
    settings: Settings,
    lengths: Sequence[int],
    on_frame: Callable[[], None] = lambda: None,
) -> Frames:
    """Make the matte (N, H, W) of frames (N, H, W, 3), in their type.

    keyframes: the matte (H, W) uint8 of each. lengths: frames of each segment, both ends included. on_frame: called
    again and again on the way; what it raises passes through.
    """
    matte: Frames = np.empty(frames.shape[:3], frames.dtype)
    full = np.iinfo(frames.dtype).max / 255
    first = 0
    for number, length in enumerate(lengths):
        # A loop's last segment ends where the video begins.
        indices = [(first + step) % len(frames) for step in range(length)]
        uses_end = METHODS[settings.method].uses_end and len(keyframes) > 1
        end = keyframes[(number + 1) % len(keyframes)] if uses_end else None
        found = _segment([frames[index] for index in indices], keyframes[number], end)
        wraps = settings.loop and number == len(lengths) - 1
        for index, one in zip(indices[:-1] if wraps else indices, found, strict=False):
            matte[index] = np.rint(one * full)
            on_frame()
        first += length - 1
    return matte


def _segment(frames: Sequence[Frames], start: Pictures, end: Pictures | None) -> Iterator[Field]:
    """Make the mattes (H, W), 0 to 255, of a segment's frames (H, W, 3), in order."""
    small = [_working(frame) for frame in frames]
    from_start = _origins(small)
    from_end = None if end is None else list(_origins(small[::-1]))[::-1]
    for index, origin in enumerate(from_start):
        shown = _carried(start, origin)
        if end is not None and from_end is not None:
            time = index / (len(frames) - 1)
            trust = (1 - time) * _trust(small[index], small[0], origin)
            other = time * _trust(small[index], small[-1], from_end[index])
            share = cv2.resize(other / (trust + other), shown.shape[::-1], interpolation=cv2.INTER_LINEAR)
            shown = shown + share * (_carried(end, from_end[index]) - shown)
        yield shown


def _working(frame: Frames) -> Pictures:
    """Shrink a picture to working size, (h, w, 3) uint8."""
    size = vector_fields.working_size(*frame.shape[:2])
    small: Pictures = cv2.resize(eight_bits(np.ascontiguousarray(frame)), size, interpolation=cv2.INTER_AREA)
    return small


def _origins(pictures: Sequence[Pictures]) -> Iterator[Field]:
    """Find for each picture the position (h, w, 2) in the first one that every pixel comes from."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    search.setFinestScale(0)
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    own = vector_fields.grid(*greys[0].shape)
    origin = own
    yield origin
    for before, after in itertools.pairwise(greys):
        origin = vector_fields.sample(origin, own + search.calc(after, before, None))
        yield origin


def _trust(picture: Pictures, other: Pictures, origin: Field) -> Field:
    """Measure in 0…1, (h, w), how much a pixel looks like the one in the other picture that it comes from."""
    change = np.abs(picture.astype(np.float32) - vector_fields.sample(other, origin)).mean(-1) / 255
    trust: Field = np.exp(-((cv2.GaussianBlur(change, (0, 0), 1.5) / _ALIKE) ** 2)) + np.float32(1e-3)
    return trust


def _carried(matte: Pictures, origin: Field) -> Field:
    """Sample the matte (H, W) at working-size positions (h, w, 2), as float32."""
    (height, width), (rows, columns) = matte.shape, origin.shape[:2]
    motion = cv2.resize(origin - vector_fields.grid(rows, columns), (width, height), interpolation=cv2.INTER_LINEAR)
    motion *= np.array([width / columns, height / rows], np.float32)
    carried: Field = vector_fields.sample(matte.astype(np.float32), vector_fields.grid(height, width) + motion)
    return carried
