"""The sprite world: what it renders is what it says, and the tracker finds it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mpd.sprites import track, world

SEEDS = world.seeds("development", 40)


def turned(angles: np.ndarray) -> np.ndarray:
    """Angles to their distance from 0 around the circle."""
    return np.abs(np.angle(np.exp(1j * angles)))


def test_a_seed_always_gives_the_same_clip() -> None:
    first, again = (world.render(world.scene(SEEDS[0])) for _ in range(2))
    assert first.shape == (world.FRAMES, world.SIZE, world.SIZE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, world.render(world.scene(SEEDS[1])))


def test_splits_share_no_seed() -> None:
    spans = sorted((first, first + world.SPLIT_SEEDS) for first in world.SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert world.seeds("held-out", 3, first=2)[0] == world.SPLITS["held-out"] + 2
    with pytest.raises(ValueError, match="a split has the seeds"):
        world.seeds("train", 2, first=world.SPLIT_SEEDS - 1)


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_a_part_of_a_clip_is_that_part(seed: int) -> None:
    scene = world.scene(seed)
    assert np.array_equal(world.render(scene, first=3, count=4), world.render(scene)[3:7])


def test_the_arrow_stays_in_the_picture_and_moves_where_it_points() -> None:
    for seed in SEEDS:
        places = world.trajectory(world.scene(seed))
        assert places[:, :2].min() >= world.MARGIN
        assert places[:, :2].max() <= world.SIZE - world.MARGIN
        assert track.along_heading(places).min() > 0.9
        assert track.moves_forward(places)
        assert not track.plays_reversed(places)


def test_speed_is_the_mean_and_what_the_ids_say_about() -> None:
    told = []
    for seed in world.seeds("development", 300):
        scene = world.scene(seed)
        steps = np.diff(world.trajectory(scene)[:, :2], axis=0)
        assert np.hypot(*steps.T).mean() == pytest.approx(scene.speed)
        if scene.motion_bucket_id < 255:
            told.append(np.log(scene.motion_bucket_id / world.motion_bucket(scene.speed, scene.fps)))
    assert np.std(told) == pytest.approx(world.BUCKET_SPREAD, rel=0.15)
    assert world.motion_bucket(2.5, 7) == 127


def test_the_tracker_finds_place_heading_and_one_sprite() -> None:
    for seed in SEEDS:
        scene = world.scene(seed)
        truth, found = world.trajectory(scene), track.track(world.render(scene), scene.hue)
        assert np.abs(found.places[:, :2] - truth[:, :2]).max() < 0.4
        assert turned(found.places[:, 2] - truth[:, 2]).max() < 0.04
        assert (found.sprites == 1).all()
        assert np.abs(found.mass - 1).max() < 0.1
        assert np.abs(found.spread - 1).max() < 0.1


def test_a_clip_played_backwards_is_reverse_play() -> None:
    for seed in SEEDS:
        scene = world.scene(seed)
        found = track.track(world.render(scene)[::-1], scene.hue)
        assert track.plays_reversed(found.places)
        assert not track.moves_forward(found.places)


def test_two_arrows_are_two_sprites_of_twice_the_mass() -> None:
    scene = replace(world.scene(SEEDS[0]), x=16, y=32, heading=0.3)
    one = world.render(scene, count=1)
    other = np.abs(world.render(replace(scene, x=48), count=1).astype(int) - round(255 * world.GROUND)).sum(-1) > 0
    two = np.where(other[..., None], world.render(replace(scene, x=48), count=1), one)
    found = track.track(two, scene.hue)
    assert found.sprites.tolist() == [2]
    assert found.mass[0] == pytest.approx(2, abs=0.1)


def test_an_empty_picture_has_no_arrow() -> None:
    found = track.track(np.full((1, world.SIZE, world.SIZE, 3), 204, dtype=np.uint8), hue=1.0)
    assert np.isnan(found.places).all()
    assert found.sprites.tolist() == [0]
    assert not track.moves_forward(np.concatenate([found.places, found.places]))


def test_the_dials_turn_what_they_say() -> None:
    scene = world.scene(SEEDS[0])
    backwards = world.trajectory(replace(scene, backwards=True))
    assert track.along_heading(backwards).max() < 0
    bar = replace(scene, headless=True, turn=0.0, swerve=0.0, heading=0.0, x=32.0, y=32.0)
    picture = world.render(bar, count=1)[0].astype(int)
    assert np.abs(picture - picture[:, ::-1]).max() <= 3
