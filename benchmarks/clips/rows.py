"""The rows of the table: ways from two frames to the frames between them.

`hold` and `dissolve` are what anything must beat, `ghost` is half `rife` and half dissolve, `minterpolate` is ffmpeg's.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mpd import flow, rife
from mpd.methods import MOTIONS
from mpd.progress import MotionReport, Pictures
from mpd.rife.pair import Maker

Make = Callable[[Pictures, Pictures, Sequence[float]], list[Pictures]]
"""Two ends (H, W, 3) and times in 0…1, rising, in; a frame for each time out."""


def hold(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    """Show the nearer end."""
    return [start if time < 0.5 else end for time in times]


def dissolve(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    return [_rounded((1 - time) * start.astype(np.float32) + time * end) for time in times]


def by_flow(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
    return [_rounded(frame) for frame in flow.between(start, end, times, _unheard, bits=8)]


def by_rife(motion: str) -> Make:
    """Give `rife` with one source of motion; `rife` itself is the refined network alone."""

    def make(start: Pictures, end: Pictures, times: Sequence[float]) -> list[Pictures]:
        return [_rounded(frame) for frame in Maker(_interpolator(), motion)(start, end, times, _unheard)]

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


def elsewhere(folder: Path, window: str, count: int) -> list[Pictures] | None:
    """Read frames that were made elsewhere, `FOLDER/WINDOW/1.png` and on; None where there are none of this window."""
    paths = [folder / window / f"{number}.png" for number in range(1, count + 1)]
    if not all(path.is_file() for path in paths):
        return None
    return [_read(path) for path in paths]


def keep(folder: Path, window: str, frames: Sequence[Pictures]) -> None:
    """Write frames as `elsewhere` reads them."""
    (folder / window).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / window / f"{number}.png", compress_level=1)


def _read(path: Path) -> Pictures:
    return np.asarray(Image.open(path).convert("RGB"))


def _unheard(report: MotionReport) -> None:
    """Do nothing with how far a motion is to be believed."""


def _rounded(frame: Any) -> Pictures:
    rounded: Pictures = np.rint(np.clip(frame, 0, 255)).astype(np.uint8)
    return rounded


@cache
def _interpolator() -> Any:
    return rife.load()


ROWS: dict[str, Make] = {
    "hold": hold,
    "dissolve": dissolve,
    "ghost": ghost,
    "minterpolate": minterpolate,
    "flow": by_flow,
    **{"rife" if motion == "auto" else f"rife-{motion}": by_rife(motion) for motion in MOTIONS},
}
