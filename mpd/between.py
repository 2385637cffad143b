"""What a method that interpolates is: a maker of the frames between two pictures. Knows nothing of jobs or methods."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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


def abreast(
    pool: ThreadPoolExecutor, workers: int, make: Callable[[float], Frames], times: Sequence[float]
) -> Generator[Frames, None, None]:
    """Make the frames at some times by the threads of a pool, and give them in order.

    At most one more than there are workers is begun and not yet taken; closing the generator cancels what has not
    begun. Raises what `make` raises.
    """
    waiting: deque[Future[Frames]] = deque()
    left = deque(times)
    try:
        while left or waiting:
            while left and len(waiting) <= workers:
                waiting.append(pool.submit(make, left.popleft()))
            yield waiting.popleft().result()
    finally:
        for one in waiting:
            one.cancel()
