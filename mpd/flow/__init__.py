"""Inbetweens by optical flow, for photographs on a machine without a model.

Pictures that have nothing to do with each other end in a plain dissolve.

Knows nothing of models or torch. Pictures are uint8 RGB, with a matte as a fourth channel where there is one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from mpd import interpolation
from mpd.flow.motion import estimate
from mpd.flow.rendering import intermediate, render
from mpd.lengths import flow_size
from mpd.methods import FLOW_FRAMES, Settings
from mpd.progress import Frames, Pictures, Progress, Take

__all__ = ["FLOW_FRAMES", "flow_frames", "flow_size", "generate"]


def generate(pictures: Sequence[Pictures], settings: Settings, bits: int = 8) -> Iterator[Progress | Take]:
    """Make all segments between the pictures (H, W, 3 or 4): one `Progress` per frame, then a `Take` per seed.

    bits: 8 or 16, of the frames' samples. Raises `SettingsError` when the pictures do not fit the settings.
    """
    return interpolation.generate(pictures, settings, bits, between)


def flow_frames(start: Pictures, end: Pictures, frames: int, bits: int = 8) -> Iterator[Frames]:
    """Give `frames` pictures (H, W, 3 or 4) in order; the first and the last are exactly `start` and `end`.

    With 16 bits, what lies between two levels of the keyframes is kept.
    """
    return interpolation.segment_of(start, end, frames, bits, between)


def between(start: Pictures, end: Pictures, times: Sequence[float]) -> Generator[Frames, None, None]:
    """Make the frames between two pictures, as `mpd.interpolation.Between`."""
    motion = estimate(start[..., :3], end[..., :3])
    given = start.astype(np.float32), end.astype(np.float32)
    for time in map(np.float32, times):
        yield render(*given, intermediate(motion, time), motion.gain, time)
