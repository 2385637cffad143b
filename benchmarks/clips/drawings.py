"""Drawings with a known truth: flat figures that move before a ground that stands still, at any time.

Each number gives one scene: a walker, a bird or a cart, painted or in lines alone, with its own colours, sizes and
speed. The figure crosses 5 to 20 % of the width while time goes from 0 to 1; everything else stays where it is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mpd.progress import Pictures

WIDTH, HEIGHT = 640, 360
TUNING = 1000
"""The first of the numbers by which rules are tuned; those before judge."""
_OVERSAMPLED = 3
_INK = (25, 22, 30)

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """What stands in one drawing, in pixels of WIDTH × HEIGHT."""

    kind: str
    #: Lines alone, nothing filled.
    lines: bool
    ground: float
    paper: Colour
    colours: tuple[Colour, ...]
    #: The figure's size, where it starts, and how far it goes.
    size: float
    start: Point
    way: Point
    #: Radians that limbs swing, wings beat, wheels turn.
    swing: float
    phase: float
    #: Width of ink lines.
    ink: float
    #: Left edges and heights of what stands behind.
    trees: tuple[Point, ...]


def numbers(count: int, first: int = 0) -> range:
    """Give the numbers of drawings. Raises `ValueError` for those that are not all for tuning, or all for judging."""
    if first < 0 or count < 0:
        raise ValueError(f"--drawings {count} --drawings-from {first}: neither can be below 0")
    if first and not count:
        raise ValueError(f"--drawings-from {first} without --drawings: say how many")
    if first < TUNING < first + count:
        raise ValueError(
            f"--drawings {count} --drawings-from {first}: those from {TUNING} on are kept for tuning: stay below, or"
            " start there"
        )
    return range(first, first + count)


def scene(number: int) -> Scene:
    """Make the scene of a number: always the same one."""
    dice = random.Random(number)
    kind = ("walker", "bird", "cart")[number % 3]
    ground = dice.uniform(0.72, 0.86) * HEIGHT
    size = dice.uniform(0.22, 0.4) * HEIGHT
    across = dice.choice((-1, 1)) * dice.uniform(0.05, 0.2) * WIDTH
    start = dice.uniform(0.3, 0.7) * WIDTH - across / 2
    down = dice.uniform(-0.1, 0.1) * HEIGHT if kind == "bird" else 0.0
    height = {"walker": ground - 1.05 * size, "bird": dice.uniform(0.3, 0.5) * HEIGHT, "cart": ground - 0.42 * size}
    return Scene(
        kind,
        number // 3 % 3 == 2,
        ground,
        tuple(dice.randint(225, 255) for _ in range(3)),  # type: ignore[arg-type]
        tuple(tuple(dice.randint(40, 235) for _ in range(3)) for _ in range(6)),  # type: ignore[misc]
        size,
        (start, height[kind]),
        (across, down),
        dice.uniform(0.3, 1.2),
        dice.uniform(-0.6, 0.2),
        dice.uniform(2.0, 4.0),
        tuple((dice.uniform(0, WIDTH), dice.uniform(0.15, 0.4) * HEIGHT) for _ in range(dice.randint(1, 4))),
    )


def picture(drawn: Scene, time: float) -> Pictures:
    """Draw a scene at `time` (0…1): (HEIGHT, WIDTH, 3) uint8."""
    image = Image.new("RGB", (WIDTH * _OVERSAMPLED, HEIGHT * _OVERSAMPLED), drawn.paper)
    pen = _Pen(ImageDraw.Draw(image), drawn)
    _landscape(pen, drawn)
    place = (drawn.start[0] + drawn.way[0] * time, drawn.start[1] + drawn.way[1] * time)
    _FIGURES[drawn.kind](pen, drawn, place, drawn.phase + drawn.swing * time)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


class _Pen:
    """Draws in pixels of the finished picture."""

    def __init__(self, draw: ImageDraw.ImageDraw, drawn: Scene) -> None:
        self._draw = draw
        self._lines = drawn.lines
        self._width = max(1, round(drawn.ink * _OVERSAMPLED))

    def line(self, *points: Point) -> None:
        self._draw.line(_scaled(points), fill=_INK, width=self._width)

    def shape(self, colour: Colour, *points: Point) -> None:
        self._draw.polygon(_scaled(points), fill=None if self._lines else colour)
        self.line(*points, points[0])

    def ellipse(self, colour: Colour, centre: Point, across: float, down: float) -> None:
        corners = _scaled(((centre[0] - across, centre[1] - down), (centre[0] + across, centre[1] + down)))
        self._draw.ellipse(corners, fill=None if self._lines else colour, outline=_INK, width=self._width)

    def limb(self, colour: Colour, joint: Point, angle: float, length: float, thick: float) -> Point:
        """Draw a limb that hangs from a joint, and give its end."""
        end = (joint[0] + length * math.sin(angle), joint[1] + length * math.cos(angle))
        if self._lines:
            self.line(joint, end)
            return end
        for width, paint in ((thick + 2 * self._width / _OVERSAMPLED, _INK), (thick, colour)):
            self._draw.line(_scaled((joint, end)), fill=paint, width=round(width * _OVERSAMPLED))
            for point in (joint, end):
                box = _scaled(
                    ((point[0] - width / 2, point[1] - width / 2), (point[0] + width / 2, point[1] + width / 2))
                )
                self._draw.ellipse(box, fill=paint)
        return end


def _scaled(points: tuple[Point, ...]) -> list[Point]:
    return [(x * _OVERSAMPLED, y * _OVERSAMPLED) for x, y in points]


def _landscape(pen: _Pen, drawn: Scene) -> None:
    for number, (left, height) in enumerate(drawn.trees):
        pen.shape(
            drawn.colours[number % 2],
            (left, drawn.ground),
            (left + 25, drawn.ground - height),
            (left + 50, drawn.ground),
        )
    pen.ellipse(drawn.colours[2], (0.85 * WIDTH, 0.18 * HEIGHT), 24, 24)
    pen.line((0, drawn.ground), (WIDTH, drawn.ground))


def _walker(pen: _Pen, drawn: Scene, place: Point, angle: float) -> None:
    (x, y), size = place, drawn.size
    hip, shoulder = (x, y + 0.55 * size), (x, y + 0.1 * size)
    pen.limb(drawn.colours[3], hip, -angle, 0.48 * size, 0.13 * size)
    pen.limb(drawn.colours[3], hip, angle, 0.48 * size, 0.13 * size)
    pen.limb(drawn.colours[4], shoulder, 1.2 * angle, 0.4 * size, 0.1 * size)
    pen.ellipse(drawn.colours[5], (x, y + 0.3 * size), 0.18 * size, 0.3 * size)
    pen.limb(drawn.colours[4], shoulder, -1.2 * angle, 0.4 * size, 0.1 * size)
    pen.ellipse(drawn.colours[4], (x + 0.05 * size * math.sin(angle), y - 0.2 * size), 0.22 * size, 0.22 * size)
    side = math.copysign(1, drawn.way[0])
    pen.ellipse(_INK, (x + side * 0.1 * size, y - 0.22 * size), 0.03 * size, 0.04 * size)


def _bird(pen: _Pen, drawn: Scene, place: Point, angle: float) -> None:
    (x, y), size = place, drawn.size
    side = math.copysign(1, drawn.way[0])
    lift = 0.7 * size * math.sin(2 * angle)
    pen.shape(drawn.colours[3], (x - 0.1 * size, y), (x + 0.15 * size, y), (x - 0.1 * size * side, y - lift))
    pen.ellipse(drawn.colours[5], (x, y), 0.4 * size, 0.18 * size)
    head = (x + side * 0.42 * size, y - 0.1 * size)
    pen.ellipse(drawn.colours[4], head, 0.15 * size, 0.14 * size)
    pen.shape(
        drawn.colours[2],
        (head[0] + side * 0.13 * size, head[1] - 0.04 * size),
        (head[0] + side * 0.3 * size, head[1]),
        (head[0] + side * 0.13 * size, head[1] + 0.05 * size),
    )
    pen.shape(drawn.colours[3], (x - 0.15 * size, y), (x + 0.2 * size, y), (x - 0.05 * size * side, y - 0.8 * lift))


def _cart(pen: _Pen, drawn: Scene, place: Point, angle: float) -> None:
    (x, y), size = place, drawn.size
    pen.shape(
        drawn.colours[5],
        (x - 0.7 * size, y - 0.3 * size),
        (x + 0.7 * size, y - 0.3 * size),
        (x + 0.55 * size, y + 0.2 * size),
        (x - 0.55 * size, y + 0.2 * size),
    )
    radius = 0.22 * size
    for wheel in (x - 0.38 * size, x + 0.38 * size):
        centre = (wheel, y + 0.2 * size)
        pen.ellipse(drawn.colours[3], centre, radius, radius)
        for spoke in (angle, angle + math.pi / 2):
            reach = (radius * math.cos(spoke), radius * math.sin(spoke))
            pen.line((centre[0] - reach[0], centre[1] - reach[1]), (centre[0] + reach[0], centre[1] + reach[1]))
    pen.ellipse(drawn.colours[4], (x, y - 0.5 * size), 0.18 * size, 0.18 * size)


_FIGURES: dict[str, Callable[[_Pen, Scene, Point, float], None]] = {"walker": _walker, "bird": _bird, "cart": _cart}
