"""The rows of the table: ways from two frames to the frames between them.

`hold` and `dissolve` are what anything must beat, `ghost` is half `rife` and half dissolve, `minterpolate` is ffmpeg's.
Rows of a base model and of `film` are there where the one who measures names their files.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

import mpd
from benchmarks.clips.cases import Case, Made, Make
from mpd import flow, rife, segments
from mpd.base import Base
from mpd.film import Film
from mpd.methods import METHODS, MOTIONS
from mpd.progress import MotionReport, Pictures
from mpd.rife.pair import Maker

Interpolate = Callable[[Pictures, Pictures, Sequence[float]], list[Pictures]]
"""Two ends (H, W, 3) and times in 0…1, rising, in; a frame for each time out."""


def hold(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    """Show the nearer end."""
    return [start if time < 0.5 else end for time in times]


def dissolve(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    return [_rounded((1 - time) * start.astype(np.float32) + time * end) for time in times]


def by_flow(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    return [_rounded(frame) for frame in flow.between(start, end, times, _unheard, bits=8)]


def by_rife(motion: str) -> Interpolate:
    """Give `rife` with one source of motion; `rife` itself is the refined network alone."""

    def make(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
        return [_rounded(frame) for frame in Maker(interpolator(), motion)(start, end, times, _unheard)]

    return make


def ghost(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    """Lay half a dissolve over the network's frames."""
    sharp, soft = by_rife("rife")(start, end, times), dissolve(start, end, times)
    return [_rounded((one.astype(np.float32) + other) / 2) for one, other in zip(sharp, soft, strict=True)]


def minterpolate(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    """Have ffmpeg's motion interpolation make the frames. It wants frames beyond both ends: they are held."""
    steps = _steps(times)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, picture in enumerate((start, start, end, end)):
            cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])
        chain = f"minterpolate=fps={steps}:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
        command = ["ffmpeg", "-v", "error", "-framerate", "1", "-i", str(folder / "%d.png"), "-vf", chain]
        subprocess.run([*command, "-start_number", "0", str(folder / "out-%04d.png")], check=True)
        made = sorted(folder.glob("out-*.png"))
        # A second of the first end goes before the window.
        wanted = [made[steps + round(time * steps)] for time in times]
        return [_read(path) for path in wanted]


def _steps(times: Sequence[float]) -> int:
    """Give the fewest even steps of a window at which all times lie."""
    for steps in range(2, 241):
        if all(abs(time * steps - round(time * steps)) < 1e-6 for time in times):
            return steps
    raise ValueError(f"{times} lie on no even steps")


def _read(path: Path) -> Pictures:
    return np.asarray(Image.open(path).convert("RGB"))


def _unheard(report: MotionReport) -> None:
    """Do nothing with how far a motion is to be believed."""


def _rounded(frame: Any) -> Pictures:
    rounded: Pictures = np.rint(np.clip(frame, 0, 255)).astype(np.uint8)
    return rounded


@cache
def interpolator() -> Any:
    """Load RIFE once."""
    return rife.load()


INTERPOLATED: dict[str, Interpolate] = {
    "hold": hold,
    "dissolve": dissolve,
    "ghost": ghost,
    "minterpolate": minterpolate,
    "flow": by_flow,
    **{"rife" if motion == "auto" else f"rife-{motion}": by_rife(motion) for motion in MOTIONS},
}


def made(interpolate: Interpolate) -> Make:
    """Give what makes a case by an interpolation, which leaves its ends as they are."""
    return lambda case: Made(interpolate(case.start, case.end, case.times))


ROWS: dict[str, Make] = {name: made(interpolate) for name, interpolate in INTERPOLATED.items()}


def sampled(model: Base, methods: Iterable[str], seed: int = 0) -> dict[str, Make]:
    """Give a row for each method of a base model, with its own defaults: as many frames as the clip has, one take."""

    def row(method: str) -> Make:
        return lambda case: _inbetween(case, model, None, mpd.Settings(method=method, seeds=(seed,)))

    return {method: row(method) for method in methods}


def by_film(path: Path) -> dict[str, Make]:
    """Give the row of a TorchScript interpolator."""
    film = Film(path)
    return {"film": lambda case: _inbetween(case, None, film, mpd.Settings(method="film"))}


def sampled_methods(model: Base) -> list[str]:
    """Give the names of the methods that can sample from a base model and know both ends."""
    return [name for name in segments.methods(model) if METHODS[name].uses_end]


def _inbetween(case: Case, model: Base | None, film: Film | None, settings: mpd.Settings) -> Made:
    asked = replace(settings, frames=case.apart + 1)
    keyframes = [case.start, case.end]
    (take,) = (one for one in mpd.inbetween(model, keyframes, asked, interpolator=film) if isinstance(one, mpd.Take))
    height, width = case.start.shape[:2]
    frames: list[Pictures] = [
        np.asarray(cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA), np.uint8) for one in take.frames
    ]
    between = [frames[round(time * case.apart)] for time in case.times]
    return Made(between, (frames[0], frames[-1]))
