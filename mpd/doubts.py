"""What somebody should know of a finished video before they trust it, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from mpd import keyframes as pictures
from mpd.methods import Settings
from mpd.output.formats import FORMATS
from mpd.progress import MotionReport

MOSTLY_DISSOLVED = 0.5
"""Share of dissolved pixels from which a video shows no motion to speak of."""
MOST_PAIRS = 5
"""Pairs of keyframes that are told each in its own words."""


def doubts(
    motions: Sequence[MotionReport | None], formats: Sequence[str], keyframes: Sequence[Image.Image], background: str
) -> list[str]:
    """Warn of motion that was not found, of a background without contrast, and of transparency that a format lacks.

    motions: as a take tells them. keyframes: as they were loaded. background: what the video is over, as #rrggbb.
    """
    found = _lost_motion(motions, len(keyframes))
    contrast = pictures.contrast(keyframes, background)
    if contrast is not None and contrast < pictures.LEAST_CONTRAST:
        chosen = pictures.background_for(keyframes, Settings(method="flow"))
        better = f"left out, it would be {chosen}" if chosen != background else "no other colour is far from it"
        found.append(f"What is visible of the keyframes hardly differs from the background {background}: {better}.")
    opaque = [name for name in formats if not FORMATS[name].alpha]
    if opaque and pictures.have_mattes(keyframes):
        hold = "hold" if len(opaque) > 1 else "holds"
        holding = ", ".join(name for name, one in FORMATS.items() if one.alpha)
        lost = f"{' and '.join(opaque)} {hold} no transparency, which the keyframes have"
        found.append(f"{lost}; formats that hold it: {holding}.")
    return found


def _lost_motion(motions: Sequence[MotionReport | None], keyframes: int) -> list[str]:
    """Name the pairs of keyframes, counted from 1, between which more is dissolved than moved."""
    lost = [
        (segment, one) for segment, one in enumerate(motions) if one is not None and one.dissolved > MOSTLY_DISSOLVED
    ]
    lost.sort(key=lambda pair: pair[1].trusted)
    if keyframes == 2:  # there is but one pair, which a loop goes through twice
        return [one.says for _, one in lost[:1]]
    told = [
        f"Keyframes {segment + 1} and {(segment + 1) % keyframes + 1}: {one.says}"
        for segment, one in sorted(lost[:MOST_PAIRS], key=lambda pair: pair[0])
    ]
    if more := len(lost) - len(told):
        pairs = "pair" if more == 1 else "pairs"
        told.append(f"Of {more} more {pairs} of keyframes, too, most is dissolved.")
    return told
