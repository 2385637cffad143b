"""How fast a model moves things by motion bucket and rate, measured once, and the bucket that a distance takes.

Stored beside the model's other files, as `motion_bucket.json`. Loads no torch; knows nothing of how clips are made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

FILE = "motion_bucket.json"


@dataclass(frozen=True)
class Calibration:
    """Speeds by rate and bucket."""

    #: Frames a second, rising.
    fps: tuple[int, ...]
    #: Rising.
    buckets: tuple[int, ...]
    #: For each rate one for each bucket: the displacement a frame (`mpd.displacement`), as a share of the longer side.
    speeds: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        shape = len(self.fps), len(self.buckets)
        if np.array(self.speeds).shape != shape or 0 in shape:
            raise ValueError(f"speeds have to be {shape[0]} rows of {shape[1]}")

    def bucket(self, speed: float, fps: int) -> int:
        """Give the bucket at which things move by `speed` a frame; the nearest one that was measured, beyond them.

        Between the rates that were measured speeds go from one to the next in a line.
        """
        by_rate = np.array(self.speeds)
        rates = np.array(self.fps, float)
        own = np.array([np.interp(fps, rates, column) for column in by_rate.T])
        # A model that was asked for more does not always give more.
        rising = np.maximum.accumulate(own)
        return round(float(np.interp(speed, rising, self.buckets)))

    def write(self, folder: Path) -> Path:
        """Store it in a model's folder."""
        path = folder / FILE
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def read(folder: Path) -> Calibration | None:
    """Read a model folder's calibration, if it has one. Raises ValueError for a file that is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text())
        return Calibration(tuple(held["fps"]), tuple(held["buckets"]), tuple(map(tuple, held["speeds"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no calibration; make it anew with mpd calibrate") from error


def speed_between(displacements: Sequence[float | None], frames: int) -> float | None:
    """Give the displacement a frame over neighbouring pairs of keyframes; None where one of them is not known.

    frames: of the whole, both ends included.
    """
    known = [one for one in displacements if one is not None]
    if len(known) < len(displacements) or not known:
        return None
    return sum(known) / max(1, frames - 1)
