"""Inbetweens by optical flow, for photographs on a machine without a model.

What stands still is kept still, and pictures that have nothing to do with each other end in a plain dissolve.

Knows nothing of models or torch. Pictures are uint8 RGB, with a matte as a fourth channel where there is one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from mpd import cores, interpolation, vector_fields
from mpd.between import Tell, abreast
from mpd.flow.motion import estimate
from mpd.flow.rendering import intermediate, render
from mpd.flow.stillness import stillness
from mpd.flow.trust import report
from mpd.lengths import flow_size
from mpd.methods import FLOW_FRAMES, Settings
from mpd.progress import Frames, Pictures, Progress, Take

__all__ = ["FLOW_FRAMES", "flow_frames", "flow_size", "generate"]

_ABREAST = 2
"""Frames made at a time, each with its pictures in memory: a machine runs many such jobs, each a process."""


def generate(pictures: Sequence[Pictures], settings: Settings, bits: int = 8) -> Iterator[Progress | Take]:
    """Make all segments between the pictures (H, W, 3 or 4): one `Progress` per frame, then a `Take` per seed.

    bits: 8 or 16, of the frames' samples. Raises `SettingsError` when the pictures do not fit the settings.
    """
    return interpolation.generate(pictures, settings, bits, partial(between, bits=bits))


def flow_frames(start: Pictures, end: Pictures, frames: int, bits: int = 8) -> Iterator[Frames]:
    """Give `frames` pictures (H, W, 3 or 4) in order; the first and the last are exactly `start` and `end`.

    With 16 bits, what lies between two levels of the keyframes is kept.
    """
    return interpolation.segment_of(start, end, frames, bits, partial(between, bits=bits), lambda report: None)


def between(
    start: Pictures, end: Pictures, times: Sequence[float], tell: Tell, *, bits: int
) -> Generator[Frames, None, None]:
    """Make the frames between two pictures, as `mpd.between.Between`; with 8 bits they are rounded already."""
    motion = estimate(start[..., :3], end[..., :3])
    still = stillness(start, end)
    height, width = start.shape[:2]
    tell(report((motion.forward, motion.backward), motion.sure, still, (height, width)))
    first: Frames = start if bits == 8 else start.astype(np.float32)
    last: Frames = end if bits == 8 else end.astype(np.float32)

    def made(time: float) -> Frames:
        moment = np.float32(time)
        flows = intermediate(motion, moment)
        frame = render(first, last, flows, motion.gain, moment)
        to_start, to_end = (vector_fields.resized(flow, width, height) for flow in (flows.to_start, flows.to_end))
        return still.keep(frame, first, last, to_start, to_end, float(moment))

    workers = min(_ABREAST, cores.usable())
    with ThreadPoolExecutor(workers, "frames") as pool:
        yield from abreast(pool, workers, made, times)
