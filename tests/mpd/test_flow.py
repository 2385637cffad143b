"""Optical flow: exact ends, true motion between them, and a dissolve where there is none.

The truths are photographs moved by a known motion, so that every inbetween is known too.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from benchmarks.clips import drawings
from mpd.flow import flow_frames, flow_size, generate
from mpd.methods import Settings, SettingsError
from mpd.progress import Progress, Take

Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 448, 256


def seen(photograph: Picture, matrix: NDArray[np.float64]) -> Picture:
    """A photograph moved by a (2, 3) affine motion, as a picture of the size that all tests share."""
    moved = cv2.warpAffine(photograph, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved)


def shift(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1.0, 0, x], [0, 1.0, y]])


def pan(time: float) -> Picture:
    return seen(data.coffee(), shift(-40 - 70 * time, -60 - 20 * time))


def zoom(time: float) -> Picture:
    near = cv2.getRotationMatrix2D((260, 200), 8, 1.3) + shift(-80, -90) * [[0, 0, 1], [0, 0, 1]]
    return seen(data.coffee(), (1 - time) * shift(-60, -70) + time * near)


def darker(time: float) -> Picture:
    return np.rint(seen(data.coffee(), shift(-40 - 15 * time, -60)) * (1 - 0.3 * time)).astype(np.uint8)


def passing(time: float) -> Picture:
    """A cat's face that crosses, turning, in front of a table that moves a little the other way."""
    table = seen(data.coffee(), shift(-60 - 8 * time, -70))
    turn = cv2.getRotationMatrix2D((225, 150), -10 * time, 0.55) + shift(-90 + 90 * time, -30) * [[0, 0, 1], [0, 0, 1]]
    mask = cv2.ellipse(np.zeros((300, 451), np.float32), (225, 150), (170, 130), 0, 0, 360, 1.0, -1)
    cover = cv2.warpAffine(cv2.GaussianBlur(mask, (0, 0), 2), turn, (WIDTH, HEIGHT))[..., None]
    return np.rint(table * (1 - cover) + seen(data.chelsea(), turn) * cover).clip(0, 255).astype(np.uint8)


def dissolve(start: Picture, end: Picture, time: float) -> Picture:
    return np.rint(start * (1 - time) + end * time).astype(np.uint8)


def psnr(picture: Picture, truth: Picture) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, float(np.mean((picture.astype(float) - truth) ** 2)))))


@pytest.mark.parametrize(
    ("scene", "least", "above_dissolve"), [(pan, 36, 20), (zoom, 31, 15), (darker, 40, 20), (passing, 20, 3)]
)
def test_inbetweens_are_where_things_are(
    scene: Callable[[float], Picture], least: float, above_dissolve: float
) -> None:
    start, end = scene(0.0), scene(1.0)
    frames = list(flow_frames(start, end, 5))
    for index in (1, 2, 3):
        truth = scene(index / 4)
        found = psnr(frames[index], truth)
        assert found > least
        assert found > psnr(dissolve(start, end, index / 4), truth) + above_dissolve


def test_the_ends_are_the_keyframes() -> None:
    start, end = pan(0), pan(1)
    for count in (2, 3, 6):
        frames = list(flow_frames(start, end, count))
        assert len(frames) == count
        assert (frames[0] == start).all()
        assert (frames[-1] == end).all()


def test_frames_next_to_the_ends_lead_up_to_them() -> None:
    """No jump: the change from frame to frame is about the same everywhere."""
    frames = list(flow_frames(zoom(0), zoom(1), 9))
    changes = [np.abs(after.astype(float) - before).mean() for before, after in pairwise(frames)]
    assert max(changes) < 2 * min(changes)


def test_nothing_moves_nothing_changes() -> None:
    still = pan(0)
    assert all((frame == still).all() for frame in flow_frames(still, still, 4))


@pytest.mark.parametrize(("number", "most"), [(1003, 0.0005), (1021, 0.0008), (1022, 0.0025)])
def test_a_figure_passes_and_the_drawing_around_it_stands(number: int, most: float) -> None:
    scene = drawings.scene(number)
    start, end = drawings.picture(scene, 0), drawings.picture(scene, 1)
    truth = drawings.picture(scene, 0.5)
    made = list(flow_frames(start, end, 3))[1]
    standing = (start == end).all(-1) & (start == truth).all(-1)
    off = np.abs(made.astype(int) - truth).max(-1)[standing] > 30
    assert off.mean() < most
    assert psnr(made, truth) > psnr(dissolve(start, end, 0.5), truth) + 3


@pytest.mark.parametrize(("number", "least"), [(1025, 3.5), (1030, 7.9), (1042, 3.7)])
def test_a_figure_that_goes_far_before_another_shape_is_whole(number: int, least: float) -> None:
    """Two motions arrive where it passes; their mean is nobody's."""
    scene = drawings.scene(number)
    start, truth, end = (drawings.picture(scene, time) for time in (0, 0.5, 1))
    made = list(flow_frames(start, end, 3))[1]
    assert psnr(made, truth) > psnr(dissolve(start, end, 0.5), truth) + least


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_grey_levels_stay(level: int) -> None:
    flat = np.full((64, 96, 3), level, np.uint8)
    assert all((frame == level).all() for frame in flow_frames(flat, flat, 3))


def test_unrelated_pictures_dissolve() -> None:
    start, end = seen(data.coffee(), shift(-60, -70)), seen(data.chelsea(), shift(0, -20))
    frames = list(flow_frames(start, end, 5))
    for index in (1, 2, 3):
        assert psnr(frames[index], dissolve(start, end, index / 4)) > 40


