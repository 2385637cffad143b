"""Windows of real clips: two frames some way apart, and what truly lay between them.

A window is a row of a CSV: `clip,start,apart`, the clip a video or a folder of numbered frames beside it. The windows
that rules are tuned by and those that methods are judged by share no frame: the first 30 % of each shot are for tuning.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from mpd.progress import Pictures

LONGEST_SIDE = 768
"""Larger frames are halved until they are no larger."""
HIDDEN = 5
"""Frames of a window that methods make and measures look at, evenly spread, unless all are asked for."""
TUNED = 0.3
PICTURES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")

Part = Literal["tuning", "judging"]


@dataclass(frozen=True)
class Clip:
    """A video or a folder of frames, with the frames before which it is cut."""

    path: Path
    cuts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.path.stem

    def shots(self) -> list[tuple[int, int]]:
        """Give the first frame of each shot, and the one behind its last."""
        edges = [0, *self.cuts, len(frames_of(self.path))]
        return list(itertools.pairwise(edges))


@dataclass(frozen=True)
class Window:
    """The frames `start` and `start + apart` of a clip."""

    clip: Path
    start: int
    apart: int

    @property
    def name(self) -> str:
        return f"{self.clip.stem}-{self.start:05d}-{self.apart}"

    def hidden(self, count: int = HIDDEN) -> list[int]:
        """Give the steps of the frames in between that are measured: at most `count`, and no more than there are."""
        count = min(count, self.apart - 1)
        return [round(self.apart * number / (count + 1)) for number in range(1, count + 1)]

    def ends(self) -> tuple[Pictures, Pictures]:
        frames = frames_of(self.clip)
        return frames[self.start], frames[self.start + self.apart]

    def truth(self, count: int = HIDDEN) -> list[Pictures]:
        """Give the frames (H, W, 3) of `hidden`."""
        frames = frames_of(self.clip)
        return [frames[self.start + step] for step in self.hidden(count)]


def windows(clip: Clip, apart: int, part: Part, stride: int) -> Iterator[Window]:
    """Cut a clip into windows, `stride` frames from one start to the next, none across a cut."""
    for first, end in clip.shots():
        split = first + round(TUNED * (end - first))
        low, high = (first, split) if part == "tuning" else (split, end)
        for start in range(low, high - apart, stride):
            yield Window(clip.path, start, apart)


def read_windows(path: Path) -> list[Window]:
    """Read a CSV of `clip,start,apart`; paths are relative to it."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        return [Window((path.parent / row["clip"]).resolve(), int(row["start"]), int(row["apart"])) for row in rows]


def read_all(paths: Sequence[Path]) -> list[Window]:
    """Read several CSVs.

    Raises `ValueError` for two clips of one name: windows, and the frames that are kept of them, are told apart by it.
    """
    found = [window for path in paths for window in read_windows(path)]
    clips: dict[str, Path] = {}
    for window in found:
        other = clips.setdefault(window.clip.stem, window.clip)
        if other != window.clip:
            raise ValueError(
                f"{other} and {window.clip}: two clips of one name, whose windows could not be told apart: rename one"
                " of them, in its CSV too"
            )
    return found


def write_windows(path: Path, found: Sequence[Window]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("clip", "start", "apart"))
        writer.writerows((os.path.relpath(one.clip, path.parent), one.start, one.apart) for one in found)


@lru_cache(maxsize=2)
def frames_of(path: Path) -> list[Pictures]:
    """Decode all frames (H, W, 3) of a clip. Raises `ValueError` where there are none, or not all can be ordered."""
    found = list(_pictures(path) if path.is_dir() else _video(path))
    if not found:
        raise ValueError(f"{path}: no frames in it: name a video or a folder of numbered {', '.join(PICTURES)}")
    return found


def _pictures(folder: Path) -> Iterator[Pictures]:
    for _, path in sorted(_numbered(folder).items()):
        yield _brought(np.asarray(Image.open(path).convert("RGB")))


def _numbered(folder: Path) -> dict[int, Path]:
    """Find a folder's frames by the last number in each name.

    Raises `ValueError` for a name without a number, and for two names with the same.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURES:
            continue
        numbers = re.findall("[0-9]+", path.stem)
        if not numbers:
            raise ValueError(f"{path}: no number in its name: number every frame, such as 0001.png, or move it away")
        other = found.setdefault(int(numbers[-1]), path)
        if other != path:
            raise ValueError(
                f"{path} and {other.name}: both are frame {int(numbers[-1])}, by the last number in their names:"
                " rename one of them, or move it away"
            )
    return found


def _video(path: Path) -> Iterator[Pictures]:
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield _brought(frame[..., ::-1])
    finally:
        capture.release()


def _brought(frame: Pictures) -> Pictures:
    while max(frame.shape[:2]) > LONGEST_SIDE:
        frame = cv2.resize(frame, (frame.shape[1] // 2, frame.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(frame)
