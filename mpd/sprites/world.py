"""The sprite world: an arrow that travels where it points, rendered from a seed.

`scene(seed)` draws a scene, `render(scene)` gives its frames, `trajectory(scene)` the truth behind them. Motion has a
direction that every single picture shows, so a model of these clips learns a forward motion prior.
Needs numpy and OpenCV; knows nothing of torch, of models or of noise.

Coordinates are pixels of a `SIZE` x `SIZE` picture, x to the right, y down, (0, 0) the upper left *corner* of the
upper left pixel. A heading is in radians, 0 to the right, growing clockwise on the screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 64
FRAMES = 12
MARGIN = 12.0  # the arrow's centre never comes closer to an edge: its half length is 11
SPEEDS = (1.2, 3.6)  # pixels per frame, mean over the clip
RATES = (5, 9)  # frames per second
BUCKETS_PER_SPEED = 127 / 17.5  # motion bucket per pixel per second: 127 at 7 fps is 2.5 pixels per frame
BUCKET_SPREAD = 0.2  # standard deviation of log(motion bucket) around the true speed's: the id tells about how fast

SPLITS: dict[str, int] = {"train": 0, "development": 1 << 40, "held-out": 1 << 41}
"""First seed of each split. A split holds `SPLIT_SEEDS` seeds, so that no two can meet."""
SPLIT_SEEDS = 1 << 40

HEAD = np.array([(11.0, 0.0), (0.0, 7.5), (0.0, -7.5)])
SHAFT = np.array([(0.0, 3.5), (-11.0, 3.5), (-11.0, -3.5), (0.0, -3.5)])
# The ground is the same in every clip. SVD's layers normalise 32 groups of channels, and in a network this small a
# group is one or two channels: a brightness that varies from clip to clip is what such a network learns last.
GROUND = 0.80
HEAD_CENTRE, SHAFT_CENTRE = 11.0 / 3, -5.5  # centroids of the two parts along the arrow, from its middle
HUES = (-0.25, 0.95)  # radians: heads from pink over red to yellow, shafts from green over blue-green to blue
HEAD_TONE, HEAD_CHROMA = 0.60, 0.38
SHAFT_TONE, SHAFT_CHROMA = 0.35, -0.30
_SUPERSAMPLING = 4
_SUBPIXEL_BITS = 6


@dataclass(frozen=True)
class Scene:
    """Everything that decides a clip."""

    #: Where the arrow's middle is in the first frame: x, then y.
    x: float
    y: float
    #: Where it points and moves in the first frame.
    heading: float
    #: Mean pixels per frame.
    speed: float
    #: The a with which the speed runs linearly from `speed·(1 − a/2)` to `speed·(1 + a/2)`.
    acceleration: float
    #: Mean change of heading per frame.
    turn: float
    #: The turn runs from `turn − swerve/2` to `turn + swerve/2`.
    swerve: float
    #: Of the arrow's head; the shaft has the opposite one.
    hue: float
    #: With `motion_bucket_id`, what a model is told; together they say *about* how fast, see `BUCKET_SPREAD`.
    fps: int
    motion_bucket_id: int
    #: The arrow moves against its heading. A dial of the benchmark, as `headless`: no training clip has either.
    backwards: bool = False
    #: Both halves are alike.
    headless: bool = False


def seeds(split: str, count: int, first: int = 0) -> range:
    """Give `count` seeds of a split, from its `first`.

    Raises KeyError for an unknown split, ValueError beyond its end.
    """
    if not 0 <= first <= first + count <= SPLIT_SEEDS:
        raise ValueError(f"a split has the seeds 0 to {SPLIT_SEEDS - 1}, not {first} to {first + count - 1}")
    return range(SPLITS[split] + first, SPLITS[split] + first + count)


def motion_bucket(speed: float, fps: float) -> int:
    """Give the motion bucket that says `speed` pixels per frame at `fps`, without any spread."""
    return round(min(255.0, max(0.0, speed * fps * BUCKETS_PER_SPEED)))


def scene(seed: int, frames: int = FRAMES) -> Scene:
    """Draw the scene of a seed, anew until the arrow stays in the picture for all `frames`."""
    random = np.random.default_rng([20261122, seed])
    while True:
        drawn = _draw(random)
        track = trajectory(drawn, frames)
        if np.all((track[:, :2] >= MARGIN) & (track[:, :2] <= SIZE - MARGIN)):
            return drawn


def _draw(random: np.random.Generator) -> Scene:
    speed, fps = random.uniform(*SPEEDS), int(random.integers(RATES[0], RATES[1] + 1))
    told = speed * float(np.exp(BUCKET_SPREAD * random.standard_normal()))
    return Scene(
        x=random.uniform(MARGIN, SIZE - MARGIN),
        y=random.uniform(MARGIN, SIZE - MARGIN),
        heading=random.uniform(0, 2 * np.pi),
        speed=speed,
        acceleration=random.uniform(-0.4, 0.4),
        turn=float(np.clip(0.14 * random.standard_normal(), -0.35, 0.35)),
        swerve=random.uniform(-0.15, 0.15),
        hue=random.uniform(*HUES),
        fps=fps,
        motion_bucket_id=motion_bucket(told, fps),
    )


def trajectory(scene: Scene, frames: int = FRAMES) -> NDArray[np.float64]:
    """Give x, y and heading in every frame, (frames, 3).

    From one frame to the next the arrow turns, then moves by that frame's speed along the mean of both headings.
    """
    along = np.linspace(-0.5, 0.5, max(frames - 1, 1))[: frames - 1]
    headings = scene.heading + np.concatenate([[0.0], np.cumsum(scene.turn + scene.swerve * along)])
    middle = (headings[1:] + headings[:-1]) / 2 + (np.pi if scene.backwards else 0.0)
    lengths = scene.speed * (1 + scene.acceleration * along)
    steps = lengths[:, None] * np.stack([np.cos(middle), np.sin(middle)], axis=1)
    places = np.array([scene.x, scene.y]) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return np.concatenate([places, headings[:, None]], axis=1)


def render(scene: Scene, frames: int = FRAMES, *, first: int = 0, count: int | None = None) -> NDArray[np.uint8]:
    """Render `count` pictures of the `frames` of a clip, from `first`: (count, SIZE, SIZE, 3) uint8 RGB.

    All of them, if no count is given. Antialiased by `_SUPERSAMPLING` squared samples per pixel.
    """
    return drawn(scene, trajectory(scene, frames)[first:][:count])


def drawn(scene: Scene, places: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw a scene's arrow at any places, (N, 3) as `trajectory` gives them: (N, SIZE, SIZE, 3) uint8 RGB."""
    return np.stack([_picture(scene, place) for place in places])


