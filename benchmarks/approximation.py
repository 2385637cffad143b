"""What the approximations of `accelerate="max"` cost, on the sprite model: `python -m benchmarks.approximation`.

Clips of the development split are sampled from their first and last frame, with one seed per clip: exactly, by features
reused at several intervals, and by feed-forwards in 8-bit floating point. Told of each: how far its videos are from the
exact ones (grey levels of 255, and PSNR), how near both come to the true clip, and the share of evaluations that went
by kept features. No GPU is needed. `--publish` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks import pages
from mpd import sprites
from mpd.methods import Settings
from mpd.progress import Frames, Pictures, Take
from mpd.segments import generate
from mpd.sprites import world
from mpd.sprites.measures import decibels, interval
from mpd.svd.accelerate import fp8
from mpd.svd.accelerate.reuse import Interval
from mpd.svd.model import Model, load
from mpd.svd.network import Accelerated

METHODS = ("mpd-vibid", "mpd")


@dataclass(frozen=True)
class Factor(Interval):
    """Features serve until σ has fallen by the same factor everywhere: what `Interval` is compared with."""

    factor: float = 2.5

    def covers(self, made: float, now: float) -> bool:
        return now < made <= self.free_above and made < self.factor * now


@dataclass(frozen=True)
class Once(Interval):
    """Features serve at one σ alone."""

    at: float = 0.0

    def covers(self, made: float, now: float) -> bool:
        return now < made and math.isclose(now, self.at)


DEFAULT = "reuse"
INTERVALS: dict[str, Interval | None] = {
    "exact": None,
    "fp8": None,
    DEFAULT: Interval(),
    **{f"reuse, turn {turn:g}": Interval(turn=turn) for turn in (0.1, 0.4)},
    "reuse, also above σ 100": Interval(free_above=700.0),
    "reuse, factor 2.5 below σ 20": Factor(20.0),
    "reuse, factor 2.5 everywhere": Factor(700.0),
}


@dataclass
class Sample:
    """What a variant made of the clips."""

    videos: list[Frames] = field(default_factory=list)
    evaluations: int = 0
    #: Evaluations of all levels.
    whole: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    asked = parser().parse_args(argv)
    torch.set_num_threads(1)
    clips = world.seeds("development", asked.clips, asked.first)
    if asked.each_step:
        for method in asked.methods:
            ageing(method, clips, asked.steps)
        return 0
    figures: dict[str, Any] = {
        "run": {"clips": asked.clips, "first": asked.first, "steps": asked.steps, "machine": pages.machine()}
    }
    lines = [
        f"Development clips {asked.first} to {asked.first + asked.clips - 1}, sprite model, {asked.steps} steps. "
        "Mean [95 % interval over clips].\n",
        "| method | | reused | grey levels | PSNR to exact | PSNR to the truth |\n|---|---|---|---|---|---|",
    ]
    truths = [world.render(world.scene(seed)) for seed in clips]
    for method in asked.methods:
        exact = sampled("exact", method, clips, asked.steps)
        for name in ["exact", *(each for each in asked.variants if each != "exact")]:
            made = exact if name == "exact" else sampled(name, method, clips, asked.steps)
            found = judged(made, exact, truths)
            figures.setdefault(method, {})[name] = found
            lines.append(line(method, name, found))
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print("\n" + text)
    if asked.publish:
        pages.publish("approximation", text, figures)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.approximation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--clips", type=int, default=16, help="default: 16")
    made.add_argument("--first", type=int, default=0, help="number of the first clip (default: 0)")
    made.add_argument("--steps", type=int, default=25, help="denoising steps (default: 25)")
    made.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: both")
    made.add_argument("--variants", nargs="+", choices=list(INTERVALS), default=list(INTERVALS), metavar="NAME")
    made.add_argument("--each-step", action="store_true", help="instead: what reuse at one step alone costs, by σ")
    made.add_argument("--publish", action="store_true", help="put the table into docs/performance.md")
    return made


def sampled(name: str, method: str, clips: Sequence[int], steps: int, reusing: Interval | None = None) -> Sample:
    """Sample the clips by one variant, or with features reused at an interval, and count the evaluations they took."""
    model, network = approximated(name, reusing)
    made = Sample()
    network.unet.conv_in.register_forward_hook(lambda *_: setattr(made, "evaluations", made.evaluations + 1))
    network.unet.middle.blocks[0].register_forward_hook(lambda *_: setattr(made, "whole", made.whole + 1))
    for seed in clips:
        scene = world.scene(seed)
        truth = world.render(scene)
        pictures: list[Pictures] = [truth[0], truth[-1]]
        settings = Settings(
            method=method,
            steps=steps,
            frames=len(truth),
            seeds=(seed % (1 << 32),),
            fps=scene.fps,
            motion_bucket_id=scene.motion_bucket_id,
        )
        made.videos += [event.frames for event in generate(model, pictures, settings) if isinstance(event, Take)]
    return made


def ageing(method: str, clips: Sequence[int], steps: int) -> None:
    """Print, for each σ but the first, how far the clips go when features of the step before serve there alone."""
    exact = sampled("exact", method, clips, steps)
    sigmas = load(sprites.PATH, device="cpu").schedule.sigmas(steps)[1:-1]
    print(f"{method}: σ, grey levels", flush=True)
    for sigma in sigmas:
        made = sampled("exact", method, clips, steps, Once(at=sigma))
        apart = [float(np.abs(a.astype(float) - b).mean()) for a, b in zip(made.videos, exact.videos, strict=True)]
        print(f"{sigma:10.4g}  {np.mean(apart):.4f}", flush=True)


def approximated(name: str, reusing: Interval | None = None) -> tuple[Model, Accelerated]:
    """Load the sprite model with one approximation alone: a variant's, or features reused at an interval."""
    model = copy.copy(load(sprites.PATH, device="cpu"))
    chosen = reusing or INTERVALS[name]
    network = Accelerated(model.unet, "exact" if chosen is None else "max", compiled=False, interval=chosen)
    if name == "fp8":
        assert fp8.rewrite(network.unet) > 0
    model._accelerated = network
    return model, network


def judged(made: Sample, exact: Sample, truths: Sequence[Frames]) -> dict[str, Any]:
    """Average over the clips, with intervals but for the share of evaluations."""
    pairs = list(zip(made.videos, exact.videos, strict=True))
    apart = [float(np.abs(one.astype(float) - other).mean()) for one, other in pairs]
    true = [decibels(one[1:-1], truth[1:-1]) for one, truth in zip(made.videos, truths, strict=True)]
    return {
        "reused": round(1 - made.whole / made.evaluations, 4),
        "grey_levels": spread(apart),
        "psnr_to_exact": None if made is exact else spread([decibels(one, other) for one, other in pairs]),
        "psnr_to_truth": spread(true),
    }


def spread(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in interval(values)]


def line(method: str, name: str, found: dict[str, Any]) -> str:
    def shown(values: list[float] | None, digits: int) -> str:
        if values is None:
            return "n/a"
        mean, low, high = (f"{value:.{digits}f}" for value in values)
        return f"{mean} [{low}, {high}]"

    emphasis = "**" if name == DEFAULT else ""
    cells = [
        method,
        f"{emphasis}{name}{emphasis}",
        f"{100 * found['reused']:.0f} %",
        shown(found["grey_levels"], 2),
        shown(found["psnr_to_exact"], 1),
        shown(found["psnr_to_truth"], 2),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main())
