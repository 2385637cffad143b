"""Motions that may hold for a part of a picture: shifts of what has no texture, found among much that stands."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.clips import drawings
from mpd.flow.candidates import shifts, similarities
from mpd.flow.motion import appearance
from mpd.progress import Pictures

HEIGHT, WIDTH = 180, 320


def painted(*places: tuple[tuple[int, int], tuple[int, int, int], int]) -> Pictures:
    """A ground with squares: (x, y), colour, side."""
    picture = np.full((HEIGHT, WIDTH, 3), (240, 235, 220), np.uint8)
    picture[140:] = (90, 160, 80)
    picture[20:50, 250:300] = (230, 180, 60)
    for (x, y), colour, side in places:
        picture[y : y + side, x : x + side] = colour
    return picture


def found(start: Pictures, end: Pictures) -> list[tuple[float, float]]:
    return [(float(motion[0, 2]), float(motion[1, 2])) for motion in shifts(appearance(start), appearance(end))]


@pytest.mark.parametrize("way", [(60, 0), (-60, 0), (13, -21), (-30, 40), (0, 9), (100, 3)])
def test_what_moves_gives_the_shift(way: tuple[int, int]) -> None:
    x, y = 150, 60
    start = painted(((x, y), (60, 70, 140), 24))
    end = painted(((x + way[0], y + way[1]), (60, 70, 140), 24))
    assert found(start, end)[0] == way


def test_the_way_back_is_the_opposite() -> None:
    start, end = painted(((40, 60), (60, 70, 140), 24)), painted(((90, 70), (60, 70, 140), 24))
    assert found(start, end)[0] == (50, 10)
    assert found(end, start)[0] == (-50, -10)


def test_two_that_part_give_two() -> None:
    start = painted(((60, 60), (60, 70, 140), 24), ((200, 70), (200, 60, 50), 20))
    end = painted(((100, 50), (60, 70, 140), 24), ((150, 90), (200, 60, 50), 20))
    assert {(40, -10), (-50, 20)} <= set(found(start, end))


def test_one_peak_is_one_shift() -> None:
    """Not its flanks too, each of which would cost two searches."""
    start, end = painted(((40, 60), (60, 70, 140), 24)), painted(((140, 72), (60, 70, 140), 24))
    assert found(start, end) == [(100, 12)]


def test_an_upright_picture_is_looked_through_from_top_to_bottom() -> None:
    start, end = painted(((20, 40), (60, 70, 140), 24)), painted(((120, 52), (60, 70, 140), 24))
    upright = [np.ascontiguousarray(picture.transpose(1, 0, 2)) for picture in (start, end)]
    assert found(*upright)[0] == (12, 100)


def test_chance_has_no_peak() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert found(*noise) == []


@pytest.mark.parametrize("number", range(1000, 1012))
def test_a_drawn_figure_gives_its_way(number: int) -> None:
    """Its limbs swing meanwhile: a shift that is near is what the search needs."""
    scene = drawings.scene(number)
    shift = found(drawings.picture(scene, 0), drawings.picture(scene, 1))[0]
    assert np.hypot(shift[0] - scene.way[0], shift[1] - scene.way[1]) < 8


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (16, 16), (1, 40), (40, 1)])
def test_nothing_moves_nothing_is_found(size: tuple[int, int]) -> None:
    noise: NDArray[np.uint8] = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert found(noise, noise) == []
    assert found(np.zeros_like(noise), np.full_like(noise, 255)) == []


def test_a_similarity_wants_texture() -> None:
    plain = painted()[..., 0]
    assert similarities(plain, plain) == []