def hue_direction(hue: float) -> NDArray[np.float64]:
    """Give the zero-sum RGB direction (3,) of a hue; its squared length is 1.5."""
    return np.cos(hue - np.array([0.0, 2.0, 4.0]) * np.pi / 3)


def _picture(scene: Scene, place: NDArray[np.float64]) -> NDArray[np.uint8]:
    direction = hue_direction(scene.hue)
    shaft_tone, shaft_chroma = (HEAD_TONE, HEAD_CHROMA) if scene.headless else (SHAFT_TONE, SHAFT_CHROMA)
    outlines = ((SHAFT, shaft_tone, shaft_chroma), (_head(scene.headless), HEAD_TONE, HEAD_CHROMA))
    picture = np.full((SIZE, SIZE, 3), GROUND, dtype=np.float32)
    for outline, tone, chroma in outlines:
        cover = _coverage(outline, place)[:, :, None]
        picture = picture * (1 - cover) + cover * (tone + chroma * direction).astype(np.float32)
    return np.rint(picture * 255).astype(np.uint8)


@cache
def _head(headless: bool) -> NDArray[np.float64]:
    """Give the outline in front; a headless sprite is a plain bar, alike from both ends."""
    return -SHAFT if headless else HEAD


def _coverage(outline: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float32]:
    """Measure how much of each pixel a polygon around the arrow's middle covers, (SIZE, SIZE) in 0 to 1."""
    x, y, heading = place
    turned = outline @ np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    # A sample's centre lies half a sample from its corner, which is where OpenCV puts whole numbers.
    fine = (turned + np.array([x, y])) * _SUPERSAMPLING - 0.5
    canvas = np.zeros((SIZE * _SUPERSAMPLING,) * 2, dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(fine * (1 << _SUBPIXEL_BITS)).astype(np.int32)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    small = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(small / np.float32(255), dtype=np.float32)
