"""Steps that are no method: gains that the model itself supplies, and strengths chosen from how far the end is missed.

All are of one family: x̃0⁽ⁱ⁾ = x̂0⁽ⁱ⁾ + λ gᵢ (z_end − x̂0⁽ᴺ⁾) for i < N, both keyframes pinned, then Eq. 19. An anchor
is a fixed g; these choose g or λ from what the denoiser says. What beats the methods' own settings belongs in `mpd`.

Latents are (N, S·C, H, W), S clips side by side; `channels` is C, so that every clip has its own gains and strengths.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from mpd.methods import FixedAnchor
from mpd.operators import euler, pin
from mpd.residual import PUSH, gains
from mpd.samplers import HostStep, Paths

Correction = Callable[[Paths, Tensor, Tensor, float, int], Tensor]
"""(paths, x, x̂0_c, σ, channels) to what is added to x̂0_c; its last frame is overwritten by the pin."""


def step(
    paths: Paths, x: Tensor, sigma: float, sigma_next: float, *, correction: Correction, channels: int
) -> tuple[Tensor, Tensor]:
    """Take a step: x̂0_c with a correction of its frames, both keyframes pinned, then Eq. 19."""
    x0_c, x0_u = paths.start(x, sigma, sigma_next > 0)
    assert paths.z_end is not None
    x0 = pin(x0_c + correction(paths, x, x0_c, sigma, channels), -1, paths.z_end)
    x0 = pin(x0, 0, paths.z_start)
    return euler(x, x0, x0_u, sigma, sigma_next), x0


def missed(paths: Paths, x0: Tensor) -> Tensor:
    """Compute the end error, z_end − x̂0⁽ᴺ⁾, (S·C, H, W)."""
    assert paths.z_end is not None
    return paths.z_end - x0[-1]


def own_gain(paths: Paths, x: Tensor, x0: Tensor, sigma: float, channels: int, *, field: bool) -> Tensor:
    """Correct by the model's own gᵢ = Cov(xᵢ, x_N) / Var(x_N) given x at σ, along the end error δ.

    Half a call more per step. Tweedie's second-order formula: Cov(xᵢ, x_N | x) = σ² ∂D⁽ⁱ⁾/∂x⁽ᴺ⁾. A push h·δ on the last
    frame of x therefore moves the estimates by rᵢ ∝ Cov(xᵢ, x_N) δ, a finite difference of one call. With `field`, the
    correction is r scaled so that r_N along δ is δ: the conditional mean given x_N = z_end, were the posterior Gaussian
    with r_N ∝ δ. Without, gᵢ is one number per frame, the least-squares ⟨rᵢ, r_N⟩ / ⟨r_N, r_N⟩, within [0, 1].
    """
    error = missed(paths, x0)
    size = _mean(error.square(), channels).sqrt()
    pushed = x.clone()
    pushed[-1] += PUSH * sigma * error / size.clamp_min(1e-12)
    moved = paths.start(pushed, sigma, False)[0] - x0
    if field:
        along = _mean(moved[-1] * error, channels)
        scale = size.square() / along.clamp_min(1e-12)
        return moved * scale * (along > 1e-6 * size.square()).to(moved.dtype)
    own = _mean(moved[-1].square(), channels)
    g = _mean(moved * moved[-1], channels) / own.clamp_min(1e-20)
    return g.clamp(0, 1) * error


def by_end_error(
    paths: Paths, x: Tensor, x0: Tensor, sigma: float, channels: int, *, scale: float, when: str, anchor: FixedAnchor
) -> Tensor:
    """Correct with λ from the end error's root mean square e.

    For `near` it is τ²/(τ² + e²), strong when the end is nearly met; for `far` 1 − that. τ is `scale`, in the latents'
    units. Where λ is 0 it is `pin`, where it is 1 the anchor.
    """
    error = missed(paths, x0)
    squared = _mean(error.square(), channels)
    near = scale**2 / (scale**2 + squared)
    return (near if when == "near" else 1 - near) * gains(anchor, x0) * error


def till(
    paths: Paths, x: Tensor, x0: Tensor, sigma: float, channels: int, *, level: float, anchor: FixedAnchor
) -> Tensor:
    """Correct as the anchor does while σ > level; below it the keyframes are pinned and nothing else is moved."""
    return gains(anchor if sigma > level else "pin", x0) * missed(paths, x0)


CORRECTIONS: dict[str, Correction] = {
    "gain": partial(own_gain, field=False),
    "gain, field": partial(own_gain, field=True),
    **{
        f"{when} {scale:g}": partial(by_end_error, scale=scale, when=when, anchor="closure")
        for when in ("near", "far")
        for scale in (0.1, 0.3, 1.0)
    },
    **{f"till {level:g}": partial(till, level=level, anchor="closure") for level in (0.3, 1.0, 10.0)},
    **{f"rigid till {level:g}": partial(till, level=level, anchor="rigid") for level in (1.0, 10.0)},
}


def named(name: str, channels: int) -> HostStep:
    return partial(step, correction=CORRECTIONS[name], channels=channels)


STEPS = tuple(CORRECTIONS)


def _mean(x: Tensor, channels: int) -> Tensor:
    """Replace every value by its clip's and frame's mean: (..., S·C, H, W) to the same shape."""
    height, width = x.shape[-2:]
    parts = x.reshape(*x.shape[:-3], -1, channels, height, width)
    return parts.mean((-3, -2, -1), keepdim=True).expand_as(parts).reshape(x.shape)
