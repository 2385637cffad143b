"""Deep features kept across steps: approximate. What the inner levels of the UNet see changes little from a step to the
next (DeepCache, Ma et al. 2023), so on most steps only the outermost level is evaluated.

Each branch (a keyframe's conditional or unconditional estimate) keeps its own features.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

FREE_ABOVE = 20.0
"""Noise levels at which the clip's content and its motion are decided: nothing is reused there."""

RATIO = 2.5
"""Below, features serve until σ has fallen by this factor."""


@dataclass
class Features:
    """The inner levels' result of one branch, and the noise level and size it was made at."""

    deep: Tensor | None = None
    sigma: float = 0.0
    shape: tuple[int, ...] = ()

    def usable(self, sigma: float, shape: tuple[int, ...]) -> bool:
        """Whether an evaluation at `sigma` may go by them. A σ that rises again is another round or another take."""
        if self.deep is None or shape != self.shape or sigma > FREE_ABOVE or self.sigma > FREE_ABOVE:
            return False
        return sigma <= self.sigma < RATIO * sigma

    def keep(self, deep: Tensor, sigma: float, shape: tuple[int, ...]) -> None:
        self.deep, self.sigma, self.shape = deep, sigma, shape
