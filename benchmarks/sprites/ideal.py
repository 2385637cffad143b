"""Questions of the ideal world: one variant, one seed, several samples, one row.

The denoisers are perfect, so nothing here is a model's fault: what is seen is what the samplers themselves do. `exact`
is a draw from p(clip | start, end), what a perfect sampler would give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.sprites.rows import Row, Task
from benchmarks.sprites.sampling import mismatch, walk
from benchmarks.sprites.variants import DRAWN, IDEAL_KNOWN, VARIANTS
from mpd.samplers import Paths
from mpd.schedule import karras
from mpd.sprites import ideal
from mpd.sprites.ideal import DISTANCES, Law, Question

SIGMA_MIN, SIGMA_MAX = 0.002, 300.0
BEST = 60.0  # dB that stand for all above: σ_min itself is at 54
ROWS = (
    "exact",
    *(name for name, variant in VARIANTS.items() if variant.method not in DRAWN),
    "mpd (gain)",
    "mpd (gain, field)",
    "mpd (pin), 1.5 × steps",
)
IDEAL_CLAIMS = (
    ("mpd-trf", "trf"),
    ("mpd-vibid", "vibid"),
    ("mpd (rigid)", "mpd (pin)"),
    ("mpd (closure)", "mpd (pin)"),
    ("mpd (gain)", "mpd (pin)"),
    ("mpd (gain)", "mpd (pin), 1.5 × steps"),
    ("mpd (gain)", "mpd (closure)"),
    ("mpd (closure)", "mpd-vibid"),
)
REVERSED = (0.0, 0.02, 0.1, 0.25, 0.5)
IN_DIALS = ("trf", "mpd-trf", "vibid", "mpd-vibid", "mpd (pin)", "mpd (rigid)", "mpd (closure)")

IdealWorld = tuple[Law, float | None]
"""What sprites do there, and how far the true one goes if that is set."""
TABLE: dict[str, IdealWorld] = {
    "the motion is known, all frames seen": (Law(), None),
    "the motion is known, ±2 frames seen": (Law(window=2), None),
    "between known motions, all frames seen": (Law(between=True), None),
    "between known motions, ±2 frames seen": (Law(between=True, window=2), None),
}
"""The worlds of the table: whether the denoiser knows the true motion itself or its neighbours, and how far it sees."""
FORWARDNESS: dict[str, IdealWorld] = {f"{100 * share:g} %": (Law(reversed_share=share), None) for share in REVERSED}
DISPLACEMENT: dict[str, IdealWorld] = {f"{step:.1f} px": (Law(between=True, window=2), step) for step in DISTANCES}
HEADLESS: dict[str, IdealWorld] = {"no heading, either way": (Law(headless=True, reversed_share=0.5), None)}
DIALS: dict[str, dict[str, IdealWorld]] = {
    "share of clips that move against their heading": FORWARDNESS,
    "way between the keyframes (between known motions, ±2 frames seen)": DISPLACEMENT,
    "negative control: sprites without a heading that move either way": HEADLESS,
}
WORLDS: dict[str, IdealWorld] = TABLE | FORWARDNESS | DISPLACEMENT | HEADLESS


@dataclass(frozen=True)
class Perfect:
    """The work on one task, whose group is one of `WORLDS`; `samples` side by side; Eq. 11's mismatch if `probed`."""

    steps: int
    samples: int
    probed: bool = True

    def __call__(self, task: Task) -> Row:
        law, way = WORLDS[task.group]
        asked = _question(task.seed, law, way)
        generator = torch.Generator().manual_seed(task.seed)
        if task.variant == "exact":
            drawn = torch.multinomial(asked.answers.shares, self.samples, replacement=True, generator=generator)
            return Row(task, figures(asked.answers.frames[drawn], asked, law))
        made, curve = self._sampled(asked, task.variant, generator)
        return Row(task, figures(made, asked, law), [round(value, 5) for value in curve])

    def _sampled(self, asked: Question, name: str, generator: torch.Generator) -> tuple[Tensor, list[float]]:
        def noise(x: Tensor) -> Tensor:
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)

        variant = IDEAL_KNOWN[name]
        settings = variant.settings(self.steps)
        top = variant.top or SIGMA_MAX
        sigmas = karras(settings.steps or self.steps, SIGMA_MIN, top)
        z_start, z_end = (asked.truth[frame].repeat(self.samples, 1, 1) for frame in (0, -1))
        paths = Paths(asked.start, asked.end, z_start, z_end)
        x = math.sqrt(1 + top**2) * noise(asked.truth.repeat(1, self.samples, 1, 1))
        steps = walk(variant, settings, paths, x, sigmas, noise, ideal.CHANNELS)
        visited = [x, *(step.x for step in steps)]
        clips = visited[-1].reshape(len(x), self.samples, -1, *x.shape[2:]).transpose(0, 1)
        return clips, mismatch(paths, visited[:-1], sigmas) if self.probed else []


def figures(made: Tensor, asked: Question, law: Law) -> dict[str, float]:
    """Measure (S, N, C, H, W) samples: the mean over them where each has a figure of its own.

    nearest: PSNR in dB over all frames to the nearest right answer (peak 1, at most `BEST`). last: of the last frame
        to the end keyframe. reverse: share of samples with reverse play (`ideal.plays_reversed`), NaN if headless.
    mass: the sum of all absolute values between the keyframes over the truth's; above 1 there is a ghost.
    energy, coverage: of the samples as a set, see `ideal.energy_distance` and `ideal.coverage`.
    """
    squared = torch.cdist(made.flatten(1), asked.answers.frames.flatten(1)).square() / asked.truth.numel()
    end = (made[:, -1] - asked.truth[-1]).square().mean((1, 2, 3))
    turned = [float(ideal.plays_reversed(clip)) for clip in made]
    return {
        "nearest": _decibels(squared.min(1).values),
        "last": _decibels(end),
        "reverse": math.nan if law.headless else sum(turned) / len(turned),
        "mass": float(made[:, 1:-1].abs().sum() / len(made) / asked.truth[1:-1].abs().sum()),
        "energy": ideal.energy_distance(made, asked.answers),
        "coverage": ideal.coverage(made, asked.answers),
    }


def _decibels(squared: Tensor) -> float:
    return float((-10 * squared.clamp_min(1e-20).log10()).clamp_max(BEST).mean())


@lru_cache(1)  # a question's variants follow one another
def _question(seed: int, law: Law, way: float | None) -> Question:
    return ideal.question(seed, law, way)
