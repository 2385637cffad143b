"""The benchmark's measures: right on clips whose faults are known."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from mpd.sprites import measures, world

SCENE = world.scene(world.seeds("development", 1)[0])
TRUTH = world.render(SCENE)


def test_the_truth_is_perfect() -> None:
    judged = measures.judge(TRUTH, TRUTH, SCENE)
    assert judged.psnr > 100
    assert judged.ssim == pytest.approx(1)
    assert judged.path < 0.4
    assert (judged.reverse, judged.ghosts, judged.drift) == (0, 0, pytest.approx(judged.drift))
    assert judged.arrival == pytest.approx(1, abs=0.1)
    assert judged.drift < 0.5


def test_a_clip_played_backwards_is_reverse_play_off_its_path() -> None:
    judged = measures.judge(TRUTH[::-1], TRUTH, SCENE)
    assert judged.reverse == 1
    assert judged.path > 3


def test_a_freeze_does_not_arrive() -> None:
    frozen = np.concatenate([TRUTH[:6], np.repeat(TRUTH[6:7], len(TRUTH) - 6, axis=0)])
    assert measures.judge(frozen, TRUTH, SCENE).arrival == pytest.approx(0, abs=0.05)


def test_a_cross_fade_is_ghosts() -> None:
    weights = np.linspace(0, 1, len(TRUTH))[:, None, None, None]
    faded = ((1 - weights) * TRUTH[:1] + weights * TRUTH[-1:]).astype(np.uint8)
    assert measures.judge(faded, TRUTH, SCENE).ghosts >= 0.5


def test_a_tint_is_drift_and_empty_frames_have_no_path() -> None:
    tinted = np.clip(TRUTH.astype(int) + np.array([12, 0, -12]), 0, 255).astype(np.uint8)
    assert measures.judge(tinted, TRUTH, SCENE).drift > 3
    empty = measures.judge(np.full_like(TRUTH, 204), TRUTH, SCENE)
    assert np.isnan(empty.path)
    assert np.isnan(empty.arrival)
    assert empty.ghosts == 1


def test_ssim_is_the_published_one() -> None:
    random = np.random.default_rng(0)
    noisy = np.clip(TRUTH[0] + random.normal(0, 9, TRUTH[0].shape), 0, 255).astype(np.uint8)
    known = structural_similarity(
        TRUTH[0], noisy, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert measures.ssim(TRUTH[0], noisy) == pytest.approx(known, abs=1e-3)


def test_clips_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        measures.judge(TRUTH[:5], TRUTH, SCENE)


def test_the_interval_covers_the_mean_and_leaves_out_what_is_unknown() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        _, low, high = measures.interval(random.normal(2, 1, 40).tolist(), draws=500, seed=trial)
        covered += low <= 2 <= high
    assert 175 <= covered <= 199
    assert measures.interval([1.0, float("nan"), 3.0])[0] == 2
    assert np.isnan(measures.interval([float("nan")])[0])
