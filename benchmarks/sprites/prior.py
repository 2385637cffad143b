"""What the trained model knows of time's direction, and at which noise levels: why a claim holds, or does not.

A true clip z is noised to σ and denoised once, with no sampler in the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from benchmarks.sprites.rows import Row, Task
from benchmarks.sprites.tables import Column, Table, cell
from mpd.operators import flip
from mpd.segments import SeededNoise
from mpd.sprites import world
from mpd.svd.model import Model, load

LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0, 15.0, 30.0, 70.0, 180.0, 700.0)
COLUMNS = (
    Column("forward", "forward", 3),
    Column("reversed", "reversed", 3),
    Column("penalty", "reversed / forward"),
    Column("unconditional", "unconditional", 3),
    Column("apart", "x̂0_c − x̂0_∅", 3),
    Column("gain", "own gain at the middle"),
)


@dataclass(frozen=True)
class Prior:
    """The work on one task, whose group is a noise level. But for penalty and gain: root mean squares of latents.

    forward: error of x̂0 for z + σn given c_start. reversed: the same for the clip reversed in time given c_end, what
        a backward path has to believe in. penalty: reversed over forward; 1 where the model sees no direction of time.
    unconditional: error of x̂0_∅ for z + σn. apart: how far x̂0_c and x̂0_∅ are from one another there.
    gain: gᵢ = Cov(xᵢ, x_N) / Var(x_N) of the middle frame, as `experiments.own_gain` estimates it, for a push along
        noise; `closure` assumes 0.5, `rigid` 1 and `pin` 0.
    """

    model: str

    def __call__(self, task: Task) -> Row:
        with torch.inference_mode():
            return Row(task, _figures(_model(self.model), task.seed, float(task.group)))


def _figures(model: Model, seed: int, sigma: float) -> dict[str, float]:
    scene = world.scene(seed)
    keyframes = [model.keyframe(frame) for frame in world.render(scene)]
    z = torch.stack([keyframe.z for keyframe in keyframes])
    noise = SeededNoise(seed % (1 << 32), model.device)
    start, end = (
        model.denoiser(model.condition(key, noise(key.pixels), 0.02), scene.fps, scene.motion_bucket_id, 0.02)
        for key in (keyframes[0], keyframes[-1])
    )
    n = noise(z)
    x0_c, x0_u = start(z + sigma * n, sigma)
    assert x0_u is not None
    back, _ = end(flip(z) + sigma * n, sigma, False)
    pushed = z + sigma * n
    pushed[-1] += 0.5 * sigma * noise(z[-1])
    moved = start(pushed, sigma, False)[0] - x0_c
    middle = len(z) // 2
    figures = {
        "forward": _size(x0_c - z),
        "reversed": _size(back - flip(z)),
        "unconditional": _size(x0_u - z),
        "apart": _size(x0_c - x0_u),
        "gain": float((moved[middle] * moved[-1]).sum() / moved[-1].square().sum().clamp_min(1e-20)),
    }
    return figures | {"penalty": figures["reversed"] / figures["forward"]}


def markdown(tables: dict[str, Table]) -> Iterator[str]:
    """Write the table by noise level, with how much of a clip is decided: 1 − e²(σ)/e²(σ_max), e being `forward`."""
    yield f"| σ | decided % | {' | '.join(column.title for column in COLUMNS)} |"
    yield "|" + "---|" * (len(COLUMNS) + 2)
    top = next(iter(tables[max(tables, key=float)].values()))["forward"][0]
    for level, table in tables.items():
        figures = next(iter(table.values()))
        decided = 100 * (1 - (figures["forward"][0] / top) ** 2)
        yield f"| {level} | {decided:.0f} | {' | '.join(cell(column, figures[column.measure]) for column in COLUMNS)} |"


def tasks(seeds: Sequence[int]) -> list[Task]:
    return [Task(f"{level:g}", "prior", seed) for level in LEVELS for seed in seeds]


def _size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@cache
def _model(folder: str) -> Model:
    return load(folder)
