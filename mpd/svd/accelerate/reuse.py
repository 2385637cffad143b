"""Deep features kept across steps: approximate. What the inner levels of the UNet see changes little from a step to the
next (DeepCache, Ma et al. 2023), so on many steps only the outermost level is evaluated.

Each branch (a keyframe's conditional or unconditional estimate) keeps its own features. What is lost, and how the
interval was chosen: docs/performance.md, by benchmarks/approximation.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """For how long features serve: by noise level, for they age fastest where a clip's content is being decided."""

    #: Nothing is reused at higher noise levels, where MPD decides the motion.
    free_above: float = 100.0
    #: The noise level where a clip's content is being decided.
    middle: float = 6.0
    #: Features serve while arctan(σ / middle) falls by less than this, which is a factor of little more than one in σ
    #: there, and a large one far from it.
    turn: float = 0.2

    def covers(self, made: float, now: float) -> bool:
        """Tell whether features made at one σ serve at another.

        A σ that has not fallen is another round, or a new take.
        """
        if not now < made <= self.free_above:
            return False
        return math.atan(made / self.middle) - math.atan(now / self.middle) < self.turn


class Features:
    """The inner levels' result of one branch, and the noise level and size it was made at."""

    def __init__(self, interval: Interval | None = None) -> None:
        self.interval = interval or Interval()
        self.deep: Tensor | None = None
        self.sigma = 0.0
        self.shape: tuple[int, ...] = ()

    def usable(self, sigma: float, shape: tuple[int, ...]) -> bool:
        """Tell whether an evaluation at `sigma` may go by these features."""
        return self.deep is not None and shape == self.shape and self.interval.covers(self.sigma, sigma)

    def keep(self, deep: Tensor, sigma: float, shape: tuple[int, ...]) -> None:
        self.deep, self.sigma, self.shape = deep, sigma, shape
