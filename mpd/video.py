"""Frames to a file: MP4, WebM, GIF, a zip of PNGs; a poster and a contact sheet.

A file appears under its name when it is whole, or not at all. The same frames give the same bytes: no dates,
no encoder versions, a fixed number of encoder threads. Knows nothing of keyframes, models or storage.
"""

from __future__ import annotations

import io
import math
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mpd.methods import OUTPUT_FORMATS

Frames = NDArray[np.uint8]
OnFrame = Callable[[int], None]

_EXACT = (
    Interpolation.LANCZOS
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
_GIF_MOST_FPS = 50  # browsers slow a GIF frame shorter than 2/100 s down to 10/100 s
_SHEET_TILES = 40
_TILE_AREA = 240 * 135
_GAP, _CAPTION, _TITLE = 14, 16, 34
_PAPER, _INK, _FAINT_INK, _ACCENT = "#16181d", "#e8eaee", "#8b919d", "#f2a33a"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Format:
    """An output format; `even` where both sides of the frames have to be even."""

    name: str
    suffix: str
    content_type: str
    description: str
    even: bool


FORMATS: dict[str, Format] = {
    name: Format(name, suffix, OUTPUT_FORMATS[name], description, even)
    for name, suffix, description, even in (
        ("mp4", ".mp4", "H.264, 4:2:0, BT.709, index at the front: plays everywhere", True),
        ("webm", ".webm", "VP9, 4:2:0, BT.709: smaller, for the web", True),
        ("gif", ".gif", "256 colours chosen for this video, plays in a loop; at most 50 frames a second", False),
        ("png", ".zip", "a zip of frame-0001.png and so on, without loss", False),
    )
}


def encode(frames: Frames, fps: int, format: str, path: Path, on_frame: OnFrame | None = None) -> None:
    """Write frames (N, H, W, 3) uint8 sRGB to `path`, replacing a file that is there.

    `on_frame` is called with the number of frames done after each; what it raises ends the encoding and leaves
    no file. Raises `ValueError` for frames or a format that cannot be written, `OSError` where the disk refuses.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise ValueError(f"frames are (N, H, W, 3) uint8, not {frames.shape} {frames.dtype}")
    if FORMATS[format].even and (frames.shape[1] % 2 or frames.shape[2] % 2):
        raise ValueError(f"{format} needs even sides, not {frames.shape[2]}x{frames.shape[1]}")
    with whole_file(path) as unfinished:
        _WRITERS[format](unfinished, frames, fps, on_frame or (lambda done: None))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new name beside `path` to write to; it becomes `path` at the end of the block, or vanishes if that raises."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def poster(frames: Frames) -> bytes:
    """The middle frame, the one that neither keyframe shows, as JPEG."""
    return jpeg(frames[len(frames) // 2], quality=90)


def jpeg(picture: Frames, quality: int = 95) -> bytes:
    """One picture (H, W, 3) as JPEG, with full colour resolution from quality 90 on."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, optimize=True)
    return file.getvalue()


def contact_sheet(frames: Frames, *, columns: int | None = None, label: str = "", format: str = "JPEG") -> bytes:
    """All frames (of a long video, 40 spread evenly over it) as numbered tiles on one picture, the two ends outlined.

    `label` is a line above them; `columns` is chosen for a landscape sheet when None; `format` is JPEG or PNG.
    """
    shown = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _SHEET_TILES)).round().astype(int))
    height, width = frames.shape[1:3]
    scale = (_TILE_AREA / (height * width)) ** 0.5
    tile = max(24, round(width * scale)), max(24, round(height * scale))
    columns = columns or min(len(shown), math.ceil((len(shown) * 1.6 * tile[1] / tile[0]) ** 0.5))
    rows = -(-len(shown) // columns)
    step = tile[0] + _GAP, tile[1] + _GAP + _CAPTION
    top = _GAP + (_TITLE if label else 0)
    sheet = Image.new("RGB", (_GAP + columns * step[0], top + rows * step[1]), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if label:
        draw.text((_GAP, _GAP), label.replace("×", "x"), _INK, ImageFont.load_default(18))  # its font has no ×
    for place, index in enumerate(shown.tolist()):
        corner = _GAP + place % columns * step[0], top + place // columns * step[1]
        _draw_tile(sheet, draw, frames[index], tile, corner, index, index in (0, len(frames) - 1))
    file = io.BytesIO()
    sheet.save(file, format, **({"quality": 88, "optimize": True} if format == "JPEG" else {"compress_level": 6}))
    return file.getvalue()


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    frame: Frames,
    tile: tuple[int, int],
    corner: tuple[int, int],
    index: int,
    outlined: bool,
) -> None:
    (x, y), (width, height) = corner, tile
    sheet.paste(Image.fromarray(frame).resize(tile, Image.Resampling.LANCZOS), corner)
    if outlined:
        draw.rectangle((x - 3, y - 3, x + width + 2, y + height + 2), outline=_ACCENT, width=3)
    ink = _ACCENT if outlined else _FAINT_INK
    draw.text((x, y + height + 4), str(index + 1), ink, ImageFont.load_default(13))


def _write_video(
    container_format: str,
    codec: str,
    container_options: dict[str, str],
    codec_options: dict[str, str],
    path: Path,
    frames: Frames,
    fps: int,
    on_frame: OnFrame,
) -> None:
    with av.open(str(path), "w", format=container_format, options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=fps, options=codec_options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        stream.codec_context.thread_count = 2
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        for index, picture in enumerate(frames):
            frame = _yuv(picture)
            frame.pts, frame.time_base, frame.duration = index, Fraction(1, fps), 1
            container.mux(stream.encode(frame))
            on_frame(index + 1)
        container.mux(stream.encode(None))


def _yuv(picture: Frames) -> VideoFrame:
    """4:2:0 in BT.709's matrix and studio range, tagged as such."""
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_primaries=ColorPrimaries.BT709,
        dst_color_trc=ColorTrc.BT709,
        interpolation=_EXACT,
        threads=1,
    )


def _write_gif(path: Path, frames: Frames, fps: int, on_frame: OnFrame) -> None:
    fps = min(fps, _GIF_MOST_FPS)
    times = [round(index * 100 / fps) for index in range(len(frames) + 1)]  # GIF counts hundredths of a second
    palette = _palette(frames)
    graph = Graph()
    pictures, colours = (_source(graph, *size) for size in ((frames.shape[2], frames.shape[1]), (16, 16)))
    # An ordered dither keeps its pattern in place from frame to frame, where error diffusion crawls.
    use = graph.add("paletteuse", "dither=bayer:bayer_scale=4:diff_mode=rectangle")
    sink = graph.add("buffersink")
    pictures.link_to(use, 0, 0)
    colours.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    colours.push(palette)
    colours.push(None)
    options = {"loop": "0", "final_delay": str(times[-1] - times[-2]), "fflags": "+bitexact"}
    with av.open(str(path), "w", format="gif", options=options) as container:
        stream: Any = container.add_stream("gif", rate=100)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "pal8"
        done = 0
        for picture in [*frames, None]:
            pictures.push(None if picture is None else _argb(picture, done))
            for mapped in _pull(sink):
                mapped.pts, mapped.time_base = times[done], Fraction(1, 100)
                mapped.duration = times[done + 1] - times[done]
                container.mux(stream.encode(mapped))
                done += 1
                on_frame(done)
        container.mux(stream.encode(None))


def _palette(frames: Frames) -> VideoFrame:
    """The 256 colours (as a 16×16 picture) that serve the frames best, judged by nine of them spread over the video."""
    graph = Graph()
    source, sink = _source(graph, frames.shape[2], frames.shape[1]), graph.add("buffersink")
    choose = graph.add("palettegen", "reserve_transparent=0")
    source.link_to(choose)
    choose.link_to(sink)
    graph.configure()
    for index in sorted(set(np.linspace(0, len(frames) - 1, 9).round().astype(int).tolist())):
        source.push(_argb(frames[index], index))
    source.push(None)
    return next(_pull(sink))


def _source(graph: Graph, width: int, height: int) -> Any:
    return graph.add_buffer(width=width, height=height, format=VideoFormat("bgra"), time_base=Fraction(1, 100))


def _argb(picture: Frames, index: int) -> VideoFrame:
    """A frame as the palette filters take it; numbered, since they drop frames whose times do not grow."""
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="bgra")
    frame.pts, frame.time_base = index, Fraction(1, 100)
    return frame


def _pull(sink: Any) -> Iterator[VideoFrame]:
    """Every frame that a filter graph has ready."""
    while True:
        try:
            yield sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _write_zip(path: Path, frames: Frames, fps: int, on_frame: OnFrame) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for index, picture in enumerate(frames):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG", compress_level=4)
            archive.writestr(zipfile.ZipInfo(f"frame-{index + 1:04d}.png", _ZIP_DATE), file.getvalue())
            on_frame(index + 1)


_WRITERS: dict[str, Callable[[Path, Frames, int, OnFrame], None]] = {
    "mp4": partial(
        _write_video,
        "mp4",
        "libx264",
        {"movflags": "+faststart", "fflags": "+bitexact"},
        {"crf": "16", "preset": "medium", "profile": "high"},
    ),
    "webm": partial(
        _write_video,
        "webm",
        "libvpx-vp9",
        {"fflags": "+bitexact"},
        {"crf": "22", "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
    ),
    "gif": _write_gif,
    "png": _write_zip,
}
