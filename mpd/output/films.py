"""Films by FFmpeg's encoders: H.264, VP9, ProRes; every frame and every file says that its colour is BT.709.

Knows nothing of animated pictures, keyframes or storage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from mpd.output.clip import Clip
from mpd.progress import Frames

_EXACT = (
    Interpolation.LANCZOS
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
_SOURCES = {(8, 3): "rgb24", (8, 4): "rgba", (16, 3): "rgb48le", (16, 4): "rgba64le"}


@dataclass(frozen=True)
class Film:
    """An encoder and how it is set."""

    container: str
    codec: str
    pixels: str
    container_options: dict[str, str]
    codec_options: dict[str, str]
    #: Its pixel format with transparency, None where it has none.
    pixels_alpha: str | None = None
    alpha_options: dict[str, str] | None = None
    #: Bits a sample of the frames it is given.
    bits: int = 8
    #: Frames from one that stands by itself to the next.
    every: int = 12


FILMS = {
    "mp4": Film(
        "mp4",
        "libx264",
        "yuv420p",
        {"movflags": "+faststart", "fflags": "+bitexact"},
        {"crf": "16", "preset": "medium", "profile": "high"},
    ),
    "webm": Film(
        "webm",
        "libvpx-vp9",
        "yuv420p",
        {"fflags": "+bitexact"},
        {"crf": "22", "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
        pixels_alpha="yuva420p",
        alpha_options={"auto-alt-ref": "0"},
    ),
    "prores": Film(
        "mov",
        "prores_ks",
        "yuv422p10le",
        {"movflags": "+faststart+write_colr", "fflags": "+bitexact"},
        {"profile": "hq", "vendor": "apl0"},
        bits=16,
        every=1,
    ),
    "prores4444": Film(
        "mov",
        "prores_ks",
        "yuv444p10le",
        {"movflags": "+faststart+write_colr", "fflags": "+bitexact"},
        {"profile": "4444", "vendor": "apl0"},
        pixels_alpha="yuva444p10le",
        alpha_options={"alpha_bits": "16"},
        bits=16,
        every=1,
    ),
}


def write(name: str, path: Path, clip: Clip, on_frame: Callable[[int], None]) -> None:
    """Write the clip as one of `FILMS`. `on_frame` is called with the number of frames done after each."""
    film = FILMS[name]
    alpha = film.pixels_alpha is not None and clip.matte is not None
    pixels = film.pixels_alpha if alpha and film.pixels_alpha else film.pixels
    options = film.codec_options | ((film.alpha_options or {}) if alpha else {})
    with av.open(str(path), "w", format=film.container, options=film.container_options) as container:
        stream: Any = container.add_stream(film.codec, rate=clip.fps, options=options)
        stream.width, stream.height = clip.size
        stream.pix_fmt = pixels
        if alpha and film.container == "webm":
            stream.metadata["alpha_mode"] = "1"
        codec = stream.codec_context
        codec.gop_size = film.every
        codec.thread_count = 2
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for index, picture in enumerate(clip.pictures(alpha, film.bits)):
            frame = _yuv(picture, pixels)
            frame.pts, frame.time_base, frame.duration = index, Fraction(1, clip.fps), 1
            container.mux(stream.encode(frame))
            on_frame(index + 1)
        container.mux(stream.encode(None))


def _yuv(picture: Frames, pixels: str) -> VideoFrame:
    """Convert a picture (H, W, 3 or 4) to BT.709's matrix and studio range, tagged as such."""
    source = _SOURCES[8 * picture.dtype.itemsize, picture.shape[2]]
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source)
    return frame.reformat(
        format=pixels,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_primaries=ColorPrimaries.BT709,
        dst_color_trc=ColorTrc.BT709,
        interpolation=_EXACT,
        threads=1,
    )
