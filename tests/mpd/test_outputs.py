"""Every format, read by programs that are not ours: frames, rate, duration, depth, transparency, and what colour is.

Films and APNG are read by Debian's ffprobe and ffmpeg (`apt-get install ffmpeg`), WebP by libwebp through Pillow, the
PNGs of a zip by OpenCV.
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from mpd.output import video
from mpd.output.clip import Clip, eight_bits, to_bits
from mpd.output.formats import FORMATS, sample_bits

FPS, FRAMES, WIDTH, HEIGHT = 7, 9, 96, 64
FILMS = ("mp4", "webm", "prores", "prores4444")
BT709 = {"color_space": "bt709", "color_transfer": "bt709", "color_primaries": "bt709", "color_range": "tv"}
# What ffprobe says of the codec, its profile and the pixels: opaque, and with a matte.
PROBED = {
    "mp4": ("h264", "High", "yuv420p", "yuv420p"),
    "webm": ("vp9", "Profile 0", "yuv420p", "yuv420p"),  # VP9's transparency is a second stream within the first
    "gif": ("gif", None, "bgra", "bgra"),
    "apng": ("apng", None, "rgb24", "rgba"),
    "prores": ("prores", "HQ", "yuv422p10le", "yuv422p10le"),
    "prores4444": ("prores", "4444", "yuv444p12le", "yuva444p12le"),  # FFmpeg decodes 4444 to 12 bits
}


def probe(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_frames", "-of", "json", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def decoded(path: Path, pixels: str, *before: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[Any]:
    """Frames (N, H, W, channels) as Debian's ffmpeg decodes them. pixels: `rgba` or `rgba64le`."""
    command = ["ffmpeg", "-v", "error", *before, "-i", str(path), "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint16 if "64" in pixels else np.uint8).reshape(-1, size[1], size[0], 4)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A photograph that glides under a round window with a soft edge, in 16 bits."""
    coffee = data.coffee()[::3, ::3]
    frames = np.stack([coffee[30 : 30 + HEIGHT, 20 + step : 20 + step + WIDTH] for step in range(FRAMES)])
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    window = np.stack([np.clip((26 - np.hypot(x - 40 - 2 * step, y - 32)) / 6, 0, 1) for step in range(FRAMES)])
    matte = np.rint(window * 65535).astype(np.uint16)
    share = window[..., None]
    green = np.array([0, 255, 0])
    over = np.rint((frames * share + green * (1 - share)) * 257).astype(np.uint16)
    return Clip(over, FPS, matte, "#00ff00")


@pytest.fixture(scope="module", params=["opaque", "matte"])
def written(request: pytest.FixtureRequest, clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, Path]:
    """All formats of one clip, in a folder."""
    folder = tmp_path_factory.mktemp(request.param)
    given = clip if request.param == "matte" else Clip(clip.frames, FPS)
    for name, format in FORMATS.items():
        video.encode(given, name, folder / f"a{format.ending}")
    return given, folder


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize("name", PROBED)
def test_ffprobe_finds_what_was_asked_for(written: tuple[Clip, Path], name: str) -> None:
    clip, folder = written
    found = probe(folder / f"a{FORMATS[name].ending}")
    (stream,), frames = found["streams"], found["frames"]
    codec, profile, opaque, with_matte = PROBED[name]
    assert (stream["codec_name"], stream.get("profile")) == (codec, profile)
    assert stream["pix_fmt"] == (with_matte if clip.matte is not None else opaque)
    assert (stream["width"], stream["height"]) == (WIDTH, HEIGHT)
    assert int(stream["nb_read_frames"]) == len(frames) == FRAMES
    # A constant rate: the same for the whole and from frame to frame.
    assert stream["avg_frame_rate"] == stream["r_frame_rate"] == f"{FPS}/1"
    times = [float(frame["pts_time"]) for frame in frames]
    exact = 0.0051 if name == "gif" else 0.0011  # GIF counts hundredths of a second, WebM thousandths
    assert times == pytest.approx([index / FPS for index in range(FRAMES)], abs=exact)
    last = float(frames[-1].get("duration_time", frames[-1].get("pkt_duration_time")))
    assert times[-1] + last == pytest.approx(FRAMES / FPS, abs=2 * exact)
    if name in FILMS:
        assert stream.items() >= BT709.items()
        assert all(frame.items() >= BT709.items() for frame in frames)


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize("name", FILMS)
def test_a_film_says_how_long_it_is(written: tuple[Clip, Path], name: str) -> None:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    path = written[1] / f"a{FORMATS[name].ending}"
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(FRAMES / FPS, abs=0.001)


def webp_frames(path: Path) -> tuple[list[NDArray[Any]], list[int]]:
    with Image.open(path) as image:
        assert image.format == "WEBP"
        assert image.info["loop"] == 0
        frames, durations = [], []
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(index)
            frames.append(np.asarray(image.convert("RGBA")))
            durations.append(image.info["duration"])
    return frames, durations


def test_webp(written: tuple[Clip, Path]) -> None:
    frames, durations = webp_frames(written[1] / "a.webp")
    assert len(frames) == FRAMES
    assert sum(durations) == round(1000 * FRAMES / FPS)
    assert set(durations) <= {142, 143}


@pytest.mark.parametrize("name", ["png", "png16"])
def test_pngs(written: tuple[Clip, Path], name: str) -> None:
    clip, folder = written
    with zipfile.ZipFile(folder / f"a{FORMATS[name].ending}") as archive:
        assert archive.namelist() == [f"frame-{index:04d}.png" for index in range(1, FRAMES + 1)]
        assert archive.testzip() is None
        contents = [archive.read(entry) for entry in archive.namelist()]
    assert all(content[37:41] == b"sRGB" for content in contents)
    bits = sample_bits([name])
    for index, content in enumerate(contents):
        picture: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        order = cv2.COLOR_BGR2RGB if clip.matte is None else cv2.COLOR_BGRA2RGBA
        assert picture.dtype == (np.uint16 if bits == 16 else np.uint8)
        assert (cv2.cvtColor(picture, order) == clip.straight(index, bits)).all()


def seen_over(frames: NDArray[Any], background: str) -> NDArray[Any]:
    """Straight RGBA frames as a program shows them that lays them over a colour, in 8 bits."""
    below = np.array([int(background[at : at + 2], 16) for at in (1, 3, 5)])
    share = frames[..., 3:] / 255
    return frames[..., :3] * share + below * (1 - share)


# How ffmpeg must be asked: its own VP9 decoder knows no transparency.
READ = {"webm": ("-c:v", "libvpx-vp9"), "apng": (), "prores4444": ()}


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize(
    "name", [name for name, format in FORMATS.items() if format.alpha and not name.startswith("png")]
)
def test_transparency_comes_back_with_the_subjects_own_colours(clip: Clip, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a{FORMATS[name].ending}"
    video.encode(clip, name, path)
    frames = np.stack(webp_frames(path)[0]) if name == "webp" else decoded(path, "rgba", *READ[name])
    assert clip.matte is not None
    matte = eight_bits(clip.matte).astype(int)
    lossless = name == "apng"
    assert np.abs(frames[..., 3] - matte).mean() < (0.01 if lossless else 1.5)
    opaque = matte == 255
    assert np.abs(frames[..., :3][opaque] - eight_bits(clip.frames)[opaque].astype(int)).mean() < (
        0.01 if lossless else 5
    )
    # No green of the background is left at the edge: over black, it is dark.
    edge = (matte > 30) & (matte < 225)
    over_black = seen_over(frames, "#000000")[edge]
    subject = (clip.frames / 257 - np.array([0, 255, 0]) * (1 - matte / 255)[..., None])[edge]
    assert np.abs(over_black - subject).mean() < (1 if lossless else 8)


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize("name", ["prores", "prores4444", "png16"])
def test_more_than_8_bits_are_there(tmp_path: Path, name: str) -> None:
    """A ramp of 512 levels within 32 of 8 bits: a file that was widened from 8 bits has 32."""
    ramp = np.linspace(100 * 257, 132 * 257, 512).round().astype(np.uint16)
    frames = np.broadcast_to(ramp[None, None, :, None], (2, 32, 512, 3)).copy()
    path = tmp_path / f"a{FORMATS[name].ending}"
    video.encode(Clip(frames, FPS), name, path)
    if name == "png16":
        with zipfile.ZipFile(path) as archive:
            content = np.frombuffer(archive.read("frame-0001.png"), np.uint8)
        whole: Any = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        green = whole[0, :, 1].astype(int)
        assert (green == ramp).all()
        return
    green = decoded(path, "rgba64le", size=(512, 32))[0, 16, :, 1].astype(int)
    assert len(np.unique(green)) > 90  # 10 bits have 110 levels here, 8 bits 28
    assert np.abs(green - ramp).mean() < 0.5 * 257


def test_the_depths_meet() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert (to_bits(to_bits(levels, 16), 8) == levels).all()
    assert to_bits(levels, 16)[-1] == 65535
    assert to_bits(np.array([128, 129, 385, 386], np.uint16), 8).tolist() == [0, 1, 1, 2]


@pytest.mark.needs("ffmpeg")
def test_a_lone_frame_and_a_still(clip: Clip, tmp_path: Path) -> None:
    for name in ("apng", "webp", "prores4444"):
        for count in (1, 4):
            given = Clip(clip.frames[:1].repeat(count, 0), FPS)
            path = tmp_path / f"{count}{FORMATS[name].ending}"
            video.encode(given, name, path)
            if name == "webp":  # equal neighbours are one frame, and one frame is a picture
                with Image.open(path) as image:
                    assert not image.is_animated  # type: ignore[attr-defined]
            else:
                assert int(probe(path)["streams"][0]["nb_read_frames"]) == count
