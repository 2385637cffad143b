"""What a method that interpolates is: a maker of the frames between two pictures. Knows nothing of jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from mpd.progress import Frames, MotionReport, Pictures

Tell = Callable[[MotionReport], object]


class Between(Protocol):
    """What a method does: the frames between two pictures (H, W, 3 or 4) at each of the times, in 0…1 and rising.

    Frames are in 0…255, float32 or rounded to uint8, of the pictures' shape, in order. tell: called once, before the
    first of them.
    """

    def __call__(
        self, start: Pictures, end: Pictures, times: Sequence[float], tell: Tell, /
    ) -> Generator[Frames, None, None]: ...
