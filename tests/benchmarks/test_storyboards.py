"""Several keyframes of a clip: what is measured at the inner ones, and the table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sprites.__main__ import main
from benchmarks.sprites.storyboards import BOARDS, calls, circling, cross_fade, judged
from mpd.sprites import world

SEED = world.seeds("development", 1)[0]
BOARD = BOARDS["keyframes at 0, 6, 11"]
SCENE = replace(world.scene(SEED), x=20.0, y=32.0, heading=0.0, speed=2.2, acceleration=0.0, turn=0.0, swerve=0.0)


def at(moments: list[float]) -> np.ndarray:
    """The arrow where it is at these moments of the clip, counted in frames."""
    return np.concatenate([world.render(replace(SCENE, x=SCENE.x + SCENE.speed * one), 2, count=1) for one in moments])


def test_the_truth_neither_jumps_nor_changes_its_speed() -> None:
    found = judged(at([float(frame) for frame in range(12)]), world.render(SCENE), SCENE, BOARD)
    assert found["psnr"] > 60
    assert found["path"] < 0.25
    assert found["jump"] < 0.2
    assert found["before"] == pytest.approx(1, abs=0.06)
    assert found["after"] == pytest.approx(1, abs=0.06)
    assert found["reverse"] == 0


def test_a_clip_that_slows_into_its_keyframe_and_leaps_out_of_it_is_seen() -> None:
    moments = [0, 1.3, 2.6, 3.8, 4.8, 5.5, 6, 7.6, 8.8, 9.8, 10.5, 11]
    found = judged(at([float(one) for one in moments]), world.render(SCENE), SCENE, BOARD)
    assert found["before"] == pytest.approx(0.5, abs=0.06)
    assert found["after"] == pytest.approx(1.6, abs=0.06)
    assert found["jump"] == pytest.approx(1.1 * SCENE.speed, abs=0.1)
    backwards = judged(at([float(11 - frame) for frame in range(12)]), world.render(SCENE), SCENE, BOARD)
    assert backwards["reverse"] == 1
    assert backwards["path"] > 5


def test_a_dissolve_is_no_motion() -> None:
    truth = world.render(SCENE)
    faded = cross_fade([truth[place] for place in BOARD.places], BOARD)
    assert [np.array_equal(faded[place], truth[place]) for place in BOARD.places] == [True] * 3
    assert np.array_equal(faded[3], np.rint(truth[0] / 2 + truth[6] / 2).astype(np.uint8))
    assert judged(faded, truth, SCENE, BOARD)["psnr"] < 30


def test_nothing_is_gained_by_showing_no_arrow() -> None:
    truth = world.render(SCENE)
    hidden = truth.copy()
    for place in range(12):
        if place not in BOARD.places:
            hidden[place] = round(255 * world.GROUND)
    found, shown = (judged(clip, truth, SCENE, BOARD) for clip in (hidden, truth))
    assert found["path"] > 20
    assert found["before"] == found["after"] == 0
    assert found["reverse"] > 0.9 > shown["reverse"]
    assert found["psnr"] < 25 < shown["psnr"]


def test_a_loops_truth_comes_back() -> None:
    board = BOARDS["a loop of three, at 0, 3, 6 and again at 8"]
    for seed in world.seeds("development", 4):
        scene = circling(seed, board.frames)
        places = world.trajectory(scene, board.frames + 1)
        assert np.hypot(*(places[-1, :2] - places[0, :2])) < 1e-9
        assert np.allclose(places[:-1, :2].mean(axis=0), world.SIZE / 2)
        found = judged(world.render(scene, board.frames), world.render(scene, board.frames), scene, board)
        assert found["before"] == pytest.approx(1, abs=0.2)
        assert found["reverse"] == 0


def test_one_latent_costs_one() -> None:
    assert [calls(name, "joint", 25) for name in BOARDS] == [25, 25, 25, 25]
    assert [calls(name, "alone", 25) for name in BOARDS] == [50, 75, 75, 125]
    assert calls("keyframes at 0, 6, 11", "rife", 25) == 0


def test_the_table_by_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = "keyframes at 0, 4, 8, 11"
    asked = ["storyboards", "--clips", "1", "--steps", "2", "--out", str(tmp_path), "--boards", board]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "**Keyframes at 0, 4, 8, 11**" in told
    assert "| joint | 2 |" in told
    assert "| joint − alone |" in told
    tables = json.loads((tmp_path / "storyboards" / "table.json").read_text())["tables"]
    assert tables[board]["truth"]["psnr"][0] > 30
