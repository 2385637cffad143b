"""Keyframes that stay files come out as those that were loaded, and take the memory of one."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from skimage import data

from mpd import keyframes, photographs
from mpd.encoded import Encoded
from mpd.keyframes import Framing
from mpd.lengths import flow_size
from mpd.methods import Settings
from mpd.photographs import KeyframeError
from mpd.progress import Pictures

FITS = ("cover", "contain", "stretch")


def photograph(width: int, height: int) -> Image.Image:
    return Image.fromarray(data.coffee()).resize((width, height), Image.Resampling.BICUBIC)


def files(folder: Path, pictures: list[Image.Image], kind: str, **options: object) -> list[Path]:
    paths = [folder / f"{index}" for index in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path, kind, **options)
    return paths


def both(paths: list[Path], settings: Settings) -> list[tuple[list[Pictures], Framing]]:
    """Of the loaded and of the encoded ones: what is sampled, and the way back."""
    loaded = [photographs.load(path) for path in paths]
    encoded = Encoded(paths)
    assert encoded.first_size == loaded[0].size
    options = {"native_size": (128, 64), "size_multiple": 8}
    return [keyframes.prepare(loaded, settings, **options), encoded.prepare(settings, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("kind", "factor"), [("PNG", 1), ("PNG", 9), ("JPEG", 1), ("WEBP", 9)])
def test_they_come_out_as_loaded_ones_do(tmp_path: Path, fit: str, kind: str, factor: int) -> None:
    paths = files(tmp_path, [photograph(200 * factor, 120 * factor), photograph(100, 150)], kind)
    settings = Settings.from_json({"method": "mpd", "fit": fit})
    (loaded, back), (encoded, same) = both(paths, settings)
    assert same == back
    assert all((one == other).all() for one, other in zip(loaded, encoded, strict=True))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(tmp_path: Path, fit: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    paths = files(tmp_path, [photograph(2208, 1304), photograph(1504, 2000)], "JPEG", quality=95, exif=exif)
    settings = Settings.from_json({"method": "mpd", "fit": fit})
    (loaded, back), (encoded, same) = both(paths, settings)
    assert same == back, "it follows the size of the whole picture"
    for one, other in zip(loaded, encoded, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).mean() < 1
    narrowed = Encoded(paths)
    narrowed.prepare(settings, native_size=(128, 64), size_multiple=8)
    for index, path in enumerate(paths):
        whole, part = photographs.load(path).size, narrowed[index].size
        assert part[0] < whole[0] / 3, "a quarter"
        assert part[0] >= 2 * back.width
        assert part[1] >= 2 * back.height


def test_a_jpeg_that_is_small_anyway_is_decoded_whole(tmp_path: Path) -> None:
    [path] = files(tmp_path, [photograph(500, 255)], "JPEG")
    encoded = Encoded([path])
    encoded.prepare(Settings(method="mpd"), native_size=(128, 64), size_multiple=8)
    assert encoded[0].size == (500, 255)


def test_slices_and_length(tmp_path: Path) -> None:
    encoded = Encoded(files(tmp_path, [photograph(64, 48 + index) for index in range(3)], "PNG"))
    assert len(encoded) == 3
    assert [image.height for image in encoded[1:]] == [49, 50]
    assert [image.height for image in encoded] == [48, 49, 50]


@pytest.mark.parametrize("index", [0, 1])
def test_a_damaged_one_is_known_by_its_number(tmp_path: Path, index: int) -> None:
    paths = files(tmp_path, [photograph(64, 48)] * 2, "PNG")
    paths[index].write_bytes(paths[index].read_bytes()[:1000])
    with pytest.raises(KeyframeError) as caught:
        Encoded(paths).prepare(Settings(method="mpd"), native_size=(128, 64), size_multiple=8)
    assert caught.value.index == index


def test_the_size_is_that_of_the_picture_as_it_is_seen() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    for kind, options in (("JPEG", {"exif": exif}), ("PNG", {"exif": exif}), ("WEBP", {})):
        buffer = io.BytesIO()
        photograph(64, 48).save(buffer, kind, **options)
        assert photographs.size_of(buffer.getvalue()) == photographs.load(buffer.getvalue()).size
    tall = Image.new("RGB", (40, 64))
    meta = PngInfo()
    meta.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    wordy: list[dict[str, Any]] = [{"exif": exif}, {"pnginfo": meta}, {}]
    for options in wordy:
        buffer = io.BytesIO()
        tall.save(buffer, "PNG", **options)
        assert photographs.size_of(buffer.getvalue()) == photographs.load(buffer.getvalue()).size
    assert flow_size(photographs.size_of(buffer.getvalue()), None, None) == (40, 64)
    with pytest.raises(KeyframeError, match="GIF"):
        photographs.size_of(b"GIF89a")


def test_six_large_ones_take_the_memory_of_one(tmp_path: Path) -> None:
    """Measured in a process of its own: 24 megapixels are 96 MB, and 24 of them at a time 576."""
    [path] = files(tmp_path, [Image.new("RGB", (6000, 4000), "teal")], "PNG", compress_level=1)
    measure = (
        "import sys; from pathlib import Path; from mpd.encoded import Encoded; from mpd.methods import Settings\n"
        "from mpd.output.compositing import Compositor\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1000\n"
        "settings = Settings.from_json({'method': 'mpd', 'exact_keyframes': True}); before = peak()\n"
        "images = Encoded([Path(sys.argv[1])] * 6)\n"
        "pictures, frame = images.prepare(settings, native_size=(128, 64), size_multiple=8)\n"
        "finish = Compositor(images, settings, frame, (5,) * 5, matte=True)\n"
        "assert not finish.keeps_matte and len(finish._exact) == 6\n"
        "print(peak() - before)"
    )
    told = subprocess.run([sys.executable, "-c", measure, path], capture_output=True, text=True, check=True).stdout
    assert 90 < float(told) < 160
