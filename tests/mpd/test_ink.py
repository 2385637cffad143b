"""Drawings in one ink on transparency: the same motion for every ink, and no colour lost where there are more."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import mpd
from benchmarks.clips import drawings
from benchmarks.clips.rows import interpolator
from mpd import ink, keyframes
from mpd.between import Tell
from mpd.flow import flow_frames
from mpd.methods import Settings
from mpd.progress import Frames, Pictures, Take
from mpd.rife.pair import Maker

SIZE = 256, 160
INKS = [("#000000", "#ffffff"), ("#000000", "#000000"), ("#ffffff", "#000000"), ("#3c285a", "#808080")]


def face(x: int) -> Pictures:
    """The matte (H, W) of a face drawn in lines, around x."""
    times = 4
    image = Image.new("L", (SIZE[0] * times, SIZE[1] * times))
    draw = ImageDraw.Draw(image)
    for box in ((x - 34, 46, x + 34, 114), (x - 14, 60, x - 6, 70), (x + 6, 60, x + 14, 70)):
        draw.ellipse(tuple(side * times for side in box), outline=255, width=3 * times)
    draw.arc(tuple(side * times for side in (x - 16, 76, x + 16, 100)), 10, 170, fill=255, width=3 * times)
    return np.array(image.resize(SIZE, Image.Resampling.LANCZOS))


def figure(number: int, time: float) -> Pictures:
    """The matte of a drawing in lines alone."""
    scene = drawings.scene(number)
    grey = drawings.picture(scene, time).mean(-1)
    paper = float(np.mean(scene.paper))
    return np.rint(np.clip((paper - grey) / (paper - 25), 0, 1) * 255).astype(np.uint8)


def over(matte: Pictures, colour: str, background: str) -> Pictures:
    """A keyframe in one ink as a job has it, (H, W, 4)."""
    image = Image.new("RGBA", matte.shape[::-1], colour)
    image.putalpha(Image.fromarray(matte))
    return np.dstack([keyframes.fit(image, image.size, "cover", background)[0], matte])


def error(made: NDArray[np.integer], truth: Pictures) -> float:
    return float(np.abs(made.astype(float) - truth).mean())


def _middle(start: Pictures, end: Pictures, method: str) -> Frames:
    """The matte halfway between two keyframes, as a job has it."""
    if method == "flow":
        return list(flow_frames(start, end, 3))[1][..., 3]
    (frame,) = ink.aware(Maker(interpolator(), "auto"))(start, end, [0.5], lambda report: None)
    return np.rint(frame[..., 3])


@pytest.mark.parametrize("far", [8, 24, 48])
def test_a_shift_is_found_and_the_same_for_every_ink(far: int) -> None:
    mattes = []
    for colour, background in INKS:
        start, end = over(face(100), colour, background), over(face(100 + far), colour, background)
        _, middle, _ = flow_frames(start, end, 3)
        mattes.append(middle[..., 3])
        np.testing.assert_allclose(middle, over(middle[..., 3], colour, background), atol=2)
    assert error(mattes[0], face(100 + far // 2)) < 0.1
    for matte in mattes[1:]:
        np.testing.assert_array_equal(matte, mattes[0])


@pytest.mark.parametrize("method", ["flow", "rife"])
@pytest.mark.parametrize("far", [8, 24, 48])
def test_a_shift_is_found_by_both_methods(method: str, far: int) -> None:
    start, end = over(face(100), "#000000", "#ffffff"), over(face(100 + far), "#000000", "#ffffff")
    made = _middle(start, end, method)
    assert error(made, face(100 + far // 2)) < 0.5


@pytest.mark.parametrize("method", ["flow", "rife"])
@pytest.mark.parametrize("number", [1006, 1007, 1008, 1015, 1016, 1024, 1025])
def test_a_figure_that_bends_is_nearer_to_the_truth_than_a_dissolve(number: int, method: str) -> None:
    start, end = figure(number, 0), figure(number, 1)
    made = _middle(over(start, "#000000", "#ffffff"), over(end, "#000000", "#ffffff"), method)
    truth = figure(number, 0.5)
    assert error(made, truth) < error(np.rint(start / 2 + end / 2).astype(np.uint8), truth)


def test_16_bits_are_finer() -> None:
    start, end = (over(face(x), "#3c285a", "#ffffff") for x in (100, 113))
    fine = list(flow_frames(start, end, 4, 16))[1]
    coarse = list(flow_frames(start, end, 4))[1]
    assert np.abs(fine[..., 3] / 257 - coarse[..., 3]).max() < 3
    assert len(np.unique(fine[..., 0])) > 3 * len(np.unique(coarse[..., 0]))


class TestOneInk:
    def test_it_is_told_with_its_background(self) -> None:
        found = ink.of(over(face(100), "#3c285a", "#00ff00"), over(face(140), "#3c285a", "#00ff00"))
        assert found is not None
        np.testing.assert_allclose(found.ink, (60, 40, 90), atol=1)
        np.testing.assert_allclose(found.background, (0, 255, 0))

    def test_a_touch_of_another_colour_is_another_ink(self) -> None:
        start, end = over(face(100), "#000000", "#ffffff"), over(face(140), "#000000", "#ffffff")
        red = over(face(140), "#c83c3c", "#ffffff")
        assert ink.of(start, red) is None
        end[80:82, 140:142] = (200, 60, 60, 255)
        assert ink.of(start, end) is None

    def test_shades_are_colours_too(self) -> None:
        start = over(face(100), "#000000", "#ffffff")
        shaded = start.copy()
        shaded[..., :3] = np.where(start[..., 3:] == 255, 20, start[..., :3])
        assert ink.of(start, shaded) is None

    @pytest.mark.parametrize("level", [0, 255])
    def test_where_all_or_nothing_is_visible_there_is_no_ink(self, level: int) -> None:
        plain = over(np.full((8, 8), level, np.uint8), "#000000", "#ffffff")
        assert ink.of(plain, plain) is None

    def test_scaled_pictures_have_it_still(self) -> None:
        images = []
        for x in (100, 140):
            image = Image.new("RGBA", SIZE, "#3c285a")
            image.putalpha(Image.fromarray(face(x)))
            images.append(image)
        for background in ("#ffffff", "#808080", "#000000"):
            settings = Settings(method="flow", background=background, width=200, height=130)
            pictures, frame = keyframes.prepare(images, settings, native_size=SIZE, size_multiple=2)
            alphas = keyframes.mattes(images, settings, frame)
            found = ink.of(*(np.dstack(both) for both in zip(pictures, alphas, strict=True)))
            assert found is not None, background


def test_pictures_in_colours_are_moved_as_they_are() -> None:
    seen: list[tuple[int, ...]] = []

    def between(start: Pictures, end: Pictures, times: Sequence[float], tell: Tell) -> Generator[Frames, None, None]:
        seen.append(start.shape)
        yield from (start for _ in times)

    start = over(face(100), "#000000", "#ffffff")
    colours = start.copy()
    colours[..., 0] = np.arange(SIZE[0])
    for picture in (start, colours, start[..., :3]):
        assert next(ink.aware(between)(picture, picture, [0.5], lambda report: None)).shape == picture.shape
    assert seen == [(160, 256, 3), (160, 256, 4), (160, 256, 3)]


def spotted(x: int, background: str) -> Pictures:
    """A face in black with a dark red nose, over a background: (H, W, 4)."""
    image = Image.new("RGBA", SIZE, "#000000")
    image.paste("#5a0a0a", (x - 4, 74, x + 4, 82))
    image.putalpha(Image.fromarray(np.maximum(face(x), np.array(_nose(x)))))
    return np.dstack([keyframes.fit(image, image.size, "cover", background)[0], np.array(image.getchannel("A"))])


def _nose(x: int) -> Image.Image:
    matte = Image.new("L", SIZE)
    matte.paste(255, (x - 4, 74, x + 4, 82))
    return matte


@pytest.mark.parametrize("background", ["#000000", "#ffffff", "#200000"])
def test_several_dark_colours_move_over_whatever_they_are_laid(background: str) -> None:
    start, truth, end = (spotted(x, background) for x in (90, 115, 140))
    _, middle, _ = flow_frames(start, end, 3)
    assert error(middle[..., 3], truth[..., 3]) < 0.5
    assert error(middle[..., :3], truth[..., :3]) < 0.5


def test_where_nothing_is_clear_nothing_is_known_to_be_background() -> None:
    opaque = over(np.full((8, 8), 255, np.uint8), "#101010", "#000000")
    assert not ink.ground_of(opaque, opaque).any()
    half = over(np.full((8, 8), 128, np.uint8), "#101010", "#000000")
    assert not ink.ground_of(half, half).any()


@pytest.mark.parametrize("method", ["flow", "rife"])
def test_black_lines_move_in_a_job(method: str) -> None:
    images = []
    for x in (108, 132):
        image = Image.new("RGBA", SIZE, "#000000")
        image.putalpha(Image.fromarray(face(x)))
        images.append(image)
    *_, take = mpd.inbetween(None, images, Settings(method=method, frames=3), matte=True)
    assert isinstance(take, Take)
    assert take.matte is not None
    assert error(take.matte[1], face(120)) < 0.5
    assert take.frames[1].min() < 10, "ink is black"
    assert take.frames[1].max() == 255, "on white"
