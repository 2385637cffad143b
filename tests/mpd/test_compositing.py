"""From sampled frames to the delivered video: transparency moves with its subject, keyframes keep their own pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from skimage import data

import mpd
from mpd import keyframes, photographs
from mpd.keyframes import Framing
from mpd.methods import Settings
from mpd.output import mattes
from mpd.output.clip import Clip
from mpd.output.compositing import Compositor
from mpd.output.video import encode
from mpd.progress import Take

GREEN = "#00ff00"
SIZE = 160, 96


def cutout(x: int, size: tuple[int, int] = SIZE, soft: float = 3) -> Image.Image:
    """A photograph's round cutout around (x, middle), its edge soft, on transparent magenta that nobody should see."""
    width, height = size
    at_y, at_x = np.mgrid[0:height, 0:width]
    alpha = np.clip((26 - np.hypot(at_x - x, at_y - height / 2)) / soft, 0, 1)
    colour = np.empty((height, width, 3), np.uint8)
    colour[:] = (255, 0, 255)
    texture = data.coffee()[100:, 150:]
    inside = alpha > 0
    ys, xs = np.nonzero(inside)
    colour[inside] = texture[ys + 20, xs - x + 120]
    return Image.fromarray(np.dstack([colour, np.rint(alpha * 255).astype(np.uint8)]))


def middles(matte: NDArray[np.integer]) -> NDArray[np.float64]:
    """The x of each frame's centre of opacity."""
    weight = matte.sum(1).astype(float)
    return (weight * np.arange(matte.shape[2])).sum(1) / weight.sum(1)


def take_of(images: Sequence[Image.Image], bits: int = 8, matte: bool = True, **settings: object) -> Take:
    values = {"method": "flow", "background": GREEN, "frames": 9, **settings}
    (take,) = (
        report
        for report in mpd.inbetween(None, images, Settings.from_json(values), bits=bits, matte=matte)
        if isinstance(report, Take)
    )
    return take


@pytest.mark.parametrize("bits", [8, 16])
def test_flow_carries_the_matte_with_the_picture(bits: int) -> None:
    take = take_of([cutout(50), cutout(90)], bits)
    assert take.matte is not None
    kind = np.uint8 if bits == 8 else np.uint16
    assert (take.frames.dtype, take.matte.dtype) == (kind, kind)
    assert take.matte.shape == take.frames.shape[:3]
    assert middles(take.matte) == pytest.approx(np.linspace(50, 90, 9), abs=2)
    full = np.iinfo(kind).max
    sizes = (take.matte / full).sum((1, 2))
    assert sizes == pytest.approx(np.full(9, sizes[0]), rel=0.06)
    # The subject's own colours come back out: none of the green that the frames show around it.
    straight = Clip(take.frames, 7, take.matte, GREEN).straight(4).astype(int)
    seen = straight[straight[..., 3] > 40]
    assert (seen[:, 1] - np.maximum(seen[:, 0], seen[:, 2])).max() < 40


def test_16_bits_hold_what_8_bits_round_off() -> None:
    images = [Image.fromarray(data.coffee()[40:136, 40:200]), Image.fromarray(data.coffee()[44:140, 48:208])]
    fine, coarse = take_of(images, 16).frames, take_of(images, 8).frames
    apart = np.abs(fine / 257 - coarse)
    # Near black and white 8 bits clip what bicubic sampling overshoots before the samples are blended.
    assert apart[(coarse > 16) & (coarse < 239)].max() < 1.5
    assert apart.max() < 4
    assert len(np.unique(fine[4])) > 5 * len(np.unique(coarse[4]))
    assert (fine[0] == np.asarray(images[0]).astype(np.uint16) * 257).all()


def test_there_is_no_matte_where_one_keyframe_has_none_or_nobody_asks() -> None:
    assert take_of([cutout(50), cutout(90).convert("RGB")]).matte is None
    take = take_of([cutout(50), cutout(90)], matte=False)
    assert take.matte is None
    assert (take.frames[:, 0, 0] == (0, 255, 0)).all()


def test_a_fade_to_opaque_keeps_its_matte(tmp_path: Path) -> None:
    sources = []
    for name, alpha in (("a.png", 0), ("b.png", 255)):
        image = Image.new("RGBA", SIZE, (200, 60, 60, alpha))
        image.save(tmp_path / name)
        sources.append(photographs.load(tmp_path / name))
    matte = take_of(sources, frames=3).matte
    assert matte is not None
    assert [int(level) for level in matte[:, 40, 40]] == pytest.approx([0, 128, 255], abs=1)
    assert take_of([sources[1], sources[1]], frames=3).matte is None, "nothing of it is transparent"


