"""What somebody should know of a finished video before they trust it, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

from mpd.output.formats import FORMATS
from mpd.progress import MotionReport

MOSTLY_DISSOLVED = 0.5
"""Share of dissolved pixels from which a video shows no motion to speak of."""


def doubts(motion: MotionReport | None, formats: Sequence[str], see_through: bool) -> list[str]:
    """Warn of motion that was not found, and of transparency that a format does not hold.

    see_through: whether the keyframes have transparency that the video has too (`mpd.keyframes.have_mattes`).
    """
    found = [motion.says] if motion is not None and motion.dissolved > MOSTLY_DISSOLVED else []
    opaque = [name for name in formats if not FORMATS[name].alpha]
    if see_through and opaque:
        hold = "hold" if len(opaque) > 1 else "holds"
        holding = ", ".join(name for name, one in FORMATS.items() if one.alpha)
        lost = f"{' and '.join(opaque)} {hold} no transparency, which the keyframes have"
        found.append(f"{lost}; formats that hold it: {holding}.")
    return found
