"""Keyframes: every kind of file to upright sRGB, to a size, and back."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage import data

from mpd import keyframes, photographs
from mpd.methods import Fit, Settings, SettingsError
from mpd.photographs import KeyframeError

pillow_heif.register_heif_opener()


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.fromarray(data.chelsea()).resize((120, 80))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def fixed(value: float) -> int:
    return round(value * 65536)


def profile(space: bytes, columns: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """A minimal ICC profile: one colorant column per channel (none for grey) and one gamma for all."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", *map(fixed, (0.9642, 1.0, 0.8249)))}
    text = b"not the usual one"
    tags[b"desc"] = b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79)
    tags[b"cprt"] = b"text" + bytes(4) + b"none" + bytes(4)
    for name, column in zip((b"r", b"g", b"b"), columns, strict=False):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + struct.pack(">3i", *map(fixed, column))
        tags[name + b"TRC"] = curve
    if not columns:
        tags[b"kTRC"] = curve
    table, body, offset = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    header = (header + bytes(28) + struct.pack(">3i", *map(fixed, (0.9642, 1.0, 0.8249)))).ljust(128, b"\0")
    return header + table + body


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *more: tuple[bytes, bytes]) -> bytes:
    """A PNG from its scan lines and further chunks: Pillow writes no colours of 16 bits."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)


class TestLoad:
    @pytest.mark.parametrize(
        ("format", "options", "most"),
        [
            ("PNG", {}, 0.0),
            ("WEBP", {"lossless": True}, 0.0),
            ("JPEG", {"quality": 95}, 3.0),
            ("AVIF", {"quality": 95}, 3.0),
            ("HEIF", {"quality": 95}, 3.0),
        ],
    )
    def test_reads(self, cat: Image.Image, format: str, options: dict[str, object], most: float) -> None:
        loaded = photographs.load(encoded(cat, format, **options))
        assert loaded.mode == "RGB"
        assert difference(loaded, cat) <= most

    def test_reads_a_path(self, cat: Image.Image, tmp_path: Path) -> None:
        cat.save(tmp_path / "a.png")
        assert difference(photographs.load(tmp_path / "a.png"), cat) == 0
        assert difference(photographs.load(str(tmp_path / "a.png")), cat) == 0

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_rotation(self, cat: Image.Image, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        loaded = photographs.load(encoded(cat, "PNG", exif=exif))
        turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
        turns |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
        upright = cat.transpose(Image.Transpose[turns[orientation]]) if orientation in turns else cat
        assert difference(loaded, upright) == 0

    @pytest.mark.parametrize("format", ["JPEG", "AVIF", "HEIF"])
    def test_a_rotated_photograph_is_rotated_once(self, cat: Image.Image, format: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        loaded = photographs.load(encoded(cat, format, exif=exif.tobytes(), quality=95))
        assert difference(loaded, cat.transpose(Image.Transpose.ROTATE_270)) < 3

    def test_a_colour_profile_becomes_srgb(self) -> None:
        swapped = profile(b"RGB ", (BLUE, GREEN, RED), 2.2)  # in this space "red" looks blue
        loaded = photographs.load(encoded(Image.new("RGB", (8, 8), (255, 0, 0)), "PNG", icc_profile=swapped))
        assert np.abs(np.array(loaded.getpixel((4, 4))) - (0, 0, 255)).max() <= 3
        assert "icc_profile" not in loaded.info

    def test_a_profile_leaves_transparency_alone(self) -> None:
        swapped = profile(b"RGB ", (BLUE, GREEN, RED), 2.2)
        loaded = photographs.load(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 77)), "PNG", icc_profile=swapped))
        assert loaded.mode == "RGBA"
        assert loaded.getchannel("A").getextrema() == (77, 77)
        assert np.array(loaded)[..., 2].min() > 250

    def test_a_grey_profile_becomes_srgb(self) -> None:
        linear = profile(b"GRAY", (), 1.0)
        loaded = photographs.load(encoded(Image.new("L", (8, 8), 128), "PNG", icc_profile=linear))
        assert np.abs(np.array(loaded.getpixel((4, 4))) - 188).max() <= 2

    @pytest.mark.parametrize("broken", [b"no profile at all", profile(b"RGB ", (RED, GREEN, BLUE), 2.2)[:140]])
    def test_a_damaged_profile_is_ignored(self, cat: Image.Image, broken: bytes) -> None:
        assert difference(photographs.load(encoded(cat, "PNG", icc_profile=broken)), cat) == 0

    def test_a_profile_for_other_channels_is_ignored(self, cat: Image.Image) -> None:
        grey = profile(b"GRAY", (), 1.0)
        assert difference(photographs.load(encoded(cat, "PNG", icc_profile=grey)), cat) == 0

    def test_cmyk(self, cat: Image.Image) -> None:
        loaded = photographs.load(encoded(cat.convert("CMYK"), "JPEG", quality=95))
        assert loaded.mode == "RGB"
        assert difference(loaded, cat) < 4

    def test_sixteen_bit_grey_keeps_its_levels(self) -> None:
        levels = np.tile(np.arange(256, dtype=np.uint16) * 257, (4, 1))
        loaded = np.asarray(photographs.load(encoded(Image.fromarray(levels), "PNG")))
        assert (loaded == np.arange(256)[None, :, None]).all()

    def test_palette_with_transparency(self) -> None:
        image = Image.new("P", (4, 2))
        image.putpalette([255, 0, 0, 0, 255, 0])
        image.putdata([0, 1] * 4)
        loaded = photographs.load(encoded(image, "PNG", transparency=0))
        assert loaded.mode == "RGBA"
        assert np.array(loaded)[0, 0, 3] == 0
        assert loaded.getpixel((1, 0)) == (0, 255, 0, 255)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
    def test_other_modes(self, cat: Image.Image, mode: str) -> None:
        source = cat.convert(mode)
        loaded = photographs.load(encoded(source, "PNG"))
        assert loaded.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB")
        assert difference(loaded.convert("RGB"), source.convert("RGB")) == 0

    def test_alpha_is_the_files_whether_it_hides_anything_or_not(self, cat: Image.Image) -> None:
        palette = cat.quantize(16)
        for source in (encoded(cat.convert("RGBA"), "PNG"), encoded(palette, "PNG", transparency=bytes([255] * 16))):
            loaded = photographs.load(source)
            assert loaded.mode == "RGBA"
            assert loaded.getchannel("A").getextrema() == (255, 255)

    @pytest.mark.parametrize("colour", [0, 2])
    def test_a_transparent_colour_of_16_bits(self, colour: int) -> None:
        """Only the colour that is named is transparent, not what differs from it in its last bits."""
        key, near, far = (0x1234, 0xC800, 0x1E00), (0x12FF, 0xC800, 0x1E00), (0xFAFA,) * 3
        channels = 1 if colour == 0 else 3
        row = b"".join(struct.pack(f">{channels}H", *sample[:channels]) for sample in (key, near, far))
        trns = struct.pack(f">{channels}H", *key[:channels])
        loaded = photographs.load(png(3, 2, 16, colour, [row] * 2, (b"tRNS", trns)))
        assert loaded.mode == "RGBA"
        assert np.asarray(loaded)[..., 3].tolist() == [[0, 255, 255]] * 2
        assert np.asarray(loaded)[1, 2].tolist() == [250, 250, 250, 255]

    def test_a_transparent_colour_of_16_bits_turns_with_its_picture(self) -> None:
        row = struct.pack(">6H", 1, 2, 3, 9, 9, 9)
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = photographs.load(
            png(2, 1, 16, 2, [row], (b"tRNS", struct.pack(">3H", 1, 2, 3)), (b"eXIf", exif.tobytes()[6:]))
        )
        assert np.asarray(turned)[..., 3].tolist() == [[0], [255]]

    def test_the_first_picture_of_a_phone_photograph(self, cat: Image.Image) -> None:
        several = encoded(cat, "MPO", save_all=True, append_images=[ImageOps.invert(cat)], quality=95)
        assert difference(photographs.load(several), cat) < 3


class TestRefused:
    @pytest.mark.parametrize("format", ["WEBP", "PNG", "AVIF"])
    def test_animated(self, cat: Image.Image, format: str) -> None:
        animated = encoded(cat, format, save_all=True, append_images=[ImageOps.invert(cat)], duration=100)
        with pytest.raises(KeyframeError, match=r"animated \(2 frames\).*Send one still"):
            photographs.load(animated)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
    def test_cut_short(self, cat: Image.Image, format: str, share: float) -> None:
        whole = encoded(cat, format)
        with pytest.raises(KeyframeError):
            photographs.load(whole[: int(len(whole) * share)])

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "empty"),
            (b"GIF89a" + bytes(50), "this is a GIF"),
            (b"%PDF-1.7", "this is a PDF"),
            (bytes(4) + b"ftypmp42" + bytes(20), "this is a video"),
            (b"hello there, this is text", "no picture in a format that can be read"),
        ],
    )
    def test_no_picture(self, content: bytes, says: str) -> None:
        with pytest.raises(KeyframeError, match=f"{says}.*Send JPEG, PNG, WebP, AVIF or HEIC"):
            photographs.load(content)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(KeyframeError, match=r"a\.png: there is no such file"):
            photographs.load(tmp_path / "a.png")
        with pytest.raises(KeyframeError, match="cannot be read"):
            photographs.load(tmp_path)

    def test_too_large(self, cat: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(photographs, "MAX_PIXELS", 120 * 80 - 1)
        with pytest.raises(KeyframeError, match="million pixels"):
            photographs.load(encoded(cat, "PNG"))

    def test_a_bomb(self) -> None:
        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        bomb = bytearray(encoded(Image.new("RGB", (1, 1)), "PNG"))
        bomb[16:29] = header
        bomb[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
        with pytest.raises(KeyframeError, match="million pixels"):
            photographs.load(bytes(bomb))


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards: where a pixel came from can be read off it."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


sides = st.integers(1, 300)
even_sides = st.integers(16, 150).map(lambda half: 2 * half)


class TestFit:
    def test_the_same_size_is_the_same_picture(self, cat: Image.Image) -> None:
        for fit in ("cover", "contain", "stretch"):
            pixels, frame = keyframes.fit(cat, cat.size, fit, "#000000")
            assert (pixels == np.asarray(cat)).all()
            assert frame == keyframes.Framing(120, 80, None, (120, 80))

    def test_a_crop_without_scaling_keeps_the_pixels(self, cat: Image.Image) -> None:
        pixels, _ = keyframes.fit(cat.crop((0, 0, 119, 80)), (118, 80), "cover", "#000000")
        assert (pixels == np.asarray(cat)[:, 0:118]).all()

    def test_cover_crops_the_middle(self) -> None:
        pixels, frame = keyframes.fit(gradient(400, 100), (100, 100), "cover", "#000000")
        assert pixels[50, 0, 0] == pytest.approx(255 * 150 / 400, abs=2)
        assert pixels[50, -1, 0] == pytest.approx(255 * 250 / 400, abs=2)
        assert (frame.box, frame.out) == (None, (100, 100))

    def test_contain_puts_bars_and_restore_cuts_them_off(self) -> None:
        pixels, frame = keyframes.fit(gradient(400, 100), (128, 96), "contain", "#0000ff")
        assert frame == keyframes.Framing(128, 96, (0, 32, 128, 64), (128, 32))
        assert (pixels[:32] == (0, 0, 255)).all()
        assert (pixels[64:] == (0, 0, 255)).all()
        back = keyframes.restore(pixels[None], frame)
        assert back.shape == (1, 32, 128, 3)
        assert np.abs(back[0].astype(int) - gradient(128, 32)).max() < 12

    def test_stretch_and_back(self) -> None:
        pixels, frame = keyframes.fit(gradient(400, 100), (128, 128), "stretch", "#000000")
        assert pixels[0, -1, 0] > 250
        assert frame.out == (256, 64)
        back = keyframes.restore(pixels[None], frame)
        assert np.abs(back[0].astype(int) - gradient(256, 64)).max() < 8

    def test_a_stretched_hair_comes_back_no_longer_than_a_video_can_be(self) -> None:
        assert keyframes.fit(gradient(1, 5000), (1024, 576), "stretch", "#000000")[1].out == (2, 4096)
        assert keyframes.fit(gradient(5000, 1), (1024, 576), "stretch", "#000000")[1].out == (4096, 2)

    def test_transparency_shows_the_background(self) -> None:
        half = Image.new("RGBA", (40, 40), (255, 0, 0, 128))
        pixels, _ = keyframes.fit(half, (40, 40), "cover", "#0000ff")
        assert np.abs(pixels.astype(int) - (128, 0, 127)).max() <= 1

    @given(source=st.tuples(sides, sides), size=st.tuples(even_sides, even_sides), fit=st.sampled_from(
        ["cover", "contain", "stretch"]))  # fmt: skip
    def test_any_size(self, source: tuple[int, int], size: tuple[int, int], fit: Fit) -> None:
        pixels, frame = keyframes.fit(Image.new("RGB", source, "#808080"), size, fit, "#808080")
        assert pixels.shape == (size[1], size[0], 3)
        assert (pixels == 128).all()
        restored = keyframes.restore(pixels[None], frame)
        assert restored.shape == (1, frame.out[1], frame.out[0], 3)
        assert (restored == 128).all()
        assert frame.out[0] % 2 == frame.out[1] % 2 == 0
        if frame.box is not None:
            assert all(edge % 2 == 0 for edge in frame.box)


def prepared(
    images: list[Image.Image], multiple: int = 8, **settings: object
) -> tuple[list[NDArray[np.uint8]], keyframes.Framing]:
    return keyframes.prepare(images, Settings.from_json(dict(settings)), native_size=(128, 64), size_multiple=multiple)


class TestPrepare:
    def test_all_sizes_become_one(self) -> None:
        pictures, frame = prepared([gradient(400, 100), gradient(50, 300), gradient(64, 64)])
        assert {picture.shape for picture in pictures} == {(64, 128, 3)}
        assert frame.out == (128, 64)

    def test_a_portrait_turns_the_native_size(self) -> None:
        pictures, _ = prepared([gradient(100, 400), gradient(400, 100)])
        assert {picture.shape for picture in pictures} == {(128, 64, 3)}

    def test_a_square_does_not(self) -> None:
        assert prepared([gradient(100, 100)])[0][0].shape == (64, 128, 3)

    def test_contain_keeps_every_keyframe_whole(self) -> None:
        pictures, frame = prepared([gradient(100, 100), gradient(400, 100)], fit="contain", background="#0000ff")
        assert frame.box == (32, 0, 96, 64)
        start, end = keyframes.restore(np.stack(pictures), frame)
        assert start.shape == end.shape == (64, 64, 3)
        assert start[..., 2].max() < 30  # the whole square, no bar left
        middle = end[24:40]  # all of the wide one, between bars
        assert middle[8, 0, 0] < 12
        assert middle[8, -1, 0] > 243
        assert (end[:20] == (0, 0, 255)).all()

    def test_flow_never_sees_the_bars_that_are_cut_off(self) -> None:
        images = [gradient(100, 100), gradient(400, 100)]
        pictures, frame = prepared(images, fit="contain", background="#0000ff", method="flow")
        with_bars, back = prepared(images, fit="contain", background="#0000ff")
        assert frame == keyframes.Framing(64, 64, None, (64, 64))
        assert (np.stack(pictures) == keyframes.restore(np.stack(with_bars), back)).all()

    def test_an_asked_size(self) -> None:
        pictures, frame = prepared([gradient(100, 400)], width=96, height=64)
        assert pictures[0].shape == (64, 96, 3)
        assert frame.out == (96, 64)

    def test_a_size_the_model_cannot_do(self) -> None:
        with pytest.raises(SettingsError, match="100 is no multiple of 64") as caught:
            prepared([gradient(100, 400)], multiple=64, width=64, height=100)
        assert (caught.value.field, caught.value.remedy) == ("height", "Send 64 or 128")

    def test_no_keyframes(self) -> None:
        with pytest.raises(SettingsError, match="there are none"):
            prepared([])


class TestBackground:
    @staticmethod
    def chosen(*inks: tuple[int, int, int], alpha: int = 255) -> str:
        """The background of one keyframe for each ink, half of it visible."""
        images = []
        for ink in inks:
            image = Image.new("RGBA", (40, 20), (*ink, 0))
            image.paste((*ink, alpha), (0, 0, 20, 20))
            images.append(image)
        return keyframes.background_for(images, replace(Settings(), background=None))

    @pytest.mark.parametrize(
        ("inks", "background"),
        [
            ([(0, 0, 0)], "#ffffff"),
            ([(60, 40, 90)], "#ffffff"),
            ([(255, 255, 255)], "#000000"),
            ([(250, 240, 120)], "#000000"),
            ([(0, 0, 0), (255, 255, 255)], "#808080"),
            ([(20, 0, 0), (90, 90, 90)], "#ffffff"),
        ],
    )
    def test_it_differs_from_what_is_visible(self, inks: list[tuple[int, int, int]], background: str) -> None:
        assert self.chosen(*inks) == background
        assert self.chosen(*inks, alpha=90) == background

    def test_what_is_not_visible_has_no_say(self) -> None:
        image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        image.paste((255, 255, 255, 255), (0, 0, 4, 4))
        assert keyframes.background_for([image], replace(Settings(), background=None)) == "#000000"

    def test_opaque_pictures_have_black_and_no_say(self) -> None:
        settings = replace(Settings(), background=None)
        black = Image.new("RGB", (40, 40))
        assert keyframes.background_for([black, black.convert("RGBA")], settings) == "#000000"
        dark = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
        white = Image.new("RGB", (40, 40), "#ffffff")
        assert keyframes.background_for([dark, white], settings) == "#ffffff"

    def test_what_is_asked_for_is_taken(self) -> None:
        dark = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
        assert keyframes.background_for([dark], Settings(background="#000000")) == "#000000"


def test_the_examples_that_ship() -> None:
    folder = Path(__file__).parents[2] / "examples" / "keyframes"
    paths = [folder / "start.jpg", folder / "end.jpg"]
    assert [photographs.load(path).size for path in paths] == [(640, 360)] * 2
    assert sum(path.stat().st_size for path in paths) < 300_000
    assert "CC0" in (folder / "README.md").read_text()