def test_a_take_is_over_a_background_for_contrast_and_tells_it() -> None:
    dark = [Image.new("RGBA", SIZE, (20, 10, 30, 0)) for _ in range(2)]
    for image, x in zip(dark, (40, 60), strict=True):
        image.paste((20, 10, 30, 255), (x, 30, x + 30, 60))
    take = take_of(dark, background=None)
    assert take.background == "#ffffff"
    assert (take.frames[:, 0, 0] == 255).all()
    assert take_of(dark, background=GREEN).background == GREEN
    light = take_of([image.convert("RGB") for image in dark], background=None)
    assert light.background == "#000000"


def moving(count: int = 9) -> tuple[NDArray[np.uint8], list[Image.Image]]:
    """Opaque frames of a cutout that glides over green, as a model would make them, and the keyframes at their ends."""
    images = [cutout(round(x)) for x in np.linspace(50, 90, count)]
    frames = [keyframes.fit(image, SIZE, "cover", GREEN)[0] for image in images]
    return np.stack(frames), [images[0], images[-1]]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_models_matte_follows_what_its_frames_show(bits: int) -> None:
    frames, images = moving()
    settings = Settings(method="mpd", background=GREEN)
    frame = Framing(*SIZE, None, SIZE)
    given = frames if bits == 8 else frames.astype(np.uint16) * np.uint16(257)
    take = Compositor(images, settings, frame, (9,), matte=True)(Take(0, 0, given, 7))
    assert take.matte is not None
    assert take.matte.dtype == given.dtype
    matte = take.matte / np.iinfo(take.matte.dtype).max
    assert (matte[[0, -1]] * 255 == np.stack([np.asarray(image)[..., 3] for image in images])).all()
    assert middles(take.matte) == pytest.approx(np.linspace(50, 90, 9), abs=2)
    truth = np.stack([np.asarray(cutout(round(x)))[..., 3] for x in np.linspace(50, 90, 9)]) / 255
    assert np.abs(matte - truth).mean() < 0.01
    assert np.abs(matte - truth).mean() < np.abs(np.linspace(truth[0], truth[-1], 9) - truth).mean() / 5


def test_svds_matte_knows_nothing_of_the_keyframe_at_the_end() -> None:
    frames, images = moving()
    elsewhere = cutout(20)
    pictures = keyframes.mattes([images[0], elsewhere], Settings(method="svd"), Framing(*SIZE, None, SIZE))
    matte = mattes.follow(frames, pictures, Settings(method="svd"), (9,))
    assert middles(matte) == pytest.approx(np.linspace(50, 90, 9), abs=2)


def test_a_loops_matte_comes_back_to_its_beginning() -> None:
    there, images = moving()
    frames = np.concatenate([there, there[-2:0:-1]])  # 16 frames; a 17th would be the first again
    pictures = keyframes.mattes(images, Settings(method="mpd"), Framing(*SIZE, None, SIZE))
    heard: list[None] = []
    settings = Settings(method="mpd", loop=True)
    matte = mattes.follow(frames, pictures, settings, (9, 9), lambda: heard.append(None))
    assert len(heard) >= 16
    track = np.linspace(50, 90, 9)
    assert middles(matte) == pytest.approx([*track, *track[-2:0:-1]], abs=2)


SOURCES = [(160, 96), (100, 96), (96, 100)]


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
@pytest.mark.parametrize("source", SOURCES)
def test_exact_keyframes_are_the_callers_own_pixels_at_the_outputs_size(fit: str, source: tuple[int, int]) -> None:
    """What a model makes of a keyframe is replaced: here all its frames are grey."""
    images = [cutout(50, source), cutout(60, source), cutout(70, source)]
    values = {"method": "mpd", "fit": fit, "background": GREEN, "exact_keyframes": True, "width": 160, "height": 96}
    settings = Settings.from_json(values)
    pictures, frame = keyframes.prepare(images, settings, native_size=SIZE, size_multiple=8)
    frames = np.full((9, *pictures[0].shape), 128, np.uint8)
    take = Compositor(images, settings, frame, (5, 5), matte=True)(Take(0, 0, frames, 7))
    assert take.frames.shape == (9, frame.out[1], frame.out[0], 3)
    assert (take.frames[[1, 2, 3, 5, 6, 7]] == 128).all()
    assert take.matte is not None
    for index, image in zip((0, 4, 8), images, strict=True):
        opaque = Image.alpha_composite(Image.new("RGBA", image.size, GREEN), image).convert("RGB")
        own, _ = keyframes.fit(opaque, frame.out, "stretch" if fit == "stretch" else "cover", GREEN)
        assert np.abs(take.frames[index].astype(int) - own).mean() < 1.5
        alpha = np.asarray(image.resize(frame.out).getchannel("A")) if fit != "cover" else None
        if alpha is not None:
            assert np.abs(take.matte[index].astype(int) - alpha).mean() < 4
    if source == SIZE:
        opaque_everywhere = np.asarray(images[0])[..., 3] == 255
        assert (take.frames[0][opaque_everywhere] == np.asarray(images[0])[..., :3][opaque_everywhere]).all()
        assert (take.matte[0] == np.asarray(images[0])[..., 3]).all()


