from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from mpd.methods import FixedAnchor
from mpd.operators import flip
from mpd.residual import PUSH, backward_estimate, distill, distill_field, distill_through, gains, push


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
    for anchor in get_args(FixedAnchor):
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


def test_a_push_is_half_of_the_noise_along_the_end_error() -> None:
    x0, n, z_end = latents(8)
    pushed = push(x0 + 3 * n, x0, z_end, 3.0) - (x0 + 3 * n)
    assert not pushed[:-1].any()
    assert pushed[-1].square().mean().sqrt() == pytest.approx(3 * PUSH)
    error = z_end - x0[-1]
    torch.testing.assert_close(pushed[-1] / pushed[-1].norm(), error / error.norm())


def test_the_field_is_the_posterior_mean_of_a_gaussian_given_the_end() -> None:
    """Frames that follow the last one by gains of their own: the denoiser of such clips finds them exactly."""
    generator = torch.Generator().manual_seed(9)
    mixing = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    covariance = mixing @ mixing.T + torch.eye(5, dtype=torch.float64)
    sigma = 2.0
    kept = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(5, dtype=torch.float64))

    def denoised(x: Tensor) -> Tensor:
        return torch.einsum("ij,jchw->ichw", kept, x)

    x, z_end = torch.randn(2, 5, 4, 3, 5, generator=generator, dtype=torch.float64)[0], torch.ones(4, 3, 5).double()
    x0 = denoised(x)
    response = denoised(push(x, x0, z_end, sigma)) - x0
    posterior = covariance - kept @ covariance
    gain = (posterior[:, -1] / posterior[-1, -1]).reshape(-1, 1, 1, 1)
    expected = x0 + gain * (z_end - x0[-1])
    torch.testing.assert_close(distill_field(x0, response, z_end, 1.0), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(distill_field(x0, response, z_end, 0.3), x0 + 0.3 * (expected - x0), rtol=0, atol=1e-10)
    against = distill_field(x0, -response, z_end, 1.0)
    assert torch.equal(against, x0), "a last frame that flees its push says nothing"
