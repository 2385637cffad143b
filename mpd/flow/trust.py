"""How far a motion is to be believed, told to whoever asked for the video."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd.flow.stillness import Stillness
from mpd.progress import MotionReport
from mpd.vector_fields import Field

_SURE = 0.5
"""From how much agreement, in 0…1, a motion is trusted."""
_DOUBTED = 0.1
"""Below which nothing is known of it, so that the pixel is dissolved."""
_HARDLY_ANY = 0.002
"""Share of pixels that do not stand still up to which nothing is said to move."""
_FURTHEST = 99.9
"""Percentile of the trusted motions that counts as the largest: single pixels may err."""
_SENTENCES = (
    (0.9, "The motion between these two pictures was found."),
    (0.6, "Most of the motion was found; the rest is a guess from its surroundings, or dissolves."),
    (0.15, "Little of the motion was found: much of what moves dissolves from one picture to the other."),
)
"""From which trusted share of what does not stand still which sentence holds."""
_UNRELATED = "These two pictures have nothing to do with each other: the video dissolves from one to the other."
_SHARED = "Before what these two pictures share, nothing of one is found in the other: it dissolves."
_GROUND = 0.1
"""Share of pixels that stand still from which two pictures share something."""


def report(
    motions: Sequence[Field], agreement: Sequence[NDArray[np.float32]], still: Stillness, size: tuple[int, int]
) -> MotionReport:
    """Report on motions at working size (h, w, 2), by how much (h, w) they are believed; both for each picture.

    The shares are of what does not stand still: a ground that two pictures share says nothing of what is before it.
    size: (height, width) of the frame.
    """
    rows, columns = motions[0].shape[:2]
    stands = cv2.resize(still.still, (columns, rows), interpolation=cv2.INTER_AREA) >= _SURE
    moves = ~stands
    if moves.mean() <= _HARDLY_ANY:
        return MotionReport(trusted=1.0, dissolved=0.0, largest=0.0, says=_SENTENCES[0][1])
    scale = np.array([size[1] / columns, size[0] / rows], np.float32)
    lengths = np.concatenate(
        [
            np.linalg.norm(motion * scale, axis=-1)[(sure >= _SURE) & moves]
            for motion, sure in zip(motions, agreement, strict=True)
        ]
    )
    # What one picture hides of the other is explained by what hides it.
    explained = np.maximum.reduce(list(agreement))[moves]
    share = float((explained >= _SURE).mean())
    otherwise = _SHARED if stands.mean() >= _GROUND else _UNRELATED
    return MotionReport(
        trusted=share,
        dissolved=float((explained < _DOUBTED).mean()),
        largest=float(np.percentile(lengths, _FURTHEST)) if len(lengths) else 0.0,
        says=next((sentence for least, sentence in _SENTENCES if share >= least), otherwise),
    )
