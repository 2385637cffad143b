"""The samplers over a perfect denoiser, where the right answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mpd.methods import METHODS, Anchor
from mpd.samplers import Paths, sample
from mpd.schedule import karras
from mpd.sprites.ideal import PACES, Clips, Ideal, Law, Question, coverage, energy_distance, plays_reversed, question

SIGMAS = karras(25, 0.002, 300.0)
ONE_ANSWER = Law(paces=(0.0,))


def final(method: str, paths: Paths, like: Tensor, seed: int, anchor: Anchor | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    plan = METHODS[method].distillation
    if plan is not None and anchor is not None:
        plan = replace(plan, anchor=anchor)
    *_, step = sample(method, paths, SIGMAS[0] * noise(like), SIGMAS, distillation=plan, noise=noise)
    return step.x


def samples(method: str, asked: Question, count: int, seed: int = 0) -> Tensor:
    """(count, N, C, H, W), sampled side by side."""
    z_start, z_end = (asked.truth[frame].repeat(count, 1, 1) for frame in (0, -1))
    found: Any = final(method, Paths(asked.start, asked.end, z_start, z_end), asked.truth.repeat(1, count, 1, 1), seed)
    return found.unflatten(1, (count, -1)).transpose(0, 1)


class Flow:
    """The perfect flow-matching model of the same clips, in its own coordinates.

    x_s = (1−s) y + s n, v = E[n − y | x_s]. As a denoiser: s = σ/(1+σ), x_s = (1−s) x, x̂0 = x_s − s·v.
    """

    def __init__(self, ideal: Ideal) -> None:
        self._ideal = ideal

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        s = sigma / (1 + sigma)
        x_s = (1 - s) * x
        x0_c = x_s - s * self._velocity(x_s, s, self._ideal.conditional.frames)
        return x0_c, x_s - s * self._velocity(x_s, s, self._ideal.all.frames) if need_uncond else None

    def _velocity(self, x_s: Tensor, s: float, clips: Tensor) -> Tensor:
        noises = (x_s - (1 - s) * clips) / s
        weights = torch.softmax(-(noises**2).flatten(1).sum(1) / 2, 0)
        return torch.einsum("k,knchw->nchw", weights, noises - clips)


@pytest.mark.parametrize("method", ["svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"])
def test_samplers_take_a_flow_matching_model_as_it_is(method: str) -> None:
    asked = question(1, ONE_ANSWER)
    ends = asked.truth[0], asked.truth[-1]
    denoised = final(method, Paths(asked.start, asked.end, *ends), asked.truth, 1)
    flowed = final(method, Paths(Flow(asked.start), Flow(asked.end), *ends), asked.truth, 1)
    torch.testing.assert_close(flowed, denoised, rtol=0, atol=1e-6)


@pytest.mark.parametrize("anchor", ["closure", "rigid"])
@pytest.mark.parametrize("seed", range(4))
def test_the_host_free_path_finds_the_true_clip(seed: int, anchor: Anchor) -> None:
    asked = question(seed, ONE_ANSWER)
    found = final("mpd", Paths(asked.start, None, asked.truth[0], asked.truth[-1]), asked.truth, seed, anchor)
    assert (found - asked.truth).abs().max() < 1e-4
    assert not plays_reversed(found)


@pytest.mark.parametrize("seed", range(2))
def test_the_base_model_alone_misses_the_end(seed: int) -> None:
    asked = question(seed, ONE_ANSWER)
    found = final("svd", Paths(asked.start, None, asked.truth[0], None), asked.truth, seed)
    assert (found[0] - asked.truth[0]).abs().max() < 1e-4
    assert (found[-1] - asked.truth[-1]).abs().max() > 0.3


@pytest.mark.parametrize("method", ["trf", "vibid", "mpd-trf", "mpd-vibid"])
@pytest.mark.parametrize("seed", range(2))
def test_two_paths_find_the_true_clip_once_the_end_knows_reversed_motion(seed: int, method: str) -> None:
    asked = question(seed, ONE_ANSWER)
    back = asked.truth.flip(0)[None]
    start, end = asked.start.conditional, Clips(back, torch.ones(1, dtype=torch.float64))
    count = len(start.frames) + 1
    everything = Clips(torch.cat([start.frames, back]), torch.full((count,), 1 / count, dtype=torch.float64))
    paths = Paths(Ideal(start, everything), Ideal(end, everything), asked.truth[0], asked.truth[-1])
    found: Any = final(method, paths, asked.truth, seed)
    assert (found - asked.truth).abs().max() < 1e-4


@pytest.mark.parametrize("method", ["vibid", "mpd-vibid"])
def test_with_forward_motion_alone_the_path_from_the_end_plays_in_reverse(method: str) -> None:
    asked = question(0)
    found = samples(method, asked, 4)
    assert all(plays_reversed(clip) for clip in found)
    assert coverage(found, asked.answers) == 0


def test_the_single_path_reaches_most_of_the_answers_and_two_paths_none() -> None:
    """The ideal world's table in small: benchmarks/sprites has it in full."""
    asked = question(1)
    assert len(asked.answers.frames) == len(PACES)
    single, double = samples("mpd", asked, 8), samples("trf", asked, 8)
    assert coverage(single, asked.answers) >= 0.4
    assert coverage(double, asked.answers) <= 0.2
    assert energy_distance(single, asked.answers) < 0.5 * energy_distance(double, asked.answers)
