"""Motion residuals and their distillation: the forward path's motion, made to end at the end keyframe.

The paper's Eq. 13–18 in its symbols, read so that the residual is flipped in time and negated: with the index as
printed (no flip), noise of size 2σ is left in the estimate. Read rightly the sums telescope, and the result is one
shift of every frame, x̂0 + λ (z_end − x̂0⁽ᴺ⁾). Two other ways to spread that end error complete the family of `gains`;
`distill_field` asks the model, and `distill_through` goes through several keyframes.
Knows nothing of samplers or denoisers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from mpd.methods import FixedAnchor
from mpd.operators import flip, ramp

PUSH = 0.5
"""Of σ, root mean square."""


def distill(x: Tensor, x0: Tensor, z_end: Tensor, sigma: float, lam: float, anchor: FixedAnchor) -> Tensor:
    """Distil the motion prior: x̃0, the forward estimate x̂0 with λ of its motion's time-reversed reading (Eq. 18).

    x, x0: (N, C, H, W), the sample at noise level sigma and its forward estimate; z_end: (C, H, W), scaled.
    """
    if anchor == "rigid":
        return (1 - lam) * x0 + lam * flip(backward_estimate(x, x0, z_end, sigma)).to(x0.dtype)
    return x0 + lam * gains(anchor, x0) * (z_end - x0[-1])


def distill_through(x0: Tensor, keyframes: Sequence[tuple[int, Tensor]], lam: float) -> Tensor:
    """Distil the motion prior through several keyframes: the error at each, spread over the frames up to the next.

    x̃0⁽ⁱ⁾ = x̂0⁽ⁱ⁾ + λ [(1−t) e_j + t e_{j+1}], with e_j = z_j − x̂0⁽ᵏʲ⁾ at the keyframe in frame k_j, 0 at the first one,
    and t = (i−k_j)/(k_{j+1}−k_j): the conditional mean of a Brownian motion given all keyframes. Two of them are
    `closure`.

    x0: (N, C, H, W). keyframes: the frame of each, from 0 and rising, and its scaled latent, (C, H, W).
    """
    distilled = x0.clone()
    error = torch.zeros_like(x0[0])
    for (begin, _), (end, z) in itertools.pairwise(keyframes):
        following = z - x0[end]
        t = ramp(0.0, 1.0, x0[begin : end + 1])
        distilled[begin : end + 1] = x0[begin : end + 1] + lam * ((1 - t) * error + t * following)
        error = following
    return distilled


def push(x: Tensor, x0: Tensor, z_end: Tensor, sigma: float) -> Tensor:
    """Move the last frame of the sample x towards the end keyframe, by half of σ: within the noise that is there.

    What the estimate then moves by is the `response` of `distill_field`.
    """
    error = z_end - x0[-1]
    pushed = x.clone()
    pushed[-1] += PUSH * sigma * error / error.square().mean().sqrt().clamp_min(1e-12)
    return pushed


def distill_field(x0: Tensor, response: Tensor, z_end: Tensor, lam: float) -> Tensor:
    """Distil the motion prior by the model's own gain at each place: x̃0 = x̂0 + λ r, r the response to a push.

    By Tweedie's second-order formula Cov(xᵢ, x_N | x) = σ² ∂x̂0⁽ⁱ⁾/∂x⁽ᴺ⁾, so the response to a push along the end error
    e = z_end − x̂0⁽ᴺ⁾ goes as Cov(xᵢ, x_N) e. Scaled so that its last frame is e along e, it is the conditional mean
    given the end keyframe, were the posterior Gaussian and that last frame along e. Where the last frame does not
    follow its push, nothing moves.

    x0, response: (N, C, H, W), the estimate and what it moves by.
    """
    error = z_end - x0[-1]
    size, along = error.square().mean(), (response[-1] * error).mean()
    return x0 + lam * response * (size / along if along > 1e-6 * size else 0.0)


def backward_estimate(x: Tensor, x0: Tensor, z_end: Tensor, sigma: float) -> Tensor:
    """Compute x̂0', the estimate of the time-reversed clip that starts at z_end and moves as x̂0 does (Eq. 13–17).

    In float64: at σ = 700 the noise is cancelled against itself.
    """
    x, x0, z_end = x.double(), x0.double(), z_end.double()
    eps = (x - x0) / sigma  # Eq. 13: the forward path's noise
    d_eps = eps[1:] - eps[:-1]  # Eq. 14: Δε⁽ⁱ⁾ = ε⁽ⁱ⁺¹⁾ − ε⁽ⁱ⁾, (N-1, C, H, W)
    d_eps_bwd = -flip(d_eps)  # Eq. 15: reversed in time, every difference changes its place and its sign
    x_bwd = flip(x)
    anchor = (x_bwd[:1] - z_end) / sigma  # ε'⁽¹⁾: the reversed clip's first frame is z_end
    eps_bwd = torch.cat([anchor, anchor + d_eps_bwd.cumsum(0)])  # Eq. 16
    return x_bwd - sigma * eps_bwd  # Eq. 17


def gains(anchor: FixedAnchor, x0: Tensor) -> Tensor:
    """Give the share g⁽ⁱ⁾ of the end error z_end − x̂0⁽ᴺ⁾ that each frame i takes: (N, 1, 1, 1).

    `rigid`: all of it everywhere, the paper's. `pin`: the last frame alone. `closure`: (i−1)/(N−1), the error spread
    equally over the motion residuals, as a surveyor closes a traverse.
    """
    if anchor == "rigid":
        return ramp(1.0, 1.0, x0)
    if anchor == "closure":
        return ramp(0.0, 1.0, x0)
    last = ramp(0.0, 0.0, x0)
    last[-1] = 1.0
    return last
