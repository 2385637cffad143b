"""The formats a video is delivered in: names, media types, what each can hold.

Imports nothing but the standard library, so that the API can describe and check a request without torch. How the files
are written stands in mpd/output/video.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OutputFormat:
    """A kind of file that a video is delivered as."""

    name: str
    #: How its file name ends, which no other format's file name has.
    ending: str
    content_type: str
    description: str
    #: Whether both sides of the frames have to be even.
    even: bool = False
    #: Whether it holds more than 8 bits a sample, so that frames are made with 16.
    deep: bool = False
    #: Whether it holds transparency.
    alpha: bool = False


_FORMATS = (
    OutputFormat("mp4", ".mp4", "video/mp4", "H.264, 4:2:0, BT.709, index at the front: plays everywhere", even=True),
    OutputFormat("webm", ".webm", "video/webm", "VP9, 4:2:0, BT.709: smaller, for the web", even=True, alpha=True),
    OutputFormat("gif", ".gif", "image/gif", "256 colours chosen for this video; at most 50 frames a second"),
    OutputFormat("apng", ".apng", "image/apng", "animated PNG, without loss, plays in a loop", alpha=True),
    OutputFormat("webp", ".webp", "image/webp", "animated WebP, small, plays in a loop", alpha=True),
    OutputFormat("png", ".zip", "application/zip", "a zip of frame-0001.png and so on, without loss", alpha=True),
    OutputFormat(
        "png16", "-16bit.zip", "application/zip", "the same with 16 bits a sample, as decoded", deep=True, alpha=True
    ),
    OutputFormat(
        "prores", ".mov", "video/quicktime", "ProRes 422 HQ, 10 bits, BT.709, for editing", even=True, deep=True
    ),
    OutputFormat(
        "prores4444",
        "-4444.mov",
        "video/quicktime",
        "ProRes 4444, 10 bits, BT.709, with transparency where there is any",
        even=True,
        deep=True,
        alpha=True,
    ),
)
FORMATS: dict[str, OutputFormat] = {one.name: one for one in _FORMATS}
OUTPUT_FORMATS: dict[str, str] = {one.name: one.content_type for one in _FORMATS}
"""Output formats and their media types."""


def sample_bits(formats: Sequence[str]) -> int:
    """Choose the bits a sample of frames for these formats: 16 where one of them can show it, else 8."""
    return 16 if any(FORMATS[name].deep for name in formats) else 8


def any_alpha(formats: Sequence[str]) -> bool:
    """Tell whether one of these formats holds transparency."""
    return any(FORMATS[name].alpha for name in formats)
