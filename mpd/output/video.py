"""Frames to a file, in any of the formats of mpd/output/formats.py.

A file appears under its name when it is whole, or not at all. The same frames give the same bytes: no dates,
no encoder versions, a fixed number of encoder threads. Knows nothing of keyframes, models or storage.
"""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from mpd.output import animations, films, stills
from mpd.output.clip import Clip, OnFrame
from mpd.output.formats import FORMATS

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def encode(clip: Clip, format: str, path: Path, on_frame: OnFrame | None = None) -> None:
    """Write the clip to `path`, replacing a file that is there: with its transparency where the format has any.

    `on_frame` is called with the number of frames done after each; what it raises ends the encoding and leaves
    no file. Raises `ValueError` for frames or a format that cannot be written, `OSError` where the disk refuses.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    frames, matte = clip.frames, clip.matte
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype not in (np.uint8, np.uint16) or len(frames) == 0:
        raise ValueError(f"frames are (N, H, W, 3) uint8 or uint16, not {frames.shape} {frames.dtype}")
    if matte is not None and (matte.shape != frames.shape[:3] or matte.dtype != frames.dtype):
        raise ValueError(f"a matte is shaped like its frames, not {matte.shape} {matte.dtype}")
    if FORMATS[format].even and (clip.size[0] % 2 or clip.size[1] % 2):
        raise ValueError(f"{format} needs even sides, not {clip.size[0]}x{clip.size[1]}")
    with whole_file(path) as unfinished:
        _WRITERS[format](unfinished, clip, on_frame or (lambda done: None))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; it becomes `path` at the end of the block, or vanishes if that raises."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_zip(bits: int, path: Path, clip: Clip, on_frame: OnFrame) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for index, picture in enumerate(clip.pictures(alpha=True, bits=bits)):
            archive.writestr(zipfile.ZipInfo(f"frame-{index + 1:04d}.png", _ZIP_DATE), stills.png(picture))
            on_frame(index + 1)


_WRITERS: dict[str, Callable[[Path, Clip, OnFrame], None]] = {
    **{name: partial(films.write, name) for name in films.FILMS},
    "gif": animations.write_gif,
    "apng": animations.write_apng,
    "webp": animations.write_webp,
    "png": partial(_write_zip, 8),
    "png16": partial(_write_zip, 16),
}
