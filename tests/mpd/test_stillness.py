"""What stands still in both pictures: put back, but for where something that moves passes before it."""

from __future__ import annotations

import numpy as np

from mpd.flow.stillness import stillness
from mpd.progress import Pictures
from mpd.vector_fields import Field

SIZE = 96


def scene(left: int) -> Pictures:
    """A square of 16 pixels before stripes."""
    picture = np.tile(np.where(np.arange(SIZE) // 4 % 2, 90, 160).astype(np.uint8)[None, :, None], (SIZE, 1, 3))
    picture[40:56, left : left + 16] = (220, 30, 30)
    return picture


def motion(x: float) -> Field:
    return np.dstack([np.full((SIZE, SIZE), x, np.float32), np.zeros((SIZE, SIZE), np.float32)])


def test_where_pictures_agree_their_mean_is_put_back() -> None:
    start, end = scene(8), scene(72)
    end = np.where(end == 90, 92, end).astype(np.uint8)  # as noise would
    wrong = np.zeros((SIZE, SIZE, 3), np.float32)
    kept = stillness(start, end).keep(wrong, start, end, motion(0), motion(0), 0.25)
    np.testing.assert_allclose(kept[:30], 0.75 * start[:30] + 0.25 * end[:30], atol=1e-4)
    assert (kept[40:56, 8:24] == 0).all(), "what moved there is not still"


def test_what_comes_from_no_still_place_covers_it() -> None:
    start, end = scene(8), scene(72)
    middle = scene(40)
    still = stillness(start, end)
    assert still.still[48, 48] == 1
    kept = still.keep(middle.astype(np.float32), start, end, motion(-32), motion(32), 0.5)
    np.testing.assert_array_equal(kept[44:52, 44:52], middle[44:52, 44:52])
    # Were it said to come from beside the square, it would be a mistake about what stands still.
    dragged = still.keep(middle.astype(np.float32), start, end, motion(0), motion(0), 0.5)
    np.testing.assert_allclose(dragged[44:52, 44:52], start[44:52, 44:52], atol=1e-4)


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
