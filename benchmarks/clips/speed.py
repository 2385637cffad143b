"""How long the interpolating methods take: a pair of keyframes, side by side in one run, on the machine as it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.clips.rows import Interpolate, by_flow, by_rife, interpolator
from mpd import cores, photographs
from mpd.progress import Pictures

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "keyframes"


@dataclass(frozen=True)
class Speed:
    """What one row took, in seconds."""

    row: str
    wall: float
    #: Of all cores together.
    processor: float


def unrefined(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    """Make frames by the network without its refinement, one thread of torch's for each frame at work."""
    pair = interpolator().pair(start, end, refined=False)
    with ThreadPoolExecutor(cores.usable(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return [np.rint(one.frame).astype(np.uint8) for one in pool.map(pair.at, times)]


ROWS: dict[str, Interpolate] = {
    "flow": by_flow,
    "rife": by_rife("auto"),
    "network alone": by_rife("rife"),
    "unrefined": unrefined,
}
"""`unrefined` is no method: what the network costs before its refinement."""


def measure(frames: int, width: int, height: int) -> list[Speed]:
    """Time each row on the same two photographs, after a short video that loads what it needs."""
    pictures = [np.asarray(photographs.load(_EXAMPLES / name).convert("RGB")) for name in ("start.jpg", "end.jpg")]
    start, end = (np.asarray(cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA)) for one in pictures)
    times = [step / (frames - 1) for step in range(1, frames - 1)]
    found = []
    for row, interpolate in ROWS.items():
        interpolate(start, end, [0.5])
        wall, processor = time.perf_counter(), time.process_time()
        interpolate(start, end, times)
        found.append(Speed(row, time.perf_counter() - wall, time.process_time() - processor))
    return found


def table(found: Sequence[Speed]) -> str:
    """Write the rows in Markdown."""
    lines = ["| | seconds | processor seconds |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{one.row}` | {one.wall:.1f} | {one.processor:.1f} |" for one in found)])
