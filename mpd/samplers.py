"""The samplers: one flat step per host, Motion Prior Distillation composed over any of them.

Latents are (N, C, H, W) float32, frames first, x = x0 + σn. What a denoiser is made of, where noise comes from and what
becomes of the latents is not known here.

A step takes x from noise level sigma to sigma_next and gives it back with the estimate x̂0 that it went by.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from mpd.base import Denoiser
from mpd.methods import METHODS, Anchor, Distillation
from mpd.operators import euler, flip, fuse, guide, pin, ramp, renoise
from mpd.residual import distill, distill_field, distill_through, push
from mpd.schedule import early_steps, share_of_steps

T = TypeVar("T")
Noise = Callable[[Tensor], Tensor]
"""Standard normal noise shaped like its argument, drawn in the order of the calls."""


@dataclass(frozen=True)
class Paths:
    """What a segment is conditioned on."""

    #: The denoiser conditioned on the start keyframe.
    start: Denoiser
    #: The denoiser conditioned on the end keyframe; only the two-path hosts need it.
    end: Denoiser | None
    #: The start keyframe's scaled latent, (C, H, W).
    z_start: Tensor
    #: The end keyframe's scaled latent, (C, H, W); `svd` alone needs none.
    z_end: Tensor | None
    #: Keyframes in between, which a joint latent has: the frame and the scaled latent of each.
    inner: tuple[tuple[int, Tensor], ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of sampling, done."""

    #: Zero-based, of `total`.
    index: int
    total: int
    #: The noise level of x.
    sigma: float
    x: Tensor
    #: The estimate x̂0 that the step went by.
    x0: Tensor