@pytest.mark.parametrize(
    ("values", "lengths", "shown"),
    [({}, (5, 5), (0, 4, 8)), ({"loop": True}, (5, 5), (0, 4)), ({"method": "svd"}, (5,), (0,))],
)
def test_which_frames_show_the_keyframes(
    values: dict[str, object], lengths: tuple[int, ...], shown: tuple[int, ...]
) -> None:
    from mpd.lengths import shown_keyframes

    assert shown_keyframes(Settings.from_json({"method": "mpd", **values}), lengths) == shown


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
def test_mattes_are_fitted_as_their_pictures_are(fit: str) -> None:
    """Opaque white on transparent: over black, picture and matte are the same."""
    images = []
    for size in ((100, 60), (60, 100)):
        white = Image.new("RGBA", size, "#ffffff")
        white.putalpha(cutout(30, size).getchannel("A"))
        images.append(white)
    for method in ("flow", "mpd"):
        settings = Settings.from_json({"method": method, "fit": fit, "width": 128, "height": 128})
        pictures, frame = keyframes.prepare(images, settings, native_size=SIZE, size_multiple=8)
        for picture, matte in zip(pictures, keyframes.mattes(images, settings, frame), strict=True):
            assert np.abs(picture[..., 0].astype(int) - matte).max() <= 1


def test_restoring_16_bits_is_restoring_8() -> None:
    frames = np.stack([data.coffee()[40:136, 40:200]] * 2)
    frame = Framing(160, 96, None, (100, 154))
    fine = keyframes.restore(frames.astype(np.uint16) * np.uint16(257), frame)
    assert fine.dtype == np.uint16
    assert np.abs(fine / 257 - keyframes.restore(frames, frame)).max() < 1.6
    assert keyframes.restore(frames[..., 0], frame).shape == (2, 154, 100)


# Display P3: its primaries at D50, as in the ICC profiles that phones embed, with sRGB's curve.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def p3_profile() -> bytes:
    """sRGB's own profile, as LittleCMS writes it, with the colorants of Display P3."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    entries = [profile[132 + 12 * number : 144 + 12 * number] for number in range(count)]
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), P3.T, strict=True):
        at = next(int.from_bytes(entry[4:8], "big") for entry in entries if entry[:4] == name)
        numbers = b"".join(round(value * 65536).to_bytes(4, "big", signed=True) for value in column)
        profile[at + 8 : at + 20] = numbers
    place = bytes(profile).find("sRGB built-in".encode("utf-16-be"))
    assert place > 0
    profile[place : place + 26] = "Display P3 too".encode("utf-16-be")[:26]
    return bytes(profile)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_wide_gamut_keyframes_keep_their_colours_all_the_way_into_the_file(form: str, tmp_path: Path) -> None:
    """Colours of Display P3 that sRGB can show: the video has the sRGB numbers of the same colours."""
    wide = np.array([(200, 100, 60), (90, 160, 110), (70, 90, 180), (180, 180, 180)], np.uint8)
    blocks = np.repeat(np.repeat(wide[None], 64, 0), 32, 1)
    file = io.BytesIO()
    options: dict[str, object] = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0}
    Image.fromarray(blocks).save(file, form, icc_profile=p3_profile(), **options)
    mixed = linear(wide / 255) @ np.linalg.inv(SRGB).dot(P3).T
    expected = 255 * np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * np.maximum(mixed, 0) ** (1 / 2.4) - 0.055)
    assert np.abs(expected - wide).max() > 9  # or the test would show nothing
    take = take_of([photographs.load(file.getvalue())] * 2, frames=3)
    assert np.abs(take.frames[0][32, 16::32] - expected).max() < 2.5
    import av

    encode(Clip(take.frames, 7), "mp4", tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(shown[32, 16::32] - expected).max() < 5


def test_a_loop_closes_without_a_doubled_frame(tmp_path: Path) -> None:
    import av

    take = take_of([cutout(50), cutout(80)], loop=True, frames=5)
    assert len(take.frames) == 8
    encode(Clip(take.frames, 7), "mp4", tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    steps = [np.abs(one - other).mean() for one, other in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert len(frames) == 8
    assert min(steps) > max(steps) / 3  # the step from the last frame to the first is one like any other
