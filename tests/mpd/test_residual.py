from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from mpd.methods import Anchor
from mpd.operators import flip
from mpd.residual import backward_estimate, distill, distill_through, gains


def latents(seed: int, frames: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0, n = torch.randn(2, frames, 4, 3, 5, generator=generator, dtype=torch.float64)
    return x0, n, torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.01, 1.0, 30.0])
def test_the_literal_equations_telescope_to_a_rigid_shift(sigma: float) -> None:
    x0, n, z_end = latents(0)
    x = 0.9 * x0 + sigma * n
    shifted = x0 + (z_end - x0[-1])
    torch.testing.assert_close(flip(backward_estimate(x, x0, z_end, sigma)), shifted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_rigid_is_the_shift_weighted_by_lambda(lam: float) -> None:
    x0, n, z_end = latents(1)
    distilled = distill(x0 + 10 * n, x0, z_end, 10.0, lam, "rigid")
    torch.testing.assert_close(distilled, x0 + lam * (z_end - x0[-1]), rtol=0, atol=1e-12)


def test_rigid_survives_the_highest_noise_in_single_precision() -> None:
    x0, n, z_end = (part.float() for part in latents(2, frames=25))
    distilled = distill(x0 + 700 * n, x0, z_end, 700.0, 1.0, "rigid")
    assert distilled.dtype == torch.float32
    torch.testing.assert_close(distilled, x0 + (z_end - x0[-1]), rtol=0, atol=1e-5)


def test_each_frame_moves_by_its_gain_times_the_end_error() -> None:
    x0, n, z_end = latents(3)
    for anchor in get_args(Anchor):
        g = gains(anchor, x0)
        assert g.shape == (7, 1, 1, 1)
        literal = torch.stack([x0[i] + 0.7 * g[i] * (z_end - x0[-1]) for i in range(7)])
        torch.testing.assert_close(distill(x0 + n, x0, z_end, 1.0, 0.7, anchor), literal, rtol=0, atol=1e-12)


def test_the_three_gains() -> None:
    x0, _, _ = latents(4, frames=5)
    assert gains("pin", x0).flatten().tolist() == [0, 0, 0, 0, 1]
    assert gains("rigid", x0).flatten().tolist() == [1, 1, 1, 1, 1]
    assert gains("closure", x0).flatten().tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_closure_changes_every_motion_residual_by_the_same_amount_and_ends_at_the_keyframe() -> None:
    x0, n, z_end = latents(5)
    closed = distill(x0 + n, x0, z_end, 1.0, 1.0, "closure")
    change = (closed - x0).diff(dim=0)
    torch.testing.assert_close(change, change[:1].expand_as(change), rtol=0, atol=1e-12)
    torch.testing.assert_close(closed[0], x0[0])
    torch.testing.assert_close(closed[-1], z_end)


def test_two_keyframes_are_gone_through_as_closure_does() -> None:
    x0, n, z_end = latents(6)
    gone = distill_through(x0, [(0, n[0]), (6, z_end)], 0.7)
    torch.testing.assert_close(gone, distill(x0 + n, x0, z_end, 1.0, 0.7, "closure"), rtol=0, atol=1e-12)


def test_the_errors_at_several_keyframes_are_spread_between_them() -> None:
    """The formula frame by frame; and with λ = 1 every keyframe but the first, whose error counts nothing, is met."""
    x0, n, z_end = latents(7, frames=9)
    keyframes = [(0, n[0]), (1, n[1]), (5, n[5]), (8, z_end)]
    errors = {frame: z - x0[frame] for frame, z in keyframes} | {0: torch.zeros_like(z_end)}
    for lam in (1.0, 0.4):
        gone = distill_through(x0, keyframes, lam)
        for i in range(9):
            before = max(frame for frame in errors if frame <= i)
            after = min(frame for frame in errors if frame >= i)
            t = (i - before) / (after - before) if after > before else 0.0
            literal = x0[i] + lam * ((1 - t) * errors[before] + t * errors[after])
            torch.testing.assert_close(gone[i], literal, rtol=0, atol=1e-12)
    met = distill_through(x0, keyframes, 1.0)
    for frame, z in keyframes[1:]:
        torch.testing.assert_close(met[frame], z, rtol=0, atol=1e-12)