def figure(*, square: bool, x: int, colour: tuple[int, int, int]) -> Picture:
    """A flat figure on paper."""
    picture = np.full((HEIGHT, WIDTH, 3), 250, np.uint8)
    if square:
        return np.asarray(cv2.rectangle(picture, (x - 50, 60), (x + 50, 160), colour, -1))
    return np.asarray(cv2.circle(picture, (x, 120), 50, colour, -1))


def test_flat_figures_that_are_not_one_dissolve_on_paper_that_stays() -> None:
    """What is not alike does not move, and the colour of one figure is no exposure of the paper."""
    start = figure(square=False, x=120, colour=(60, 70, 140))
    end = figure(square=True, x=330, colour=(200, 90, 50))
    for made, time in zip(list(flow_frames(start, end, 5))[1:4], (0.25, 0.5, 0.75), strict=True):
        np.testing.assert_allclose(made, dissolve(start, end, time), atol=2)


def test_a_flat_figure_that_is_one_moves() -> None:
    start, truth, end = (figure(square=False, x=x, colour=(60, 70, 140)) for x in (120, 180, 240))
    made = list(flow_frames(start, end, 3))[1]
    assert psnr(made, truth) > psnr(dissolve(start, end, 0.5), truth) + 3


def test_the_same_twice_and_however_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for cores in (1, 3):
        monkeypatch.setattr("mpd.cores.usable", lambda cores=cores: cores)
        made.append(list(flow_frames(passing(0), passing(1), 7)))
    assert all((a == b).all() for a, b in zip(*made, strict=True))


def test_whoever_closes_it_ends_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are few, on any machine: many jobs share it."""
    monkeypatch.setattr("mpd.cores.usable", lambda: 64)
    running = generate([passing(0), passing(1)], Settings(method="flow", frames=40))
    for _ in range(3):
        next(running)
    assert 1 <= len([thread for thread in threading.enumerate() if thread.name.startswith("frames")]) <= 2
    running.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 10))
def test_any_size(height: int, width: int, seed: int) -> None:
    start, end = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    frames = list(flow_frames(start, end, 3))
    assert [frame.shape for frame in frames] == [start.shape] * 3
    assert [frame.dtype for frame in frames] == [np.uint8] * 3


def test_a_picture_upside_down() -> None:
    start = pan(0)
    assert len(list(flow_frames(start, start[::-1, ::-1].copy(), 5))) == 5


class TestSize:
    def test_the_pictures_own(self) -> None:
        assert flow_size((1024, 576), None, None) == (1024, 576)

    def test_even_and_at_most_1280(self) -> None:
        assert flow_size((4001, 3000), None, None) == (1280, 960)
        assert flow_size((451, 301), None, None) == (450, 300)
        assert flow_size((10, 5000), None, None) == (32, 1280)

    def test_as_asked(self) -> None:
        assert flow_size((400, 300), 1920, 1080) == (1920, 1080)


def run(pictures: list[Picture], **settings: object) -> tuple[list[Progress], list[Take]]:
    reports = list(generate(pictures, Settings.from_json({"method": "flow", **settings})))
    return [r for r in reports if isinstance(r, Progress)], [r for r in reports if isinstance(r, Take)]


class TestGenerate:
    pictures = (pan(0), pan(0.5), pan(1))

    def test_segments_share_their_boundary(self) -> None:
        progress, (take,) = run(list(self.pictures), frames=4, fps=12)
        assert take.frames.shape == (7, HEIGHT, WIDTH, 3)
        for place, picture in zip((0, 3, 6), self.pictures, strict=True):
            assert (take.frames[place] == picture).all()
        assert (take.index, take.seed, take.fps) == (0, 0, 12)
        assert [(p.segment, p.step, p.steps) for p in progress] == [
            *((0, step, 4) for step in (1, 2, 3, 4)),
            *((1, step, 3) for step in (1, 2, 3)),
        ]
        assert [p.fraction for p in progress] == [n / 7 for n in range(1, 8)]

    def test_a_loop_leaves_out_the_return(self) -> None:
        progress, (take,) = run(list(self.pictures), frames=3, loop=True)
        assert len(take.frames) == 6
        for place, picture in zip((0, 2, 4), self.pictures, strict=True):
            assert (take.frames[place] == picture).all()
        assert not (take.frames[-1] == take.frames[0]).all()
        assert progress[-1].fraction == 1
        assert progress[-1].step == progress[-1].steps

    def test_positions(self) -> None:
        _, (take,) = run(list(self.pictures), positions=[0, 2, 7])
        assert len(take.frames) == 8
        for place, picture in zip((0, 2, 7), self.pictures, strict=True):
            assert (take.frames[place] == picture).all()

    def test_a_take_per_seed(self) -> None:
        progress, takes = run(list(self.pictures[:2]), frames=3, seeds=[5, 6])
        assert [(take.index, take.seed) for take in takes] == [(0, 5), (1, 6)]
        assert [p.takes for p in progress] == [2] * 3

    def test_25_frames_if_nothing_is_said(self) -> None:
        flat = np.zeros((32, 32, 3), np.uint8)
        assert len(run([flat, flat])[1][0].frames) == 25

    def test_previews_are_small(self) -> None:
        progress, _ = run(list(self.pictures[:2]), frames=2)
        preview = progress[0].preview()
        assert preview is not None
        assert preview.shape == (146, 256, 3)

    def test_refusals_come_before_the_first_frame(self) -> None:
        settings = Settings(method="flow")
        with pytest.raises(SettingsError, match="at least 2"):
            generate([self.pictures[0]], settings)
        with pytest.raises(SettingsError, match="differ in size"):
            generate([self.pictures[0], self.pictures[0][:-2]], settings)


def test_needs_no_torch() -> None:
    code = "import sys, mpd.flow, mpd.keyframes, mpd.output.video, mpd.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
