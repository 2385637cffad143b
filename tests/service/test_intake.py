"""Which files pass the door as keyframes, and with what reason the others are turned away."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import io
import random
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mpd import photographs
from service.api.intake import data_uris, keyframe_check
from service.api.intake.data_uris import is_data_uri
from service.api.intake.keyframe_check import CONTENT_TYPES, MOST_SCANNED, MOST_SCANS, ImageFormat, ImageInfo, inspect
from service.problems import Problem
from service.settings import ServiceSettings

pillow_heif.register_heif_opener()

SETTINGS = ServiceSettings()
SAVED_AS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "heic": "HEIF"}
ORIENTATION = 0x0112
QUICK: dict[str, dict[str, Any]] = {
    "jpeg": {"progressive": True, "subsampling": 0},
    "png": {"compress_level": 1},
    "webp": {"method": 0},
    "avif": {"speed": 10},
    "heic": {"quality": 1, "enc_params": {"preset": "ultrafast"}},
}
"""Ways to write a large picture soon; the JPEG is one of those that take the most memory to read."""


def picture(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Noise over a ramp: it compresses badly, so a truncated file lacks pixels."""
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 190, width, dtype=np.uint8)[None, :, None]
    return Image.fromarray(noise + ramp).convert(mode)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, SAVED_AS[name], **options)
    return buffer.getvalue()


def refused(data: bytes, settings: ServiceSettings = SETTINGS, others: int = 0) -> Problem:
    with pytest.raises(Problem) as caught:
        inspect(data, settings, field="keyframes[1].image", others=others)
    problem = caught.value
    assert problem.field == "keyframes[1].image"
    assert problem.remedy
    return problem


@pytest.mark.parametrize("name", SAVED_AS)
def test_each_format_passes(name: str) -> None:
    data = saved(picture(), name)
    expected = ImageInfo(64, 48, name, CONTENT_TYPES[name], False, hashlib.sha256(data).hexdigest(), len(data))  # type: ignore[arg-type, index]
    assert inspect(data, SETTINGS) == expected


