"""What is told of a video before somebody trusts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mpd.doubts import doubts
from mpd.keyframes import have_mattes
from mpd.progress import MotionReport

LOST = "mp4 holds no transparency, which the keyframes have; formats that hold it: webm, apng, webp, png, "
OPAQUE = Image.new("RGB", (4, 4))
SOLID = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
CLEAR = Image.new("RGBA", (4, 4), (0, 0, 0, 254))


@pytest.mark.parametrize(("dissolved", "told"), [(0.5, []), (0.51, ["Too little in common."])])
def test_motion_that_was_not_found_is_told_in_its_own_words(dissolved: float, told: list[str]) -> None:
    assert doubts(MotionReport(0.4, dissolved, 3.0, "Too little in common."), ["mp4"], False) == told


def test_formats_without_transparency_are_named_where_there_is_some() -> None:
    assert doubts(None, ["mp4", "gif", "png"], False) == doubts(None, ["png", "webm"], True) == []
    [one] = doubts(None, ["mp4", "png"], True)
    assert one.startswith(LOST)
    assert one.endswith("png16, prores4444.")
    [several] = doubts(None, ["mp4", "gif"], True)
    assert several.startswith("mp4 and gif hold no transparency")


@pytest.mark.parametrize(
    ("keyframes", "shows"),
    [([CLEAR, SOLID], True), ([SOLID, CLEAR], True), ([SOLID, SOLID], False), ([CLEAR, OPAQUE], False)],
)
def test_what_is_transparent_is_seen(keyframes: list[Image.Image], shows: bool) -> None:
    assert have_mattes(keyframes) is shows


@pytest.mark.parametrize("quiet", [False, True])
def test_the_command_warns(tmp_path: Path, quiet: bool) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGBA", (32, 32), (200, 90, 20, 128)).save(tmp_path / name)
    command = [str(Path(sys.executable).with_name("mpd")), "a.png", "b.png", "--frames", "3", *(["-q"] * quiet)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (f"mpd: warning: {LOST}" in done.stderr) is not quiet
