"""Clips that know the keyframes, or even the truth, and are no inbetween: what every method has to be above.

Drawn without a model. Whatever measure one of them does well on must be read beside one that it fails.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpd.progress import Pictures
from mpd.sprites import world

TURNED = 2  # steps before the end keyframe that `truth reversed at the end` plays backwards


def empty(truth: Pictures, scene: world.Scene) -> Pictures:
    """Show the ground alone between the keyframes."""
    frames = np.full_like(truth, round(255 * world.GROUND))
    frames[0], frames[-1] = truth[0], truth[-1]
    return frames


def cross_fade(truth: Pictures, scene: world.Scene) -> Pictures:
    """Dissolve the first keyframe into the last."""
    share = np.linspace(0, 1, len(truth))[:, None, None, None]
    mixed: NDArray[np.float64] = (1 - share) * truth[0] + share * truth[-1]
    return np.rint(mixed).astype(np.uint8)


def straight_line(truth: Pictures, scene: world.Scene) -> Pictures:
    """Move the arrow straight from place to place at one speed, turning the short way, whatever it points at."""
    places = world.trajectory(scene, len(truth))
    share = np.linspace(0, 1, len(truth))[:, None]
    turn = np.angle(np.exp(1j * (places[-1, 2] - places[0, 2])))
    goal = np.array([*places[-1, :2], places[0, 2] + turn])
    return world.drawn(scene, places[0] + share * (goal - places[0]))


def reversed_end(truth: Pictures, scene: world.Scene) -> Pictures:
    """Show the truth, but overshoot and come back into the end keyframe, at the true speed."""
    places = world.trajectory(scene, len(truth)).copy()
    step = places[-1, :2] - places[-2, :2]
    for before in range(1, TURNED + 1):
        places[-1 - before] = [*(places[-1, :2] + before * step), places[-1, 2]]
    return world.drawn(scene, places)


FLOOR: dict[str, Callable[[Pictures, world.Scene], Pictures]] = {
    "empty": empty,
    "cross-fade": cross_fade,
    "straight line": straight_line,
    "truth reversed at the end": reversed_end,
}
