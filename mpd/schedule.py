"""Noise levels: from the highest to the lowest, then 0. Knows nothing of models or samplers."""

from __future__ import annotations


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Space `steps` levels equally in σ^(1/ρ) from sigma_max to sigma_min, then 0 (Karras et al. 2022, Eq. 5).

    One step starts at sigma_max and goes straight to 0.
    """
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = [(top + i / max(1, steps - 1) * (bottom - top)) ** rho for i in range(steps)]
    return [*levels, 0.0]
