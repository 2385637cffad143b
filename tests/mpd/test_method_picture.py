"""The picture of docs/method.md is the one that the library makes."""

from __future__ import annotations

import pytest

from benchmarks import method


def test_the_page_shows_what_the_library_does() -> None:
    assert method.OUT.read_text() == method.picture(), "run: python -m benchmarks.method"


def test_every_anchor_ends_at_the_end_keyframe() -> None:
    last = method.FRAMES - 1 + method.MISSED
    for anchor in ("pin", "rigid", "closure"):
        assert method.positions(anchor)[-1] == pytest.approx(last)
    assert method.positions("rigid")[0] == pytest.approx(method.MISSED)
    assert method.positions("closure")[0] == method.positions("pin")[0] == 0
