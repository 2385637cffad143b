"""The samplers over a perfect denoiser, where the right answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mpd.methods import METHODS, Anchor
from mpd.samplers import Paths, sample
from mpd.schedule import karras

World = Any
SIGMAS = karras(25, 0.002, 300.0)


def final(method: str, paths: Paths, like: Tensor, seed: int, anchor: Anchor | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    plan = METHODS[method].distillation
    if plan is not None and anchor is not None:
        plan = replace(plan, anchor=anchor)
    *_, step = sample(method, paths, SIGMAS[0] * noise(like), SIGMAS, distillation=plan, noise=noise)
    return step.x


class Flow:
    """The perfect flow-matching model of the same clips, in its own coordinates.

    x_s = (1−s) y + s n, v = E[n − y | x_s]. As a denoiser: s = σ/(1+σ), x_s = (1−s) x, x̂0 = x_s − s·v.
    """

    def __init__(self, ideal: Any) -> None:
        self._ideal = ideal

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        s = sigma / (1 + sigma)
        x_s = (1 - s) * x
        x0_c = x_s - s * self._velocity(x_s, s, self._ideal.conditional)
        return x0_c, x_s - s * self._velocity(x_s, s, self._ideal.all) if need_uncond else None

    def _velocity(self, x_s: Tensor, s: float, clips: Tensor) -> Tensor:
        noises = (x_s - (1 - s) * clips) / s
        weights = torch.softmax(-(noises**2).flatten(1).sum(1) / 2, 0)
        return torch.einsum("k,knchw->nchw", weights, noises - clips)


@pytest.mark.parametrize("method", ["svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"])
def test_samplers_take_a_flow_matching_model_as_it_is(world: Callable[[int], World], method: str) -> None:
    question = world(1)
    ends = question.truth[0], question.truth[-1]
    denoised = final(method, Paths(question.start, question.end, *ends), question.truth, 1)
    flowed = final(method, Paths(Flow(question.start), Flow(question.end), *ends), question.truth, 1)
    torch.testing.assert_close(flowed, denoised, rtol=0, atol=1e-6)


@pytest.mark.parametrize("anchor", ["closure", "rigid"])
@pytest.mark.parametrize("seed", range(4))
def test_the_host_free_path_finds_the_true_clip(world: Callable[[int], World], seed: int, anchor: Anchor) -> None:
    truth, start = world(seed).truth, world(seed).start
    found = final("mpd", Paths(start, None, truth[0], truth[-1]), truth, seed, anchor)
    assert (found - truth).abs().max() < 1e-4


@pytest.mark.parametrize("seed", range(2))
def test_the_base_model_alone_misses_the_end(world: Callable[[int], World], seed: int) -> None:
    truth, start = world(seed).truth, world(seed).start
    found = final("svd", Paths(start, None, truth[0], None), truth, seed)
    assert (found[0] - truth[0]).abs().max() < 1e-4
    assert (found[-1] - truth[-1]).abs().max() > 0.3


@pytest.mark.parametrize("method", ["trf", "vibid", "mpd-trf", "mpd-vibid"])
@pytest.mark.parametrize("seed", range(2))
def test_two_paths_find_the_true_clip_once_the_end_knows_reversed_motion(
    world: Callable[[int], World], seed: int, method: str
) -> None:
    question = world(seed)
    truth = question.truth
    everything = torch.cat([question.start.conditional, truth.flip(0)[None]])
    start = replace(question.start, all=everything)
    end = replace(question.end, conditional=truth.flip(0)[None], all=everything)
    found = final(method, Paths(start, end, truth[0], truth[-1]), truth, seed)
    assert (found - truth).abs().max() < 1e-4


def test_two_paths_with_forward_motion_alone_do_not(world: Callable[[int], World]) -> None:
    question = world(0)
    truth = question.truth
    for method in ("trf", "vibid"):
        found = final(method, Paths(question.start, question.end, truth[0], truth[-1]), truth, 0)
        assert (found - truth).abs().max() > 0.3
