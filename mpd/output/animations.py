"""Pictures that move, in the formats browsers show like any picture: GIF, APNG, WebP. They play for ever.

Knows nothing of films, keyframes or storage.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from mpd.output.clip import Clip, OnFrame
from mpd.progress import Frames

_GIF_MOST_FPS = 50  # browsers slow a GIF frame shorter than 2/100 s down to 10/100 s


def write_apng(path: Path, clip: Clip, on_frame: OnFrame) -> None:
    """Write an APNG: without loss, with its transparency, said to be sRGB; the time of a frame is exact."""
    source = "rgb24" if clip.matte is None else "rgba"
    options = {"plays": "0", "final_delay": f"1/{clip.fps}", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="apng", options=options) as container:
        stream: Any = container.add_stream("apng", rate=clip.fps, options={"pred": "mixed", "compression_level": "6"})
        stream.width, stream.height = clip.size
        stream.pix_fmt = source
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(clip.pictures(alpha=True)):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source)
            frame.color_primaries, frame.color_trc = ColorPrimaries.BT709, ColorTrc.IEC61966_2_1
            frame.color_range = ColorRange.JPEG
            frame.pts, frame.time_base, frame.duration = index, Fraction(1, clip.fps), 1
            container.mux(stream.encode(frame))
            on_frame(index + 1)
        container.mux(stream.encode(None))


def write_webp(path: Path, clip: Clip, on_frame: OnFrame) -> None:
    """Write an animated WebP: lossy, with its transparency.

    Times are whole milliseconds; equal neighbours become one longer frame.
    """
    options = {"loop": "0", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="webp", options=options) as container:
        stream: Any = container.add_stream(
            "libwebp_anim", rate=1000, options={"quality": "90", "compression_level": "4", "preset": "photo"}
        )
        stream.width, stream.height = clip.size
        stream.pix_fmt = "bgra"
        stream.codec_context.thread_count = 1
        times = [round(index * 1000 / clip.fps) for index in range(len(clip) + 1)]
        for index, picture in enumerate(clip.pictures(alpha=True)):
            frame = _bgra(picture)
            frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
            on_frame(index + 1)
        container.mux(stream.encode(None))
    _end_webp(path, times[-1])


def _end_webp(path: Path, end: int) -> None:
    """Have the last frame of a WebP file last until `end`, in milliseconds: its encoder gives it a mean duration.

    A chunk is its name, its size (4 bytes) and its content; an `ANMF` has the duration at its 12th byte (3 bytes).
    """
    content = bytearray(path.read_bytes())
    frames, at = [], 12
    while at < len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"ANMF":
            frames.append(slice(at + 20, at + 23))
        at += 8 + size + size % 2
    if frames:  # a video that stands still is a picture without any
        before = sum(int.from_bytes(content[place], "little") for place in frames[:-1])
        content[frames[-1]] = (end - before).to_bytes(3, "little")
        path.write_bytes(content)


def write_gif(path: Path, clip: Clip, on_frame: OnFrame) -> None:
    """Write a GIF of 256 colours, over the background: a GIF's pixels are opaque or not there."""
    fps = min(clip.fps, _GIF_MOST_FPS)
    times = [round(index * 100 / fps) for index in range(len(clip) + 1)]  # GIF counts hundredths of a second
    palette = _palette(clip)
    graph = Graph()
    pictures, colours = (_source(graph, *size) for size in (clip.size, (16, 16)))
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
        stream.width, stream.height = clip.size
        stream.pix_fmt = "pal8"
        done = 0
        for picture in [*range(len(clip)), None]:
            pictures.push(None if picture is None else _numbered(clip, picture))
            for mapped in _pull(sink):
                mapped.pts, mapped.time_base = times[done], Fraction(1, 100)
                mapped.duration = times[done + 1] - times[done]
                container.mux(stream.encode(mapped))
                done += 1
                on_frame(done)
        container.mux(stream.encode(None))


def _palette(clip: Clip) -> VideoFrame:
    """Choose the 256 colours (a 16×16 picture) that serve the frames best, by nine of them spread over the video."""
    graph = Graph()
    source, sink = _source(graph, *clip.size), graph.add("buffersink")
    choose = graph.add("palettegen", "reserve_transparent=0")
    source.link_to(choose)
    choose.link_to(sink)
    graph.configure()
    for index in sorted(set(np.linspace(0, len(clip) - 1, 9).round().astype(int).tolist())):
        source.push(_numbered(clip, index))
    source.push(None)
    return next(_pull(sink))


def _source(graph: Graph, width: int, height: int) -> Any:
    return graph.add_buffer(width=width, height=height, format=VideoFormat("bgra"), time_base=Fraction(1, 100))


def _numbered(clip: Clip, index: int) -> VideoFrame:
    """Make a frame such as the palette filters take; numbered, since they drop frames whose times do not grow."""
    frame = _bgra(clip.opaque(index))
    frame.pts, frame.time_base = index, Fraction(1, 100)
    return frame


def _bgra(picture: Frames) -> VideoFrame:
    """Make a BGRA frame of a picture (H, W, 3 or 4) uint8."""
    source = "rgb24" if picture.shape[2] == 3 else "rgba"
    return VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source).reformat(format="bgra")


def _pull(sink: Any) -> Iterator[VideoFrame]:
    """Yield every frame that a filter graph has ready."""
    while True:
        try:
            yield sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
