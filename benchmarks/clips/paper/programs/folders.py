"""Folders of frames, as the programs beside this file get them. Needs numpy and Pillow alone.

MADE and TRUTH hold a folder for each window with `1.png` and on. TRUTH has the keyframes too, `0.png` and the one
behind the last; where MADE has none, it shows the keyframes themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Film = list[Path]
"""The files of a window's frames, in order."""
Picture = NDArray[np.uint8]


class Windows:
    """The windows that both folders have whole."""

    def __init__(self, made: Path, truth: Path) -> None:
        """Find the windows. Raises `ValueError` where one of MADE has fewer frames than TRUTH's, or there is none."""
        self._made, self._truth = made, truth
        self.names = sorted(folder.name for folder in made.iterdir() if (truth / folder.name).is_dir())
        if not self.names:
            raise ValueError(f"{made}: no window of {truth} in it")
        for name in self.names:
            if not all(path.is_file() for path in self._between(made, name)):
                raise ValueError(f"{made / name}: not all of {self.count(name)} frames, 1.png and on")

    def count(self, name: str) -> int:
        """Count a window's frames between the keyframes."""
        return len([path for path in (self._truth / name).glob("*.png") if path.stem.isdecimal()]) - 2

    def pairs(self) -> Iterator[tuple[str, Path, Path]]:
        """Give each made frame with the true one, and its window."""
        for name in self.names:
            for made, true in zip(self._between(self._made, name), self._between(self._truth, name), strict=True):
                yield name, made, true

    def films(self) -> Iterator[tuple[str, Film, Film]]:
        """Give each window's made film and true film, from keyframe to keyframe."""
        for name in self.names:
            ends = [self._end(name, 0), self._end(name, self.count(name) + 1)]
            made = [ends[0][0], *self._between(self._made, name), ends[1][0]]
            yield name, made, [ends[0][1], *self._between(self._truth, name), ends[1][1]]

    def _end(self, name: str, number: int) -> tuple[Path, Path]:
        true = self._truth / name / f"{number}.png"
        made = self._made / name / f"{number}.png"
        return (made if made.is_file() else true), true

    def _between(self, folder: Path, name: str) -> list[Path]:
        return [folder / name / f"{number}.png" for number in range(1, self.count(name) + 1)]


def picture(path: Path) -> Picture:
    """Read a frame: (H, W, 3)."""
    return np.asarray(Image.open(path).convert("RGB"))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Give the arguments that all programs have."""
    asked = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("made", type=Path, metavar="MADE", help="a row's frames: MADE/WINDOW/1.png and on")
    asked.add_argument("truth", type=Path, metavar="TRUTH", help="the true ones, with the keyframes as 0.png and last")
    asked.add_argument("--device", default="cpu", help="torch's name of it (default: %(default)s)")
    return asked


def answer(measure: Callable[[argparse.Namespace], dict[str, float]], asked: argparse.Namespace) -> int:
    """Print what was measured as one line of JSON. What a library says goes to standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            measured = measure(asked)
    except (ValueError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(measured))
    return 0


def film_file(frames: Sequence[Path], path: Path, fps: int = 7) -> Path:
    """Write frames as an mp4 that loses next to nothing, by the ffmpeg of the machine."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        for number, frame in enumerate(frames):
            (Path(name) / f"{number}.png").symlink_to(frame.resolve())
        command = ["ffmpeg", "-v", "error", "-y", "-framerate", str(fps), "-i", f"{name}/%d.png"]
        even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
        coding = ["-vf", even, "-c:v", "libx264", "-crf", "1", "-pix_fmt", "yuv420p"]
        subprocess.run([*command, *coding, str(path)], check=True)
    return path