@pytest.mark.parametrize("name", ["png", "webp", "avif", "heic"])
def test_alpha_is_seen(name: str) -> None:
    image = picture(mode="RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert inspect(saved(image, name), SETTINGS).has_alpha


@pytest.mark.parametrize(
    ("mode", "name", "alpha"),
    [
        ("1", "png", False),
        ("L", "png", False),
        ("LA", "png", True),
        ("P", "png", False),
        ("I;16", "png", False),
        ("L", "jpeg", False),
        ("CMYK", "jpeg", False),
    ],
)
def test_any_mode_passes(mode: str, name: str, alpha: bool) -> None:
    image = picture().convert("L").convert(mode) if mode == "I;16" else picture(mode=mode)
    info = inspect(saved(image, name), SETTINGS)
    assert (info.width, info.height, info.has_alpha) == (64, 48, alpha)


def test_a_palette_with_a_transparent_colour_has_alpha() -> None:
    assert inspect(saved(picture(mode="P"), "png", transparency=0), SETTINGS).has_alpha


def test_a_png_whose_palette_is_missing_is_refused() -> None:
    data = saved(picture(mode="P"), "png")
    start = data.index(b"PLTE") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    problem = refused(data[:start] + data[start + 12 + length :])
    assert (problem.status, problem.slug) == (422, "invalid-image")


def test_sixteen_bits_a_channel_pass() -> None:
    rows = b"".join(b"\0" + bytes(20 * 6) for _ in range(16))
    assert inspect(png(20, 16, rows, depth=16), SETTINGS).width == 20


def test_a_progressive_jpeg_passes() -> None:
    assert inspect(saved(picture(), "jpeg", progressive=True), SETTINGS).width == 64


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 48)), (3, (64, 48)), (6, (48, 64)), (8, (48, 64))])
def test_the_size_is_that_of_the_picture_as_seen(name: str, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    info = inspect(saved(picture(), name, exif=exif), SETTINGS)
    assert (info.width, info.height) == size


@pytest.mark.parametrize("name", ["avif", "heic"])
def test_the_size_of_a_turned_picture_is_that_of_its_decoded_one(name: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = saved(picture(), name, exif=exif.tobytes())
    info = inspect(data, SETTINGS)
    assert (info.width, info.height) == photographs.load(data).size == (48, 64)


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    data = saved(picture(), "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert inspect(data, SETTINGS).width == 64


def test_a_jpeg_with_a_second_picture_behind_it_passes() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "MPO", save_all=True, append_images=[picture(32, 32)])
    info = inspect(buffer.getvalue(), SETTINGS)
    assert (info.format, info.width, info.height) == ("jpeg", 64, 48)


def test_a_heic_with_a_thumbnail_is_decoded_itself() -> None:
    image = picture(256, 256)
    image.info["thumbnails"] = [128]
    info = inspect(saved(image, "heic"), SETTINGS)
    assert (info.width, info.height) == (256, 256)


def test_the_bytes_decide_and_not_the_name() -> None:
    uri = "data:image/png;base64," + base64.b64encode(saved(picture(), "webp")).decode()
    assert inspect(data_uris.decode(uri, SETTINGS), SETTINGS).content_type == "image/webp"


# What is refused


def test_an_empty_file() -> None:
    problem = refused(b"")
    assert (problem.status, problem.slug) == (422, "invalid-image")
    assert "empty" in problem.detail


def test_too_many_bytes_are_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(picture(), "png")
    settings = ServiceSettings(max_image_bytes=len(data))
    assert inspect(data, settings).size == len(data)
    monkeypatch.setattr(Image, "open", None)
    problem = refused(data + b"\0", settings)
    assert (problem.status, problem.slug) == (413, "image-too-large")
    assert f"{len(data) + 1:,}" in problem.detail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GIF89a" + bytes(100), "is a GIF"),
        (b"BM" + bytes(100), "is a BMP"),
        (b"II*\0" + bytes(100), "is a TIFF"),
        (b"%PDF-1.7 and so on", "is a PDF"),
        (b"\n<svg xmlns='x'/>", "is an SVG"),
        (b"<!doctype html><html>", "is an HTML page"),
        (b'{"error": "not found"}', "is JSON"),
        (b"hello", "cannot be read"),
        (bytes(1000), "cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read"),
        (b"\xff\xd8\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_image(data: bytes, reason: str) -> None:
    problem = refused(data)
    assert (problem.status, problem.slug) == (422, "invalid-image")
    assert reason in problem.detail
    assert "JPEG, PNG, WebP, AVIF or HEIC" in problem.detail


@pytest.mark.parametrize("name", SAVED_AS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file(name: str, share: float) -> None:
    data = saved(picture(200, 150), name)
    problem = refused(data[: int(len(data) * share)])
    assert (problem.status, problem.slug) == (422, "invalid-image")


@pytest.mark.parametrize("name", ["png", "webp", "avif"])
def test_an_animated_file(name: str) -> None:
    data = saved(picture(), name, save_all=True, append_images=[picture().rotate(180)], duration=100)
    problem = refused(data)
    assert (problem.status, problem.slug) == (422, "invalid-image")
    assert "animated" in problem.detail


@pytest.mark.parametrize(("size", "passes"), [((16, 16), True), ((15, 16), False), ((16, 15), False), ((1, 1), False)])
def test_a_tiny_image(size: tuple[int, int], passes: bool) -> None:
    data = saved(picture(*size), "png")
    if passes:
        assert inspect(data, SETTINGS).width == size[0]
    else:
        assert f"{size[0]} × {size[1]} pixels; each side needs at least 16" in refused(data).detail


@pytest.mark.parametrize("size", [(128, 16), (16, 128)])
def test_an_absurd_aspect(size: tuple[int, int]) -> None:
    width, height = size
    assert inspect(saved(picture(width, height), "png"), SETTINGS).width == width
    longer = (width + (width > height), height + (height > width))
    problem = refused(saved(picture(*longer), "png"))
    assert (problem.status, problem.slug) == (422, "invalid-image")
    assert "longer than 8:1" in problem.detail


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(picture(64, 48), "png")
    assert inspect(data, ServiceSettings(max_image_pixels=64 * 48)).width == 64
    monkeypatch.setattr(Image.Image, "load", None)
    problem = refused(data, ServiceSettings(max_image_pixels=64 * 48 - 1))
    assert (problem.status, problem.slug) == (413, "image-too-large")
    assert "64 × 48 = 3,072 pixels; at most 3,071" in problem.detail


@pytest.mark.parametrize("side", [9_000, 12_000, 30_000])
def test_a_decompression_bomb(side: int) -> None:
    """A few kilobytes that claim a picture of up to 900 megapixels, on both sides of Pillow's own two thresholds."""
    problem = refused(png(side, side, bytes(1000)))
    assert (problem.status, problem.slug) == (413, "image-too-large")


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_bomb_is_refused_whatever_becomes_of_warnings(action: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        assert refused(png(12_000, 12_000, bytes(1000))).slug == "image-too-large"


def test_a_png_with_too_many_pixels_in_it_is_refused() -> None:
    """The header says 20 × 16, the compressed data holds 100 MB of zeros: no more than 20 × 16 pixels are read."""
    assert inspect(png(20, 16, bytes(100_000_000)), SETTINGS).width == 20


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_bomb_beside_the_picture(name: bytes) -> None:
    """Compressed text, or a colour profile, of 100 MB: refused where it passes a megabyte."""
    zeros = zlib.compress(bytes(100_000_000), 9)
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[name]
    whole = png(20, 16, bytes(16 * 61))
    chunk = (
        struct.pack(">I", len(head + zeros)) + name + head + zeros + struct.pack(">I", zlib.crc32(name + head + zeros))
    )
    tracemalloc.start()
    assert refused(whole[:33] + chunk + whole[33:]).slug == "invalid-image"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


def test_a_colour_profile_passes_whole_or_damaged() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in ("jpeg", "png", "webp", "avif", "heic"):
        for icc in (profile, profile[:100], b"no profile"):
            data = saved(picture(), name, icc_profile=icc)
            assert inspect(data, SETTINGS).width == photographs.load(data).width == 64


def rescanned(data: bytes, scans: int) -> bytes:
    """A progressive JPEG with its last scan again and again, until it has so many."""
    last = data.rindex(b"\xff\xda")
    more = scans - data.count(b"\xff\xda")
    return data[:last] + data[last:-2] * (more + 1) + data[-2:]


def test_a_jpeg_of_endless_scans() -> None:
    data = saved(picture(), "jpeg", progressive=True)
    assert inspect(rescanned(data, MOST_SCANS), SETTINGS).width == 64
    problem = refused(rescanned(data, MOST_SCANS + 1))
    assert (problem.status, problem.slug) == (422, "invalid-image")
    assert f"{MOST_SCANS + 1} scans" in problem.detail


def test_a_large_jpeg_may_have_fewer_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they cost counts: scans times pixels. Nothing is decoded for it."""
    data = saved(Image.new("RGB", (8000, 6000)), "jpeg", progressive=True)
    assert 6 <= data.count(b"\xff\xda") <= 12
    most = MOST_SCANNED // 48_000_000
    assert most > 2 * data.count(b"\xff\xda"), "twice what an ordinary one has"
    monkeypatch.setattr(keyframe_check, "_decode", None)
    problem = refused(rescanned(data, most + 1))
    assert problem.slug == "invalid-image"
    assert f"at most {most}" in problem.detail
    assert "progressive with about ten scans" in str(problem.remedy)


@pytest.mark.parametrize("factors", [0x00, 0x01, 0x10])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_of_several_scans_whose_layers_have_no_samples(mode: str, factors: int) -> None:
    data = bytearray(saved(picture().convert(mode), "jpeg", progressive=True))
    header = data.index(b"\xff\xc2")
    for layer in range(data[header + 9]):
        data[header + 11 + 3 * layer] = factors
    problem = refused(bytes(data))
    assert (problem.status, problem.slug) == (422, "invalid-image")


@pytest.mark.parametrize(
    ("name", "options"),
    [("jpeg", {}), ("jpeg", {"progressive": True, "subsampling": 0}), ("heic", QUICK["heic"]), ("png", {})],
)
def test_a_telephones_48_megapixels_pass(name: ImageFormat, options: dict[str, Any]) -> None:
    data = saved(Image.new("RGB", (8064, 6048), "olive"), name, **options)
    assert (inspect(data, SETTINGS).width, inspect(data, SETTINGS).height) == (8064, 6048)


def test_the_pictures_of_a_request_have_a_limit_together() -> None:
    data = saved(picture(), "png")
    settings = ServiceSettings(max_request_pixels=3 * 64 * 48)
    assert inspect(data, settings, others=2 * 64 * 48).width == 64
    problem = refused(data, settings, others=2 * 64 * 48 + 1)
    assert (problem.status, problem.slug) == (413, "image-too-large")
    assert "together" in problem.detail


def test_what_decoding_would_take_too_much_memory_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WebP is held several times over while it is decoded, a PNG once."""
    large = {name: saved(Image.new("RGB", (1000, 1000)), name) for name in ("png", "webp")}
    settings = ServiceSettings(max_bodies_bytes=10_000_000)
    assert inspect(large["png"], settings).width == 1000
    monkeypatch.setattr(keyframe_check, "_decode", None)
    problem = refused(large["webp"], settings)
    assert (problem.status, problem.slug) == (413, "image-too-large")
    assert "18 MB" in problem.detail


@pytest.mark.parametrize("name", ["png", "webp", "avif", "heic", "jpeg"])
def test_what_decoding_holds_is_what_is_counted(name: ImageFormat) -> None:
    """Measured in a process of its own, on a picture large enough to tell; each megabyte counts for little."""
    noise = Image.effect_noise((3000, 2000), 60)
    data = saved(Image.merge("RGB", [noise] * 3), name, **QUICK[name])
    measure = (
        "import sys; from PIL import Image; from service.settings import ServiceSettings\n"
        "from service.api.intake import keyframe_check as intake\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1024\n"
        "settings, data = ServiceSettings(_env_file=None), sys.stdin.buffer.read()\n"
        "with intake._open(data, settings, '') as image: held = intake._held(image, data, '') * 6_000_000\n"
        "before = peak(); intake.inspect(data, settings); print(peak() - before, held)"
    )
    told = subprocess.run([sys.executable, "-c", measure], input=data, capture_output=True, check=True).stdout
    measured, counted = map(float, told.split())
    assert measured < 1.15 * counted + 4_000_000


def test_no_more_pictures_than_two_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keyframe_check._decoders.acquire(blocking=False)
    assert keyframe_check._decoders.acquire(blocking=False)
    assert not keyframe_check._decoders.acquire(blocking=False)
    keyframe_check._decoders.release(2)
    for _ in range(5):
        refused(b"hello")
    assert keyframe_check._decoders.acquire(blocking=False)
    keyframe_check._decoders.release()


def test_decoders_share_what_memory_there_is() -> None:
    memory, entered, go_on, order = keyframe_check._Memory(), threading.Event(), threading.Event(), []

    def first() -> None:
        with memory.of(90, 100):
            entered.set()
            assert go_on.wait(60)
            order.append(90)

    def second() -> None:
        with memory.of(20, 100):
            order.append(20)

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first)
        assert entered.wait(60)
        with memory.of(10, 100):
            two = threads.submit(second)
        go_on.set()
        one.result(60)
        two.result(60)
    assert order == [90, 20]
    with memory.of(200, 100):
        pass


def png(width: int, height: int, rows: bytes, depth: int = 8) -> bytes:
    """A PNG with a header of our choice over these uncompressed rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# Damaged files


def flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 3, 20))):
        data[draw.randrange(len(data))] = draw.randrange(256)


def cut(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    del data[start : start + draw.randrange(1, 200)]


def repeat(data: bytearray, draw: random.Random) -> None:
    start, length = draw.randrange(len(data)), draw.randrange(1, 100)
    data[start:start] = data[start : start + length] * draw.choice((1, 50))


def enlarge(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(min(200, len(data)))
    data[start : start + 2] = b"\xff\xff"


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [flip, cut, repeat, enlarge]
WHOLE = {name: saved(picture(), name) for name in SAVED_AS} | {
    "progressive": saved(picture(), "jpeg", progressive=True, exif=Image.Exif()),
    "palette": saved(picture(mode="P"), "png", transparency=0),
    "rotated": saved(
        picture(), "heic", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("name", WHOLE)
@hypothesis_settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=56826)
def test_a_damaged_file_is_refused_or_a_picture_for_the_worker_too(name: str, seed: int) -> None:
    draw = random.Random(seed)
    data = bytearray(WHOLE[name])
    draw.choice(DAMAGES)(data, draw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Problem):
            info = inspect(bytes(data), SETTINGS)
            assert photographs.load(bytes(data)).size == (info.width, info.height)


# Data URIs


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64,aGVsbG8=",
        "DATA:;BASE64,aGVsbG8=",
        "data:;base64,aGVsbG8%3D",
        "data:text/plain;charset=utf-8;base64,aGVs\n  bG8=",
    ],
)
def test_a_data_uri_gives_its_bytes(uri: str) -> None:
    assert is_data_uri(uri)
    assert data_uris.decode(uri, SETTINGS) == b"hello"


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png,hello",
        "data:image/png;base64",
        "https://example.com/a.png;base64,aGVsbG8=",
        "data:;base64,aGVsbG8",
        "data:;base64,aGVsb-8=",
        "data:;base64,aGVs*G8=",
        "data:;base64,aGVsbG8é",
        "",
    ],
)
def test_a_malformed_data_uri(uri: str) -> None:
    with pytest.raises(Problem) as caught:
        data_uris.decode(uri, SETTINGS, field="keyframes[0].image")
    assert (caught.value.status, caught.value.slug) == (422, "invalid-image")
    assert caught.value.field == "keyframes[0].image"
    assert "data:image/png;base64," in str(caught.value.remedy)


def test_a_data_uri_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServiceSettings(max_image_bytes=1200)
    uri = "data:;base64," + base64.b64encode(bytes(1200)).decode()
    assert len(data_uris.decode(uri, settings)) == 1200
    monkeypatch.setattr(binascii, "a2b_base64", None)
    with pytest.raises(Problem) as caught:
        data_uris.decode("data:;base64," + "A" * 1700, settings)
    assert (caught.value.status, caught.value.slug) == (413, "image-too-large")
