"""The few operations that sampler steps are written with. Latents are (N, C, H, W), frames first.

Knows nothing of denoisers or methods.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def flip(x: Tensor) -> Tensor:
    """Reverse a clip in time."""
    return x.flip(0)


def ramp(first: float, last: float, x: Tensor) -> Tensor:
    """Give one weight per frame of x, linear from the first frame to the last: (N, 1, 1, 1)."""
    return torch.linspace(first, last, len(x), dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)


def guide(x0_c: Tensor, x0_u: Tensor, scale: Tensor) -> Tensor:
    """Apply classifier-free guidance: x̂0_∅ + w (x̂0_c − x̂0_∅)."""
    return x0_u + scale * (x0_c - x0_u)


def fuse(forward: Tensor, backward: Tensor) -> Tensor:
    """Fuse as TRF does: the forward estimate's weight falls linearly from 1 at the first frame to 0 at the last."""
    weight = ramp(1.0, 0.0, forward)
    return weight * forward + (1 - weight) * backward


def pin(x0: Tensor, frame: int, z: Tensor) -> Tensor:
    """Overwrite one frame of x0 with the latent z, (C, H, W)."""
    pinned = x0.clone()
    pinned[frame] = z
    return pinned


def euler(x: Tensor, x0: Tensor, x0_away: Tensor | None, sigma: float, sigma_next: float) -> Tensor:
    """Step to the next noise level: x̂0 + σ_next/σ · (x − x̂0'), where x̂0' is the estimate the noise is measured from.

    With x̂0' = x̂0 it is Euler's step, with x̂0' = x̂0_∅ CFG++'s. At σ_next = 0 it is x̂0, and x̂0' may be None.
    """
    if sigma_next == 0 or x0_away is None:
        return x0
    return x0 + sigma_next / sigma * (x - x0_away)


def renoise(x: Tensor, sigma_from: float, sigma_to: float, noise: Tensor) -> Tensor:
    """Add noise, from level sigma_from up to sigma_to: x + √(σ_to² − σ_from²) · n."""
    return x + math.sqrt(sigma_to**2 - sigma_from**2) * noise
