"""The ideal world itself: its denoiser is the posterior mean, its answers all the answers, its measures right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpd.sprites import ideal
from mpd.sprites.ideal import FRAMES, PACES, SIZE, Clips, Law


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("window", [None, 0, 2])
def test_the_denoiser_is_the_mean_of_the_posterior_by_its_definition(window: int | None) -> None:
    clips = torch.randn(5, 6, 2, 3, 4, generator=generator(), dtype=torch.float64)
    shares = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1], dtype=torch.float64)
    x = clips[2] + torch.randn(6, 2, 3, 4, generator=generator(1), dtype=torch.float64)
    literal = torch.empty_like(x)
    for frame in range(6):
        near = range(6) if window is None else range(max(0, frame - window), min(6, frame + window + 1))
        weights = shares * torch.stack(
            [torch.exp(-sum((x[j] - clip[j]).square().sum() for j in near) / (2 * 0.7**2)) for clip in clips]
        )
        literal[frame] = torch.einsum("k,kchw->chw", weights / weights.sum(), clips[:, frame])
    torch.testing.assert_close(Clips(clips, shares).mean(x, 0.7, window), literal)


def test_samples_side_by_side_are_denoised_as_each_alone() -> None:
    asked = ideal.question(3, Law(window=1, reversed_share=0.3))
    x = asked.truth.repeat(1, 3, 1, 1) + torch.randn(FRAMES, 6, SIZE, SIZE, generator=generator(), dtype=torch.float64)
    together = asked.start(x, 1.0)
    for sample in range(3):
        part = slice(2 * sample, 2 * sample + 2)
        for whole, alone in zip(together, asked.start(x[:, part].contiguous(), 1.0), strict=True):
            assert whole is not None
            assert alone is not None
            torch.testing.assert_close(whole[:, part], alone)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("between", [False, True])
def test_every_answer_joins_both_keyframes_moving_forward_at_a_pace_of_its_own(seed: int, between: bool) -> None:
    asked = ideal.question(seed, Law(between=between))
    answers = asked.answers.frames
    assert len(answers) == len(PACES)
    assert float(asked.answers.shares.sum()) == pytest.approx(1)
    assert (answers - asked.truth).abs().amax((1, 2, 3, 4)).min() < 1e-9
    for frame in (0, -1):
        torch.testing.assert_close(answers[:, frame], asked.truth[frame].expand_as(answers[:, frame]))
    assert (answers[:, 4] - answers[0, 4]).abs().amax((1, 2, 3))[1:].min() > 0.03
    assert not any(ideal.plays_reversed(clip) for clip in answers)
    known = (asked.start.conditional.frames[:, -1] - asked.truth[-1]).abs().amax((1, 2, 3)).min()
    assert (known > 1e-3) == between


def test_the_end_knows_the_reversed_truth_only_where_some_sprites_move_backwards() -> None:
    for share in (0.0, 0.2):
        asked = ideal.question(4, Law(reversed_share=share))
        gap = (asked.end.conditional.frames - asked.truth.flip(0)).abs().amax((1, 2, 3, 4)).min()
        assert (gap < 1e-9) == (share > 0)
        backwards = torch.tensor([ideal.plays_reversed(clip) for clip in asked.end.conditional.frames])
        assert float(asked.end.conditional.shares[backwards].sum()) == pytest.approx(share)


def test_a_headless_sprite_looks_the_same_from_both_ends() -> None:
    state = np.array([5.0, 9.0, 0.7])
    turned = state + np.array([0, 0, np.pi])
    ways = [(4.0, 1.2, 0.4)], [(-4.0, 1.2, 0.4)]
    one, other = (
        ideal.render(np.stack([ideal.places(where, way) for way in some]), headless=True)
        for where, some in zip((state, turned), ways, strict=True)
    )
    torch.testing.assert_close(one, other)


def test_the_sprite_is_found_where_it_is_across_the_edge_of_the_torus() -> None:
    track = ideal.places(np.array([6.0, 6.5, 0.6]), (6.45, -0.6, 0.4))
    found = ideal.located(ideal.render(track[None])[0])
    gap = found - track
    assert np.ptp(gap[:, 0]) < 0.05
    assert np.ptp(gap[:, 1]) < 0.05
    assert np.abs(np.exp(1j * gap[:, 2]) - 1).max() < 0.05
    assert ideal.plays_reversed(ideal.render(track[None])[0].flip(0))


def test_exact_draws_have_no_energy_distance_and_one_answer_alone_does() -> None:
    answers = ideal.question(2).answers
    sets = torch.multinomial(answers.shares, 1200, replacement=True, generator=generator()).view(400, 3)
    distances = [ideal.energy_distance(answers.frames[drawn], answers) for drawn in sets]
    assert abs(np.mean(distances)) < 0.004
    collapsed = ideal.energy_distance(answers.frames[:1].repeat(8, 1, 1, 1, 1), answers)
    assert collapsed > 0.02
    x, y = answers.frames[:1], answers.frames
    literal = [(2 * (x - a).square().mean().sqrt()) for a in y]
    inner = [(a - b).square().mean().sqrt() for a in y for b in y]
    assert collapsed == pytest.approx(float(sum(literal) / 5 - sum(inner) / 25))


def test_coverage_counts_the_answers_reached_and_no_sample_that_is_far_from_all() -> None:
    answers = ideal.question(2).answers
    near = answers.frames[[0, 0, 3]] + 0.01
    assert ideal.coverage(near, answers) == pytest.approx(0.4)
    assert ideal.coverage(answers.frames.flip(1), answers) == 0


def test_an_unknown_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="no sprite goes"):
        ideal.question(0, distance=2.0)
