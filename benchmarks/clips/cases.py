"""A window with its truth, and the frames that a row made for it: made now, kept from before, or made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.clips import drawings
from benchmarks.clips.windows import HIDDEN, Window, read_all
from mpd.progress import Pictures

_DRAWN_APART = 24
TRUTH = "truth"
"""The row that is the truth itself: what no method can be above."""


@dataclass(frozen=True)
class Case:
    """What methods are given of a window, and what they are held against."""

    kind: str
    name: str
    start: Pictures
    end: Pictures
    #: Of the frames in between, 0…1, rising.
    times: tuple[float, ...]
    truth: list[Pictures]
    #: Frames from one end to the other, as the clip has them.
    apart: int


@dataclass(frozen=True)
class Made:
    """What a row made of a case."""

    frames: list[Pictures]
    #: What it shows in the keyframes' places, where that is not the keyframes themselves.
    ends: tuple[Pictures, Pictures] | None = None


Make = Callable[[Case], Made]


def cases(
    paths: Sequence[Path], kind: str, drawn: Sequence[int] = (), hidden: int = HIDDEN
) -> Iterator[Callable[[], Case]]:
    """Give what makes each case: decoded one after the other, as a clip takes its memory. drawn: numbers of drawings.

    Raises `ValueError` for two clips of one name.
    """
    for window in read_all(paths):
        yield lambda window=window: _of_window(window, kind, hidden)  # type: ignore[misc]
    for number in drawn:
        yield lambda number=number: _of_drawing(number)  # type: ignore[misc]


def _of_window(window: Window, kind: str, hidden: int) -> Case:
    times = tuple(step / window.apart for step in window.hidden(hidden))
    return Case(kind, window.name, *window.ends(), times, window.truth(hidden), window.apart)


def _of_drawing(number: int) -> Case:
    scene = drawings.scene(number)
    times = tuple(step / (HIDDEN + 1) for step in range(1, HIDDEN + 1))
    start, *truth, end = (drawings.picture(scene, time) for time in (0.0, *times, 1.0))
    return Case("drawings", f"drawing-{number:03d}", start, end, times, truth, _DRAWN_APART)


class Frames:
    """The frames of all rows: those that are made here, kept in a folder or not, and those of folders from elsewhere.

    A folder of a row holds `WINDOW/1.png` and on; the frames in the keyframes' places, `0.png` and the one behind the
    last, may lie there too.
    """

    def __init__(self, rows: Mapping[str, Make], kept: Path | None, elsewhere: Sequence[Path] = ()) -> None:
        self._rows = {TRUTH: _truth, **rows}
        self._kept = kept
        self._elsewhere = {folder.name: folder for folder in elsewhere}

    @property
    def names(self) -> list[str]:
        return [*self._rows, *self._elsewhere]

    def of(self, case: Case, row: str) -> Made | None:
        """Give a row's frames of a case; None where they should lie elsewhere and do not.

        Raises `KeyError` for a row that is not there, `ValueError` for frames of another size than the truth's.
        """
        if row in self._elsewhere:
            return read(self._elsewhere[row], case)
        if row not in self._rows:
            raise KeyError(f"no row {row!r}: there are {', '.join(self.names)}")
        folder = self._kept / row if self._kept else None
        if folder and (made := read(folder, case)) is not None:
            return made
        made = self._rows[row](case)
        if folder:
            write(folder, case, made)
        return made


def _truth(case: Case) -> Made:
    return Made(case.truth, (case.start, case.end))


def read(folder: Path, case: Case) -> Made | None:
    """Read a row's frames of a case, or None where not all are there."""
    count = len(case.times)
    paths = [folder / case.name / f"{number}.png" for number in range(count + 2)]
    if not all(path.is_file() for path in paths[1:-1]):
        return None
    frames = [_read(path, case) for path in paths[1:-1]]
    if paths[0].is_file() and paths[-1].is_file():
        return Made(frames, (_read(paths[0], case), _read(paths[-1], case)))
    return Made(frames)


def _read(path: Path, case: Case) -> Pictures:
    picture = np.asarray(Image.open(path).convert("RGB"))
    if picture.shape != case.start.shape:
        height, width = case.start.shape[:2]
        raise ValueError(f"{path}: {picture.shape[1]}×{picture.shape[0]}, where the truth is {width}×{height}")
    return picture


def write(folder: Path, case: Case, made: Made) -> None:
    """Write a row's frames of a case as `read` reads them."""
    here = folder / case.name
    here.mkdir(parents=True, exist_ok=True)
    frames = [*enumerate(made.frames, 1)]
    if made.ends is not None:
        frames += [(0, made.ends[0]), (len(made.frames) + 1, made.ends[1])]
    for number, frame in frames:
        Image.fromarray(frame).save(here / f"{number}.png", compress_level=1)
