"""How far what moves has got between two pictures, as one number.

Before a ground that stands still it is the way of the middle of what stands before it, which needs no texture; where
all moves, the mean of the flow that both pictures agree on. Knows nothing of models or torch.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mpd.flow.motion import estimate
from mpd.progress import Pictures
from mpd.vector_fields import working_size

_DIFFERS = 8
"""Levels of difference from which a place does not stand still."""
_GROUND = 0.5
"""Share of pixels that stand still from which they are the ground."""
_SURE = 0.5
"""From how much agreement, in 0…1, a motion counts."""
_LEAST_SURE = 0.3
"""Share of the pixels that have to be sure for their mean to say something."""


def displacement(start: Pictures, end: Pictures) -> float | None:
    """Measure how far what moves is displaced between two pictures (H, W, 3), as a share of their longer side.

    0 where nothing differs; None where no motion is found.
    """
    size = working_size(*start.shape[:2])
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (start, end)]
    change = (cv2.absdiff(*small).max(-1) > _DIFFERS).astype(np.uint8)
    if not change.any():
        return 0.0
    moves = cv2.dilate(change, np.ones((3, 3), np.uint8))
    found = _before_ground(small, moves) if 1 - moves.mean() >= _GROUND else _of_flow(small)
    return None if found is None else found / max(size)


def _before_ground(pictures: list[Pictures], moves: NDArray[np.uint8]) -> float | None:
    """Measure the pixels between the middles of what stands before the ground in either picture."""
    ground = cv2.inpaint(pictures[0], moves, 3, cv2.INPAINT_TELEA)
    before, after = (_middle(cv2.absdiff(picture, ground).max(-1) * moves) for picture in pictures)
    return None if before is None or after is None else float(np.linalg.norm(after - before))


def _middle(mass: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    kept = np.where(mass > _DIFFERS, mass, 0).astype(np.float64)
    total = kept.sum()
    if total == 0:
        return None
    rows, columns = (np.arange(side) + 0.5 for side in kept.shape)
    middle: NDArray[np.float64] = np.array([kept.sum(axis=0) @ columns, kept.sum(axis=1) @ rows]) / total
    return middle


def _of_flow(pictures: list[Pictures]) -> float | None:
    motion = estimate(*pictures)
    lengths = np.stack([np.linalg.norm(field, axis=-1) for field in (motion.forward, motion.backward)])
    sure = np.stack(motion.sure) >= _SURE
    return float(lengths[sure].mean()) if sure.mean() >= _LEAST_SURE else None
