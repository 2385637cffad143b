"""Several keyframes of one clip: sampled as one latent or pair by pair, and what the arrow does at the inner ones.

A clip's frames at a board's places are the keyframes; the frames between them are made and compared with the true ones.
A loop's truth is an arrow that flies a circle. Knows nothing of how segments are joined.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.sprites.rows import Row, Task
from benchmarks.sprites.tables import Column
from benchmarks.sprites.trained import shared
from benchmarks.sprites.variants import CLIP, SPRITES
from mpd import rife
from mpd.lengths import denoiser_calls, groups, segment_frames
from mpd.methods import Settings
from mpd.progress import Pictures, Take
from mpd.segments import generate
from mpd.sprites import gate, track, world
from mpd.sprites.measures import decibels, off_path


@dataclass(frozen=True)
class Board:
    """Where the keyframes stand on the timeline; with `loop` the last place is the first one's return."""

    places: tuple[int, ...]
    loop: bool = False

    @property
    def frames(self) -> int:
        return self.places[-1] + (0 if self.loop else 1)


BOARDS: dict[str, Board] = {
    "keyframes at 0, 6, 11": Board((0, 6, 11)),
    "keyframes at 0, 4, 8, 11": Board((0, 4, 8, 11)),
    "a loop of three, at 0, 3, 6 and again at 8": Board((0, 3, 6, 8), loop=True),
    "two clips bridged: frames 0 to 2 and 9 to 11": Board((0, 1, 2, 9, 10, 11)),
}
WAYS = ("truth", "alone", "joint", "rife", "cross-fade")
CLAIMS = (("joint", "alone"), ("joint", "rife"), ("joint", "cross-fade"))
COLUMNS = (
    Column("psnr", "PSNR dB", 1),
    Column("path", "path px"),
    Column("jump", "jump px"),
    Column("before", "speed before"),
    Column("after", "speed after"),
    Column("reverse", "against heading %", 0, 100),
)


@dataclass(frozen=True)
class Storyboards:
    """The work on one task: the group names the board, the variant the way. Threads may share it."""

    #: A folder.
    model: str
    #: None is the model's own schedule.
    steps: int | None
    bf16: bool = False

    def __call__(self, task: Task) -> Row:
        board = BOARDS[task.group]
        scene = circling(task.seed, board.frames) if board.loop else world.scene(task.seed, board.frames)
        truth = world.render(scene, board.frames)
        model = shared(self.model, self.bf16)
        with torch.inference_mode(), model.unet.member():
            began = model.unet.seconds()
            made = self._made(task, board, scene, truth)
            seconds = model.unet.seconds() - began
        return Row(task, judged(made, truth, scene, board) | {"seconds": round(seconds, 3)})

    def _made(self, task: Task, board: Board, scene: world.Scene, truth: NDArray[np.uint8]) -> Pictures:
        keyframes = [truth[place % board.frames] for place in board.places[: len(board.places) - board.loop]]
        model = shared(self.model, self.bf16)
        if task.variant == "truth":
            return gate.round_trip(model, truth)
        if task.variant == "cross-fade":
            return cross_fade([truth[place % board.frames] for place in board.places], board)
        asked = replace(settings(task.variant, board), seeds=(task.seed % (1 << 32),), fps=scene.fps)
        if task.variant == "rife":
            reports = rife.generate(rife.load(), keyframes, asked)
        else:
            asked = replace(asked, steps=self.steps)
            reports = generate(model, keyframes, asked)
        return next(report.frames for report in reports if isinstance(report, Take))


def settings(way: str, board: Board) -> Settings:
    """Give what a way is asked for. way: `joint`, `alone` or `rife`."""
    timeline = {"positions": board.places, "loop": board.loop}
    return Settings(method="rife", **timeline) if way == "rife" else Settings(method="mpd", segments=way, **timeline)  # type: ignore[arg-type]


def circling(seed: int, period: int) -> world.Scene:
    """Draw the scene of an arrow that flies a circle in the middle of the picture, once in `period` frames."""
    drawn = world.scene(seed)
    turn = float(np.copysign(2 * np.pi / period, drawn.turn))
    radius = drawn.speed / (2 * np.sin(abs(turn) / 2))
    across = drawn.heading + np.copysign(np.pi / 2, turn)
    middle = world.SIZE / 2
    return replace(
        drawn,
        x=middle - radius * float(np.cos(across)),
        y=middle - radius * float(np.sin(across)),
        turn=turn,
        swerve=0.0,
        acceleration=0.0,
    )


def cross_fade(keyframes: Sequence[Pictures], board: Board) -> Pictures:
    """Dissolve each keyframe into the next."""
    frames: list[NDArray[np.float64]] = []
    for (a, b), (before, after) in zip(itertools.pairwise(board.places), itertools.pairwise(keyframes), strict=True):
        start, end = before.astype(np.float64), after.astype(np.float64)
        frames += [start + (end - start) * (place - a) / (b - a) for place in range(a, b)]
    if not board.loop:
        frames.append(keyframes[-1].astype(np.float64))
    return np.rint(np.stack(frames)).astype(np.uint8)


def judged(made: Pictures, truth: Pictures, scene: world.Scene, board: Board) -> dict[str, float]:
    """Measure a clip: PSNR over the frames that were made, the path, and the velocity at the inner keyframes.

    jump: pixels per frame by which the velocity changes there; speed before and after: over the true ones. Where the
    arrow is not found it counts as standing, and as far off as it could be.
    """
    between = [frame for frame in range(board.frames) if frame not in board.places]
    found = _closed(track.track(made, scene.hue).places[:, :2], board)
    true = _closed(world.trajectory(scene, board.frames)[:, :2], board)
    steps, right = np.nan_to_num(np.diff(found, axis=0)), np.diff(true, axis=0)
    inner = [place for place in board.places[1:] if place < len(steps)]
    speed, due = np.hypot(*steps.T), np.hypot(*right.T)
    headed = track.along_heading(track.track(made, scene.hue).places)
    return {
        "psnr": decibels(made[between], truth[between]),
        "path": off_path(found, true),
        "jump": float(np.mean([np.hypot(*(steps[place] - steps[place - 1])) for place in inner])),
        "before": float(np.mean([speed[place - 1] / due[place - 1] for place in inner])),
        "after": float(np.mean([speed[place] / due[place] for place in inner])),
        "reverse": float(np.mean(~(headed > 0))),
    }


def _closed(places: NDArray[np.float64], board: Board) -> NDArray[np.float64]:
    """Let a loop's places run on beyond its seam."""
    return np.concatenate([places, places[: board.places[1] + 1]]) if board.loop else places


def calls(name: str, way: str, steps: int | None) -> int:
    """Count the denoiser calls of one clip of a board."""
    if way not in ("joint", "alone"):
        return 0
    board = BOARDS[name]
    asked = replace(settings(way, board), steps=steps)
    segments = segment_frames(asked, len(board.places) - board.loop, world.FRAMES)
    return denoiser_calls(asked, SPRITES, [CLIP] * len(groups(asked, segments, world.FRAMES)))
