"""Doubt is told: how much of the motion was found, what dissolves, and one sentence that says so."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

import mpd
from mpd.methods import Settings
from mpd.progress import MotionReport, Pictures, Take

WIDTH, HEIGHT = 320, 192


def seen(photograph: Pictures, x: float, y: float) -> Pictures:
    moved = np.array([[1.0, 0, -x], [0, 1.0, -y]])
    return np.asarray(cv2.warpAffine(photograph, moved, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC), np.uint8)


TABLE = seen(data.coffee(), 60, 70)
PANNED = seen(data.coffee(), 90, 70)
CAT = seen(data.chelsea(), 60, 40)


def subtitled(picture: Pictures) -> Pictures:
    """The same words, as a channel's or a film's, over a third of whatever is shown."""
    made = picture.copy()
    made[128:] = 16
    cv2.putText(made, "the same words", (20, 170), cv2.FONT_HERSHEY_SIMPLEX, 1, (240, 240, 240), 2)
    return made


def reported(pictures: list[Any], method: str = "flow", **settings: Any) -> MotionReport | None:
    *_, take = mpd.inbetween(None, pictures, Settings(method=method, **{"frames": 3, **settings}), matte=True)
    assert isinstance(take, Take)
    return take.motion


def found(pictures: list[Any], **settings: Any) -> MotionReport:
    report = reported(pictures, **settings)
    assert report is not None
    assert 0 <= report.trusted <= 1
    assert report.trusted + report.dissolved <= 1 + 1e-6
    return report


WAYS = [{"method": "flow"}, {"method": "rife"}, {"method": "rife", "motion": "rife"}]


@pytest.mark.parametrize("way", WAYS, ids=["flow", "rife", "rife alone"])
def test_a_pan_is_trusted_and_its_length_told(way: dict[str, Any]) -> None:
    report = found([TABLE, PANNED], **way)
    assert report.trusted > 0.75
    assert report.dissolved < 0.2
    assert report.largest == pytest.approx(30, abs=4)
    assert "found" in report.says


@pytest.mark.parametrize("way", WAYS[:2], ids=["flow", "rife"])
def test_unrelated_pictures_a_cut_and_a_pan_are_told_apart(way: dict[str, Any]) -> None:
    unrelated = found([TABLE, CAT], **way)
    assert unrelated.trusted < 0.05
    assert unrelated.dissolved > 0.95
    assert unrelated.largest == 0
    assert "nothing to do with each other" in unrelated.says
    cut = found([subtitled(TABLE), subtitled(CAT)], **way)
    assert cut.trusted < 0.05, "the words that stand still say nothing of what is around them"
    assert cut.dissolved > 0.95
    assert len({unrelated.says, cut.says, found([TABLE, PANNED], **way).says}) == 3


@pytest.mark.parametrize("way", WAYS, ids=["flow", "rife", "rife alone"])
def test_what_is_said_to_dissolve_does(way: dict[str, Any]) -> None:
    """Unrelated photographs, and figures that are not one on a ground that is."""
    disc, square = (np.full((HEIGHT, WIDTH, 3), 250, np.uint8) for _ in range(2))
    cv2.circle(disc, (80, 90), 40, (60, 70, 140), -1)
    cv2.rectangle(square, (190, 50), (270, 130), (200, 90, 50), -1)
    for start, end in ((TABLE, CAT), (disc, square)):
        *_, take = mpd.inbetween(None, [start, end], Settings(frames=3, **way), matte=True)
        assert isinstance(take, Take)
        assert take.motion is not None
        assert "dissolves" in take.motion.says
        assert take.motion.dissolved > 0.95
        mean = (start.astype(float) + end) / 2
        assert np.abs(take.frames[1] - mean).mean() < 2


def test_a_ground_that_two_pictures_share_is_no_motion() -> None:
    moved = [np.full((HEIGHT, WIDTH, 3), 250, np.uint8) for _ in range(2)]
    for picture, x in zip(moved, (80, 150), strict=True):
        cv2.circle(picture, (x, 90), 40, (60, 70, 140), -1)
    report = found([*moved], method="flow")
    assert report.trusted > 0.6
    assert report.largest == pytest.approx(70, abs=4)
    still = found([moved[0], moved[0]], method="flow")
    assert (still.trusted, still.dissolved, still.largest) == (1, 0, 0)


def test_the_worst_segment_is_told_and_the_way_back_of_a_loop_is_one() -> None:
    pan = [TABLE, PANNED]
    assert found([*pan, CAT]) == found([PANNED, CAT])
    assert found([*pan, pan[0]]).trusted > 0.75
    *_, take = mpd.inbetween(None, [*pan, CAT], Settings(method="flow", positions=(0, 2, 3, 6), loop=True))
    assert isinstance(take, Take)
    assert [one and one.dissolved > 0.9 for one in take.motions] == [False, None, True], "in their order"
    assert found([*pan, CAT], frames=None, positions=(0, 2, 3)).trusted > 0.75, "nothing is between the frames 2 and 3"
    assert found([*pan, CAT], frames=None, positions=(0, 2, 3, 6), loop=True).dissolved > 0.9


def test_standing_still_is_trusted() -> None:
    report = found([TABLE, TABLE])
    assert (report.trusted, report.dissolved, report.largest) == (1, 0, 0)


def test_where_nothing_is_between_nothing_is_told() -> None:
    assert reported([TABLE, CAT], frames=2) is None


def test_lengths_are_the_frames_pixels() -> None:
    large = [np.asarray(Image.fromarray(picture).resize((1280, 768))) for picture in (TABLE, PANNED)]
    assert found(large).largest == pytest.approx(120, abs=16)