def svd_step(
    paths: Paths, x: Tensor, sigma: float, sigma_next: float, guidance: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Take the base model's own step: Euler, with guidance that grows along the frames."""
    x0 = _guided(paths.start, x, sigma, guidance)
    return euler(x, x0, x0, sigma, sigma_next), x0


def trf_step(
    paths: Paths, x: Tensor, sigma: float, sigma_next: float, guidance: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Take a step of Time Reversal Fusion.

    The reversed sample is denoised from the end keyframe, guidance along its own frames.
    """
    forward = _guided(paths.start, x, sigma, guidance)
    backward = flip(_guided(_needed(paths.end), flip(x), sigma, guidance))
    x0 = fuse(forward, backward)
    return euler(x, x0, x0, sigma, sigma_next), x0


def vibid_step(paths: Paths, x: Tensor, sigma: float, sigma_next: float, noise: Noise) -> tuple[Tensor, Tensor]:
    """Take ViBiDSampler's step: CFG++ forward in time, the noise put back, CFG++ on the reversed sample."""
    need_uncond = sigma_next > 0
    x0_c, x0_u = paths.start(x, sigma, need_uncond)
    x = euler(x, pin(x0_c, -1, _needed(paths.z_end)), x0_u, sigma, sigma_next)
    x = flip(renoise(x, sigma_next, sigma, noise(x)))
    x0_c, x0_u = _needed(paths.end)(x, sigma, need_uncond)
    x0 = pin(x0_c, -1, paths.z_start)
    return flip(euler(x, x0, x0_u, sigma, sigma_next)), flip(x0)


def mpd_step(
    paths: Paths, x: Tensor, sigma: float, sigma_next: float, lam: float, anchor: Anchor
) -> tuple[Tensor, Tensor]:
    """Take a step of Motion Prior Distillation: Eq. 13–18, the start keyframe pinned to the first frame, Eq. 19.

    With keyframes in between, the errors at all of them are spread, and all are pinned. `field` makes one more
    conditional estimate, and pins the end keyframe too.
    """
    x0_c, x0_u = paths.start(x, sigma, sigma_next > 0)
    if paths.inner:
        ends = (0, paths.z_start), (len(x) - 1, _needed(paths.z_end))
        x0 = distill_through(x0_c, (ends[0], *paths.inner, ends[1]), lam)
        for frame, z in (*paths.inner, ends[1]):
            x0 = pin(x0, frame, z)
    elif anchor == "field":
        z_end = _needed(paths.z_end)
        response = paths.start(push(x, x0_c, z_end, sigma), sigma, False)[0] - x0_c
        x0 = pin(distill_field(x0_c, response, z_end, lam), -1, z_end)
    else:
        x0 = distill(x, x0_c, _needed(paths.z_end), sigma, lam, anchor)
    x0 = pin(x0, 0, paths.z_start)
    return euler(x, x0, x0_u, sigma, sigma_next), x0


HostStep = Callable[[Paths, Tensor, float, float], tuple[Tensor, Tensor]]
"""A step that needs nothing more: paths, x, sigma and sigma_next in; x at sigma_next and the estimate x̂0 out."""

Host = Callable[..., tuple[Tensor, Tensor]]
"""A `HostStep` that may ask for more, by the names of its further parameters: some of `OFFERED`."""

OFFERED = ("noise", "guidance", "lam", "anchor")
"""What a host is given if it names it: where noise comes from, the guidance ramp, MPD's λ and its anchor."""

HOSTS: dict[str, Host] = {"svd": svd_step, "trf": trf_step, "vibid": vibid_step, "mpd": mpd_step}
"""Every host's ordinary step. Another is added with `mpd.register`."""


def asked(host: Host) -> tuple[str, ...]:
    """Name what of `OFFERED` a host wants."""
    return tuple(name for name in inspect.signature(host).parameters if name in OFFERED)


def sample(
    method: str,
    paths: Paths,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    distillation: Distillation | None = None,
    guidance: tuple[float, float] | None = None,
    noise: Noise,
    early: range | None = None,
) -> Iterator[Step]:
    """Take x from noise level sigmas[0] to sigmas[-1], one `Step` at a time (Algorithm 1 over the method's host).

    In early steps (`mpd.schedule.early_steps`), `k` MPD steps come before the host's, each re-noised to the σ it
    started from; while i < handover·steps an MPD step is itself the host's. `distillation` and `guidance` default to
    the method's own, `early` to the steps that γ names.
    """
    spec = METHODS[method]
    if spec.host is None:
        raise ValueError(f"{method} samples nothing")
    plan = distillation or spec.distillation or Distillation(gamma=0.0, k=0, lam=0.0, anchor="rigid")
    given = {
        "noise": noise,
        "guidance": guidance or spec.guidance or (1.0, 1.0),
        "lam": plan.lam,
        "anchor": plan.anchor,
    }
    if early is None:
        early = range(early_steps(plan, sigmas, x.numel()))
    return algorithm(paths, x, sigmas, plan, bound(mpd_step, given), bound(HOSTS[spec.host], given), noise, early)


def bound(host: Host, given: Mapping[str, Any]) -> HostStep:
    """Give a host what it asks for. given: by all names of `OFFERED`."""
    return partial(host, **{name: given[name] for name in asked(host)})


def algorithm(
    paths: Paths,
    x: Tensor,
    sigmas: Sequence[float],
    plan: Distillation,
    mpd: HostStep,
    host: HostStep,
    noise: Noise,
    early: range,
) -> Iterator[Step]:
    """Run Algorithm 1 with any MPD step over any host's.

    early: the steps that begin with `k` rounds. Of `plan`, γ, λ and the anchor are the callers' own affair.
    """
    total = len(sigmas) - 1
    handed = share_of_steps(plan.handover, total)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        for _ in range(plan.k if i in early else 0):
            x, _x0 = mpd(paths, x, sigma, sigma_next)
            x = renoise(x, sigma_next, sigma, noise(x))
        x, x0 = (mpd if i < handed else host)(paths, x, sigma, sigma_next)
        yield Step(i, total, sigma_next, x, x0)


def _needed(part: T | None) -> T:
    if part is None:
        raise ValueError("this method needs the end keyframe's denoiser and latent")
    return part


def _guided(denoiser: Denoiser, x: Tensor, sigma: float, guidance: tuple[float, float]) -> Tensor:
    """Estimate x̂0 guided by a per-frame ramp; a ramp of 1 throughout needs no unconditional estimate."""
    x0_c, x0_u = denoiser(x, sigma, guidance != (1.0, 1.0))
    return x0_c if x0_u is None else guide(x0_c, x0_u, ramp(*guidance, x))
