"""A frame of two motions: each shows what it knows better, and neither what the other knows to be elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.clips import drawings, measures
from mpd import rife
from mpd.flow.rendering import IntermediateFlows
from mpd.methods import Motion, Settings
from mpd.progress import Pictures, Take
from mpd.rife import blending, weights
from mpd.rife.interpolator import Interpolator, Rendered
from mpd.vector_fields import Field

HEIGHT, WIDTH = 96, 160


@pytest.fixture(scope="module")
def interpolator() -> Interpolator:
    installed = weights.find("auto")
    assert installed is not None, weights.INSTALL
    return Interpolator(installed, "cpu", torch.float32)


def halfway(interpolator: Interpolator, start: Pictures, end: Pictures, motion: Motion) -> Any:
    settings = Settings(method="rife", frames=3, motion=motion)
    *_, take = rife.generate(interpolator, [start, end], settings)
    assert isinstance(take, Take)
    return take.frames[1]


@pytest.mark.parametrize(("number", "better"), [(1010, "rife"), (1025, "dis")])
def test_a_drawing_is_shown_by_the_motion_that_finds_its_figure(
    interpolator: Interpolator, number: int, better: str
) -> None:
    """One of the two is far better in each, and not the same one."""
    scene = drawings.scene(number)
    start, truth, end = (drawings.picture(scene, time) for time in (0, 0.5, 1))
    likeness = {
        motion: measures.psnr(halfway(interpolator, start, end, motion), truth) for motion in ("auto", "dis", "rife")
    }
    worse = {"rife": "dis", "dis": "rife"}[better]
    assert likeness[better] > likeness[worse] + 2, likeness
    assert likeness["auto"] > likeness[better] - 0.7, likeness


def page(left: int) -> Pictures:
    """A line on paper."""
    picture = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
    picture[20:76, left : left + 3] = 20
    return picture


def ways(to_start: Field, to_end: Field, seen: float = 1.0) -> tuple[Rendered, IntermediateFlows]:
    """Both kinds of answer with one motion."""
    half, whole = np.full((HEIGHT, WIDTH), 0.5, np.float32), np.full((HEIGHT, WIDTH), seen, np.float32)
    frame = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    return Rendered(frame, to_start, to_end, half), IntermediateFlows(to_start, to_end, half, whole)


def field(across: float) -> Field:
    return np.full((HEIGHT, WIDTH, 2), (across, 0), np.float32)


class TestDrawings:
    looks = blending.looks(page(60), page(90), (WIDTH, HEIGHT))
    #: Carries the line from one page to the other.
    carried = ways(field(-15), field(15))

    def line(self, share: Any) -> float:
        """Tell how much of the line halfway is the network's."""
        return float(share[24:72, 74:79].mean())

    def vanished(self) -> tuple[Rendered, IntermediateFlows]:
        """Paper is taken from beside the line on both pages: the two places are alike, and the line is nowhere."""
        return ways(field(20), field(-20))

    def test_what_shows_the_line_is_shown(self) -> None:
        assert self.line(blending.shares(self.looks, self.carried[0], self.vanished()[1])) > 0.9
        assert self.line(blending.shares(self.looks, self.vanished()[0], self.carried[1])) < 0.1

    def test_what_is_whole_is_shown(self) -> None:
        """Among motions that fit as well, and hide as little."""
        torn = field(-15)
        torn[::2, :, 1] += 3
        ragged = ways(torn, -torn)
        paper = (slice(24, 72), slice(20, 30))
        assert blending.shares(self.looks, self.carried[0], ragged[1])[paper].mean() > 0.9
        assert blending.shares(self.looks, ragged[0], self.carried[1])[paper].mean() < 0.1
