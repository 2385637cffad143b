"""What is told of a video before somebody trusts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mpd.doubts import doubts
from mpd.keyframes import LEAST_CONTRAST, background_for, contrast, have_mattes
from mpd.methods import Settings
from mpd.progress import MotionReport

LOST = "mp4 holds no transparency, which the keyframes have; formats that hold it: webm, apng, webp, png, "
BLACK = "#000000"
OPAQUE = Image.new("RGB", (4, 4))
SOLID = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
CLEAR = Image.new("RGBA", (4, 4), (0, 0, 0, 254))


@pytest.mark.parametrize(("dissolved", "told"), [(0.5, []), (0.51, ["Too little in common."])])
def test_motion_that_was_not_found_is_told_in_its_own_words(dissolved: float, told: list[str]) -> None:
    assert doubts([MotionReport(0.4, dissolved, 3.0, "Too little in common.")], ["mp4"], [OPAQUE] * 2, BLACK) == told


def lost(trusted: float) -> MotionReport:
    return MotionReport(trusted, 0.9, 0.0, f"{trusted:g} was found.")


FOUND = MotionReport(0.95, 0.0, 3.0, "All was found.")


@pytest.mark.parametrize(
    ("motions", "keyframes", "told"),
    [
        ([lost(0.1), lost(0.2)], 2, ["0.1 was found."]),
        ([FOUND, lost(0.2)], 3, ["Keyframes 2 and 3: 0.2 was found."]),
        ([lost(0.2), None, lost(0.1)], 3, ["Keyframes 1 and 2: 0.2 was found.", "Keyframes 3 and 1: 0.1 was found."]),
    ],
    ids=["a loop of two", "the second pair", "a loop of three"],
)
def test_each_doubtful_pair_of_several_keyframes_is_named(
    motions: list[MotionReport | None], keyframes: int, told: list[str]
) -> None:
    assert doubts(motions, ["mp4"], [OPAQUE] * keyframes, BLACK) == told


@pytest.mark.parametrize(("pairs", "rest"), [(5, None), (6, "1 more pair of"), (9, "4 more pairs of")])
def test_of_many_doubtful_pairs_the_five_worst_are_told_in_order(pairs: int, rest: str | None) -> None:
    told = doubts([lost((pairs - index) / 10) for index in range(pairs)], ["mp4"], [OPAQUE] * (pairs + 1), BLACK)
    named = [line.partition(":")[0] for line in told[:5]]
    assert named == [f"Keyframes {number} and {number + 1}" for number in range(pairs - 4, pairs + 1)]
    assert len(told) == (5 if rest is None else 6)
    assert rest is None or rest in told[5]


def test_formats_without_transparency_are_named_where_there_is_some() -> None:
    glass = [Image.new("RGBA", (4, 4), (255, 255, 255, 128))] * 2
    assert doubts((), ["mp4", "gif", "png"], [OPAQUE], BLACK) == doubts((), ["png", "webm"], glass, BLACK) == []
    [one] = doubts((), ["mp4", "png"], glass, BLACK)
    assert one.startswith(LOST)
    assert one.endswith("png16, prores4444.")
    [several] = doubts((), ["mp4", "gif"], glass, BLACK)
    assert several.startswith("mp4 and gif hold no transparency")


def ink(*colour: int) -> Image.Image:
    """Draw a stroke on transparency."""
    image = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    image.paste((*colour, 255), (4, 4, 8, 12))
    return image


def test_a_background_in_which_the_keyframes_are_lost_is_told_with_a_better_one() -> None:
    [told] = doubts((), ["png"], [ink(12, 8, 10), ink(0, 0, 0)], "#000000")
    assert told == (
        "What is visible of the keyframes hardly differs from the background #000000: left out, it would be #ffffff."
    )
    [one_is_enough] = doubts((), ["png"], [ink(200, 40, 40), ink(10, 0, 0)], "#000000")
    assert "hardly differs" in one_is_enough
    for keyframes, background in (
        ([ink(12, 8, 10)], "#ffffff"),
        ([ink(12, 8, 10)], "#808080"),
        ([ink(120, 60, 30)], "#000000"),
        ([Image.new("RGB", (4, 4), "black")], "#000000"),
        ([Image.new("RGBA", (4, 4), (0, 0, 0, 0))], "#000000"),
    ):
        assert doubts((), ["png"], keyframes, background) == [], (keyframes, background)


def test_a_background_that_was_chosen_by_itself_is_never_warned_of() -> None:
    for level in range(0, 256, 15):
        keyframes = [ink(level, level, level), ink(255 - level, level, 0)]
        background = background_for(keyframes, Settings(method="flow"))
        contrast_of_it = contrast(keyframes, background)
        assert contrast_of_it is not None
        assert contrast_of_it >= LEAST_CONTRAST, level


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
