from __future__ import annotations

import pytest

from mpd.schedule import karras


def test_equals_the_published_formula() -> None:
    sigmas = karras(25, 0.002, 700.0)
    literal = [(700 ** (1 / 7) + i / 24 * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7 for i in range(25)]
    assert sigmas == pytest.approx([*literal, 0], rel=1e-12)


def test_ends_are_exact_and_levels_fall() -> None:
    sigmas = karras(10, 0.002, 700.0)
    assert sigmas[0] == pytest.approx(700)
    assert sigmas[-2] == pytest.approx(0.002)
    assert sigmas[-1] == 0
    assert sigmas == sorted(sigmas, reverse=True)


def test_one_step_goes_from_the_top_to_zero() -> None:
    assert karras(1, 0.002, 700.0) == pytest.approx([700.0, 0.0])
