"""The frames of a job that is interpolated: segments in order, boundary frames once, one progress a frame.

What lies between two pictures is a method's own; nothing in it is random, so all takes are equal and only the first
costs anything. Loads no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import partial

import cv2
import numpy as np

from mpd import ink
from mpd.between import Between, Tell
from mpd.lengths import delivered_frames, total_frames
from mpd.methods import FLOW_FRAMES, Settings, SettingsError
from mpd.output.clip import eight_bits, to_bits
from mpd.progress import Frames, MotionReport, Pictures, Progress, Take

_PREVIEW_WIDTH = 256


def generate(
    pictures: Sequence[Pictures], settings: Settings, bits: int, between: Between
) -> Iterator[Progress | Take]:
    """Make all segments between the pictures (H, W, 3 or 4): one `Progress` per frame, then a `Take` per seed.

    bits: 8 or 16, of the frames' samples. Raises `SettingsError` when the pictures do not fit the settings.
    """
    if len({picture.shape for picture in pictures}) > 1:
        raise SettingsError("keyframes", "differ in size", "Bring all to one size first")
    return _takes(pictures, settings, delivered_frames(settings, len(pictures), FLOW_FRAMES), bits, between)


def _takes(
    pictures: Sequence[Pictures], settings: Settings, lengths: tuple[int, ...], bits: int, between: Between
) -> Iterator[Progress | Take]:
    total = total_frames(lengths, settings.loop)
    stops = [*pictures, pictures[0]] if settings.loop else pictures
    frames: Frames = np.empty((total, *pictures[0].shape), np.uint8 if bits == 8 else np.uint16)
    done = 0
    motions: list[MotionReport | None] = []
    for segment, (ends, length) in enumerate(zip(itertools.pairwise(stops), lengths, strict=True)):
        # A boundary frame belongs to the segment before it, and a loop's return to the start to none.
        first, last = int(segment > 0), length - int(settings.loop and segment == len(lengths) - 1)
        told: list[MotionReport] = []
        with closing(segment_of(*ends, length, bits, between, told.append)) as made:
            for step, frame in enumerate(itertools.islice(made, first, last), 1):
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
                    preview=partial(small, frame),
                )
        motions.append(told[0] if told else None)
    for index, seed in enumerate(settings.seeds):
        matte = frames[..., 3] if frames.shape[3] == 4 else None
        yield Take(index, seed, frames[..., :3], settings.rate, matte, motions=tuple(motions))


def segment_of(
    start: Pictures, end: Pictures, frames: int, bits: int, between: Between, tell: Tell
) -> Generator[Frames, None, None]:
    """Give `frames` pictures (H, W, 3 or 4) in order; the first and the last are exactly `start` and `end`.

    With 16 bits, what lies between two levels of the keyframes is kept. tell: called with how far the motion is to be
    believed, where there is anything between.
    """
    yield to_bits(start, bits)
    times = [index / (frames - 1) for index in range(1, frames - 1)]
    if times:
        with closing(ink.aware(between)(start, end, times, tell)) as made:
            for frame in made:
                yield rounded(frame, bits)
    yield to_bits(end, bits)


def rounded(frame: Frames, bits: int) -> Frames:
    """Round a frame in 0…255 to `bits` a sample."""
    if frame.dtype == np.uint8:
        return to_bits(frame, bits)
    rounded: Frames = np.rint(np.clip(frame, 0, 255) * (1 if bits == 8 else 257))
    return rounded.astype(np.uint8 if bits == 8 else np.uint16)


def small(frame: Frames) -> Pictures:
    height, width = frame.shape[:2]
    scale = min(1.0, _PREVIEW_WIDTH / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small: Frames = cv2.resize(np.ascontiguousarray(frame[..., :3]), size, interpolation=cv2.INTER_AREA)
    return eight_bits(small)
