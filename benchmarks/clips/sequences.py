"""Measures of a window's frames as a film: VMAF, how they move along the true motion, and how evenly.

Two of them look at the made film alone, or nearly, and so an empty picture is perfect by them: they say something only
of frames that are near the truth by another measure, and are read beside the row of the truth itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.clips.rows import interpolator
from mpd.progress import Pictures

VMAF_PACKAGE = "imageio-ffmpeg"
"""Its ffmpeg has libvmaf, which Debian's has not; GPL-3, so nothing of the service uses it."""
_AGREEING = 1.5
"""Pixels by which the true flow and its way back may differ where it counts."""


def has_vmaf() -> bool:
    """Tell whether VMAF can be measured here."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def vmaf(made: Sequence[Pictures], truth: Sequence[Pictures]) -> float:
    """Give VMAF (model vmaf_v0.6.1, its mean over the frames, 0…100) of the frames in between."""
    executable = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, frames in (("made", made), ("truth", truth)):
            for number, frame in enumerate(frames):
                Image.fromarray(frame).save(folder / f"{part}-{number}.png", compress_level=1)
        inputs = [word for part in ("made", "truth") for word in ("-framerate", "7", "-i", f"{part}-%d.png")]
        same = "[0:v]format=yuv444p[a];[1:v]format=yuv444p[b];"
        chain = f"{same}[a][b]libvmaf=n_threads=1:log_fmt=json:log_path=vmaf.json"
        command = [executable, "-v", "error", "-threads", "1", *inputs, "-lavfi", chain, "-f", "null", "-"]
        subprocess.run(command, check=True, cwd=folder)
        told = json.loads((folder / "vmaf.json").read_text())
    return float(told["pooled_metrics"]["vmaf"]["mean"])


class TrueMotion:
    """How a true film moves from each frame to the next, by DIS on the truth: where both ways agree."""

    def __init__(self, truth: Sequence[Pictures]) -> None:
        self._steps = [_motion(one, other) for one, other in pairwise(truth)]

    def warping_error(self, film: Sequence[Pictures]) -> float:
        """Give the mean difference, in levels, of each frame from the next one brought back along the true motion.

        Lai et al., "Learning Blind Video Temporal Consistency" (ECCV 2018), with the truth's flow and its occlusions.
        """
        errors = []
        for (places, seen), (one, other) in zip(self._steps, pairwise(film), strict=True):
            back = cv2.remap(other, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            errors.append(float(np.abs(one.astype(np.float32) - back).mean(-1)[seen].mean()) if seen.any() else 0.0)
        return float(np.mean(errors))


def _motion(one: Pictures, other: Pictures) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Give where each pixel of `one` lies in `other`, and where that is to be believed."""
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (one, other)]
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there: Any = finder.calc(greys[0], greys[1], None)
    back: Any = finder.calc(greys[1], greys[0], None)
    rows, columns = np.mgrid[: one.shape[0], : one.shape[1]].astype(np.float32)
    places = np.dstack([columns, rows]) + there
    returned = there + cv2.remap(back, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((places >= 0) & (places <= (one.shape[1] - 1, one.shape[0] - 1))).all(-1)
    return places, inside & (np.linalg.norm(returned, axis=-1) < _AGREEING)


def smoothness(film: Sequence[Pictures]) -> float:
    """Give how near every second frame is to what its neighbours say of it, 0…1.

    VBench's motion smoothness (Huang et al., CVPR 2024): every second frame is left out and rebuilt, and the mean
    difference from the frame, of 255, is taken from 1. Rebuilt by RIFE 4.0 without its refinement, where VBench has
    AMT, so `rife` is measured by a relative of its own, and no number is VBench's.
    """
    errors = []
    for at in range(1, len(film) - 1, 2):
        rebuilt = interpolator().pair(film[at - 1], film[at + 1], refined=False).at(0.5).frame
        errors.append(float(np.abs(rebuilt - film[at]).mean()))
    return 1 - float(np.mean(errors)) / 255
