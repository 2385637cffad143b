"""What stands still in both pictures: put back, but for where something that moves passes before it."""

from __future__ import annotations

import numpy as np

from mpd.flow.stillness import stillness
from mpd.progress import Frames, Pictures
from mpd.vector_fields import Field

SIZE = 96


def scene(left: int) -> Pictures:
    """A square of 16 pixels before stripes."""
    picture = np.tile(np.where(np.arange(SIZE) // 4 % 2, 90, 160).astype(np.uint8)[None, :, None], (SIZE, 1, 3))
    picture[40:56, left : left + 16] = (220, 30, 30)
    return picture


def motion(x: float) -> Field:
    return np.dstack([np.full((SIZE, SIZE), x, np.float32), np.zeros((SIZE, SIZE), np.float32)])


def kept(frame: Frames, start: Pictures, end: Pictures, x: float, time: float = 0.5) -> Frames:
    """A frame, float32, whose pixels come from `x` to the left in one picture and to the right in the other."""
    frame, first, last = (picture.astype(np.float32) for picture in (frame, start, end))
    return stillness(start, end).keep(frame, first, last, motion(-x), motion(x), time)


def test_where_pictures_agree_their_mean_is_put_back() -> None:
    start, end = scene(8), scene(72)
    end = np.where(end == 90, 92, end).astype(np.uint8)  # as noise would
    wrong = np.zeros((SIZE, SIZE, 3), np.float32)
    made = kept(wrong, start, end, 0, 0.25)
    np.testing.assert_allclose(made[:30], 0.75 * start[:30] + 0.25 * end[:30], atol=1e-4)
    assert (made[40:56, 8:24] == 0).all(), "what moved there is not still"


def test_what_comes_from_no_still_place_covers_it() -> None:
    start, end = scene(8), scene(72)
    middle = scene(40)
    assert stillness(start, end).still[48, 48] == 1
    np.testing.assert_array_equal(kept(middle, start, end, 32)[44:52, 44:52], middle[44:52, 44:52])
    # Were it said to come from beside the square, it would be a mistake about what stands still.
    dragged = kept(middle, start, end, 0)
    np.testing.assert_allclose(dragged[44:52, 44:52], start[44:52, 44:52], atol=1e-4)


def test_what_comes_from_beside_a_still_place_covers_it_too() -> None:
    """A thin thing before a ground: motion is never so exact that it comes from the middle of where it was."""
    start, end = scene(8), scene(72)
    beside = kept(scene(40), start, end, 27)
    np.testing.assert_array_equal(beside[44:52, 44:52], scene(40)[44:52, 44:52])


def test_whole_numbers_stay_whole() -> None:
    start, end = scene(8), scene(72)
    whole = stillness(start, end).keep(scene(40), start, end, motion(0), motion(0), 0.5)
    assert whole.dtype == np.uint8
    np.testing.assert_allclose(whole, kept(scene(40), start, end, 0), atol=1.01)


def test_between_still_and_moved_there_is_a_slope() -> None:
    start = np.full((SIZE, SIZE, 3), 100, np.uint8)
    slope = [float(stillness(start, start + np.uint8(change)).still[5, 5]) for change in (0, 4, 6, 10, 12, 40)]
    assert slope[:2] == [1, 1]
    assert 1 > slope[2] > slope[3] > 0
    assert slope[4:] == [0, 0]


def test_a_matte_has_a_say() -> None:
    start = np.dstack([scene(8), np.full((SIZE, SIZE), 255, np.uint8)])
    end = start.copy()
    end[..., 3] = 0
    assert stillness(start, end).still.max() == 0
