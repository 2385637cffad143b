"""Runs one variant from its beginning, and measures how far the two paths disagree along the way (Eq. 11).

Knows nothing of where the denoisers come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from benchmarks.sprites import experiments
from benchmarks.sprites.variants import Variant
from mpd.base import Denoiser
from mpd.methods import METHODS, Distillation, Settings
from mpd.operators import flip
from mpd.samplers import HostStep, Noise, Paths, Step, algorithm, sample, trf_step, vibid_step
from mpd.schedule import early_steps


class Conditional:
    """A denoiser whose x̂0_∅ is its x̂0_c."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        x0, _ = self._denoiser(x, sigma, False)
        return x0, x0


def walk(
    variant: Variant,
    settings: Settings,
    paths: Paths,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    channels: int,
) -> Iterator[Step]:
    """Yield the steps of `variant` from x at sigmas[0].

    `channels`: of one clip's latents, when several lie side by side.
    """
    if not variant.unconditional:
        end = None if paths.end is None else Conditional(paths.end)
        paths = replace(paths, start=Conditional(paths.start), end=end)
    plan = settings.distillation or Distillation(gamma=0.0, k=0, lam=0.0, anchor="pin")
    clip = x.numel() * channels / x.shape[1]
    early = range(early_steps(plan, sigmas, clip)) if variant.window is None else variant.window
    if variant.experiment is None:
        ramp = settings.guidance_ramp
        return sample(variant.method, paths, x, sigmas, distillation=plan, guidance=ramp, noise=noise, early=early)
    mpd = experiments.named(variant.experiment, channels)
    hosts: dict[str | None, HostStep] = {
        "mpd": mpd,
        "vibid": partial(vibid_step, noise=noise),
        "trf": partial(trf_step, guidance=settings.guidance_ramp or (1.0, 1.0)),
    }
    return algorithm(paths, x, sigmas, plan, mpd, hosts[METHODS[variant.method].host], noise, early)


def mismatch(paths: Paths, visited: Sequence[Tensor], sigmas: Sequence[float]) -> list[float]:
    """Measure Eq. 11's mismatch of the two paths, one number per step.

    At the sample x with which a step at noise level σ begins, the forward path's estimate of the clip and the backward
    path's, reversed in time: the root mean square of x̂0(x; σ, c_start) − flip(x̂0(flip(x); σ, c_end)), in units of the
    latents. This is the disagreement that a two-path method has to settle and MPD is to suppress; it is asked of every
    method at its own samples, also of those that never take the backward path.

    visited: the samples at sigmas[0], sigmas[1], …
    """
    assert paths.end is not None
    found = []
    for x, sigma in zip(visited, sigmas, strict=False):
        gap = paths.start(x, sigma, False)[0] - flip(paths.end(flip(x), sigma, False)[0])
        found.append(float(gap.square().mean().sqrt()))
    return found
