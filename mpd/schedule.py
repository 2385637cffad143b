"""Noise levels: from the highest to the lowest, then 0, and which of them count as early.

Imports nothing but the standard library and `mpd.methods`. Knows nothing of models or samplers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from mpd.methods import STEPS, Distillation

NUMBERS = 25 * 4 * 72 * 128
"""D of SVD-XT's latents at its own size: frames, channels, height and width."""


class NoiseLevels(Protocol):
    """The noise levels that a model is sampled at."""

    @property
    def own_steps(self) -> int:
        """Count the steps where the settings leave their number open."""
        ...

    def sigmas(self, steps: int | None) -> list[float]:
        """Give the levels of so many steps, from the highest to the lowest, then 0; of None the model's own."""
        ...


@dataclass(frozen=True)
class Schedule:
    """The `NoiseLevels` of SVD and of models like it (`karras`)."""

    sigma_min: float
    sigma_max: float
    #: Where the settings leave their number open: so many from `own_sigma_max`, by the model's card.
    own_steps: int = STEPS
    #: None for `sigma_max`.
    own_sigma_max: float | None = None

    def sigmas(self, steps: int | None) -> list[float]:
        """Give the levels of so many steps from `sigma_max` down, then 0; of None the model's own."""
        if steps is None:
            return karras(self.own_steps, self.sigma_min, self.own_sigma_max or self.sigma_max)
        return karras(steps, self.sigma_min, self.sigma_max)


SVD_XT = Schedule(sigma_min=0.002, sigma_max=700.0)


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Space `steps` levels equally in σ^(1/ρ) from sigma_max to sigma_min, then 0 (Karras et al. 2022, Eq. 5).

    One step starts at sigma_max and goes straight to 0.
    """
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = [(top + i / max(1, steps - 1) * (bottom - top)) ** rho for i in range(steps)]
    return [*levels, 0.0]


def share_of_steps(share: float, steps: int) -> int:
    """Count the i in 0 … steps-1 that satisfy i < share·steps, in exact decimal arithmetic (0.28 · 25 is 7)."""
    return min(steps, math.ceil(Fraction(str(share)) * steps))


def early_steps(plan: Distillation, sigmas: Sequence[float], numbers: float) -> int:
    """Count the early steps, which begin with MPD rounds: i < γ·steps, or by noise σ_i > σ_γ(D).

    sigmas: the steps' levels, then 0. numbers: D, of one latent of the whole clip.
    """
    if plan.gamma_in == "steps":
        return share_of_steps(plan.gamma, len(sigmas) - 1)
    level = early_level(plan.gamma, numbers)
    return sum(sigma > level for sigma in sigmas[:-1])


def early_level(gamma: float, numbers: float) -> float:
    """Give σ_γ(D) = σ_γ · √(D / D₀), the noise level above which a step is early; infinite where γ is 0.

    σ_γ is where γ ends in SVD-XT's schedule of 25 steps, D₀ the numbers of its latents: what is undecided of a clip at
    a noise level grows with the numbers that say so. Defined, and tried in one small world; not proven.
    """
    if gamma == 0:
        return math.inf
    return SVD_XT.sigmas(STEPS)[share_of_steps(gamma, STEPS)] * math.sqrt(numbers / NUMBERS)
