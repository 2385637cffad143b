"""Deep features kept across steps: approximate. What the inner levels of the UNet see changes little from a step to the
next (DeepCache, Ma et al. 2023), so on most steps only the outermost level is evaluated.

Each branch (a keyframe's conditional or unconditional estimate) keeps its own features.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """For how long features serve, by noise level.

    free_above: noise levels at which the clip's content and its motion are decided: nothing is reused there.
    ratio: below, features serve until σ has fallen by this factor.
    """

    free_above: float = 20.0
    ratio: float = 2.5

    def covers(self, made: float, now: float) -> bool:
        """Whether features made at one σ serve at another. A σ that has not fallen is another round, or a new take."""
        return made <= self.free_above and now < made < self.ratio * now


class Features:
    """The inner levels' result of one branch, and the noise level and size it was made at."""

    def __init__(self, interval: Interval | None = None) -> None:
        self.interval = interval or Interval()
        self.deep: Tensor | None = None
        self.sigma = 0.0
        self.shape: tuple[int, ...] = ()

    def usable(self, sigma: float, shape: tuple[int, ...]) -> bool:
        """Whether an evaluation at `sigma` may go by them."""
        return self.deep is not None and shape == self.shape and self.interval.covers(self.sigma, sigma)

    def keep(self, deep: Tensor, sigma: float, shape: tuple[int, ...]) -> None:
        self.deep, self.sigma, self.shape = deep, sigma, shape
