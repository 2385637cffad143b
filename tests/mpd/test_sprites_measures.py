"""The benchmark's measures: right on clips whose faults are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from benchmarks.sprites.floor import FLOOR
from mpd.progress import Pictures
from mpd.sprites import measures, world

CLIPS = [(scene, world.render(scene)) for scene in map(world.scene, world.seeds("development", 6, first=100))]
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
    assert judged.reverse == pytest.approx(1, abs=0.05)
    assert judged.path > 3


def test_a_freeze_does_not_arrive() -> None:
    frozen = np.concatenate([TRUTH[:6], np.repeat(TRUTH[6:7], len(TRUTH) - 6, axis=0)])
    assert measures.judge(frozen, TRUTH, SCENE).arrival == pytest.approx(0, abs=0.05)


def test_a_cross_fade_is_ghosts() -> None:
    weights = np.linspace(0, 1, len(TRUTH))[:, None, None, None]
    faded = ((1 - weights) * TRUTH[:1] + weights * TRUTH[-1:]).astype(np.uint8)
    assert measures.judge(faded, TRUTH, SCENE).ghosts >= 0.5


def test_a_tint_is_drift_and_empty_frames_have_the_worst_of_all() -> None:
    tinted = np.clip(TRUTH.astype(int) + np.array([12, 0, -12]), 0, 255).astype(np.uint8)
    assert measures.judge(tinted, TRUTH, SCENE).drift > 3
    empty = measures.judge(np.full_like(TRUTH, 204), TRUTH, SCENE)
    assert empty.path > 25
    assert (empty.reverse, empty.arrival, empty.ghosts) == (1, -1, 1)


def hold(truth: Pictures, scene: world.Scene) -> Pictures:
    return np.concatenate([np.repeat(truth[:1], len(truth) - 1, axis=0), truth[-1:]])


def jump(truth: Pictures, scene: world.Scene) -> Pictures:
    return np.concatenate([truth[:1], np.repeat(truth[-1:], len(truth) - 1, axis=0)])


def switch(truth: Pictures, scene: world.Scene) -> Pictures:
    half = len(truth) // 2
    return np.concatenate([np.repeat(truth[:1], half, axis=0), np.repeat(truth[-1:], len(truth) - half, axis=0)])


def backwards(truth: Pictures, scene: world.Scene) -> Pictures:
    return np.concatenate([truth[:1], truth[-2:0:-1], truth[-1:]])


def blinking(truth: Pictures, scene: world.Scene) -> Pictures:
    """In reverse, hidden in every other frame, so that no step is seen."""
    frames = backwards(truth, scene)
    frames[1:-1:2] = round(255 * world.GROUND)
    return frames


def both_ways(truth: Pictures, scene: world.Scene) -> Pictures:
    return np.rint(truth / 2 + truth[::-1] / 2).astype(np.uint8)


def two_honest_paths(truth: Pictures, scene: world.Scene) -> Pictures:
    """The way from the start dissolving into one that flies on from the end, shown backwards, as a fused host makes."""
    on = replace(scene, **dict(zip(("x", "y", "heading"), world.trajectory(scene)[-1], strict=True)))
    share = np.linspace(1, 0, len(truth))[:, None, None, None]
    return np.rint(share * truth + (1 - share) * world.render(on)[::-1]).astype(np.uint8)


def turned_for(steps: int) -> Callable[[Pictures, world.Scene], Pictures]:
    def made(truth: Pictures, scene: world.Scene) -> Pictures:
        places = world.trajectory(scene)
        step = places[-1, :2] - places[-2, :2]
        for before in range(1, steps + 1):
            places[-1 - before] = [*(places[-1, :2] + before * step), places[-1, 2]]
        return world.drawn(scene, places)

    return made


FAKES: dict[str, tuple[Callable[[Pictures, world.Scene], Pictures], str]] = {
    "empty": (FLOOR["empty"], "region path reverse ghosts arrival"),
    "cross-fade": (FLOOR["cross-fade"], "region path ghosts arrival"),
    "straight line": (FLOOR["straight line"], "region path"),
    "truth reversed at the end": (FLOOR["truth reversed at the end"], "region reverse arrival"),
    "hold": (hold, "region path arrival"),
    "jump": (jump, "region path arrival"),
    "switch": (switch, "region path arrival"),
    "backwards": (backwards, "region path reverse arrival"),
    "blinking": (blinking, "region path reverse ghosts arrival"),
    "both ways at once": (both_ways, "region path ghosts arrival"),
    "two honest paths": (two_honest_paths, "region path reverse ghosts arrival"),
    "backwards for one step": (turned_for(1), "reverse"),
    **{f"backwards for {steps} steps": (turned_for(steps), "region reverse arrival") for steps in (2, 3, 4)},
}
"""What is no inbetween, and the measures on which it has to lose."""
LOSES: dict[str, Callable[[float], bool]] = {
    "region": lambda decibels: decibels < 20,
    "path": lambda pixels: pixels > 1.2,
    "reverse": lambda share: share > 0.06,
    "ghosts": lambda share: share > 0.3,
    "arrival": lambda along: not 0.6 < along < 1.5,
}


@pytest.mark.parametrize("name", FAKES)
def test_a_fake_loses_where_the_truth_wins(name: str) -> None:
    fake, on = FAKES[name]
    judged = [measures.judge(fake(truth, scene), truth, scene) for scene, truth in CLIPS]
    for measure in on.split():
        found = float(np.mean([getattr(one, measure) for one in judged]))
        assert LOSES[measure](found), (measure, found)


def test_the_truth_as_a_model_can_show_it_loses_nowhere() -> None:
    """What the VAE blurs is stood in for by a blur of its PSNR."""
    for scene, truth in CLIPS:
        shown = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.7) for frame in truth])
        judged = measures.judge(shown, truth, scene)
        assert judged.psnr < 40
        for measure, loses in LOSES.items():
            assert not loses(getattr(judged, measure)), (measure, getattr(judged, measure))


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
