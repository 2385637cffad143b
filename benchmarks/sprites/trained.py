"""Clips of the sprite world by the model that ships: one variant, one seed, one row.

Each clip's first and last frame go in as keyframes, told the clip's own fps and what a caller gets for a motion bucket,
with one seed per clip that is the same for every variant. `truth` is the clip through the VAE and back, the best a
sampler could do.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.sprites.abreast import Abreast
from benchmarks.sprites.floor import FLOOR
from benchmarks.sprites.rows import Row, Task
from benchmarks.sprites.sampling import mismatch, walk
from benchmarks.sprites.variants import KNOWN, Variant, skipped
from mpd import flow
from mpd.methods import Settings
from mpd.progress import Pictures, Take
from mpd.segments import Beginning, Latent, SeededNoise, begin
from mpd.sprites import gate, world
from mpd.sprites.measures import judge
from mpd.svd.model import Model, load

OTHER_TAKE = 1 << 31  # added to a clip's seed for a second take of it


@dataclass(frozen=True)
class MadeTake:
    """A variant's clip (N, 64, 64, 3), the CPU seconds it took, and for sampled ones where it came by."""

    frames: Pictures
    seconds: float
    beginning: Beginning | None = None
    visited: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Trained:
    """The work on one task; threads may share it."""

    #: A folder.
    model: str
    #: None is the model's own schedule.
    steps: int | None
    #: Of seeds below this, Eq. 11's mismatch is taken along.
    probed_below: int = 0
    #: The UNet's products are in bfloat16.
    bf16: bool = False

    def __call__(self, task: Task) -> Row:
        scene = world.scene(task.seed)
        truth = world.render(scene)
        model = shared(self.model, self.bf16)
        with torch.inference_mode(), model.unet.member():
            variant = KNOWN[task.variant]
            made = make(model, variant, scene, truth, task.seed, self.steps)
            curve = _curve(made) if task.seed < self.probed_below and variant.begins == "noise" else []
        figures = asdict(judge(made.frames, truth, scene)) | {"seconds": round(made.seconds, 3)}
        return Row(task, figures, [round(value, 5) for value in curve])


def _curve(made: MadeTake) -> list[float]:
    return [] if made.beginning is None else mismatch(made.beginning.paths, made.visited, made.beginning.sigmas)


def make(
    model: Model, variant: Variant, scene: world.Scene, truth: NDArray[np.uint8], seed: int, steps: int | None
) -> MadeTake:
    """Make a variant's clip of the first and the last true frame. model: `shared`, by a member."""
    if variant.method in FLOOR:
        return MadeTake(FLOOR[variant.method](truth, scene), 0.0)
    told = variant.settings if variant.method != "truth" else Variant("flow").settings
    settings = told(steps, scene.motion_bucket_id, frames=len(truth), seeds=(seed % (1 << 32),), fps=scene.fps)
    began = model.unet.seconds()
    if variant.method == "truth":
        return MadeTake(gate.round_trip(model, truth), model.unet.seconds() - began)
    if variant.method == "flow":
        return MadeTake(_flow(truth, settings), model.unet.seconds() - began)
    takes = [
        _sampled(model, variant, settings, truth, (seed + take * OTHER_TAKE) % (1 << 32))
        for take in range(variant.tries)
    ]
    begun, visited, x = min(takes, key=_missed)
    return MadeTake(model.decode(x), model.unet.seconds() - began, begun, visited)


def fingerprint(model: Path) -> str:
    """Make a digest of a model's weights, so that rows of two models are never mixed."""
    digest = hashlib.sha256()
    for path in sorted(model.glob("*/*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def distance(seed: int) -> float:
    """Measure the pixels between the sprite's places in the two keyframes."""
    places = world.trajectory(world.scene(seed))
    return float(np.hypot(*(places[-1, :2] - places[0, :2])))


Sampled = tuple[Beginning, tuple[Tensor, ...], Tensor]


def _sampled(model: Model, variant: Variant, settings: Settings, truth: NDArray[np.uint8], seed: int) -> Sampled:
    """Sample a clip; give what it began with, the sample before every step, and the last one."""
    noise = SeededNoise(seed, model.device)
    latent = Latent(len(truth), model.keyframe(truth[0]), model.keyframe(truth[-1]))
    begun = begin(model, latent, settings, noise)
    if variant.begins == "flow":
        begun = _from_flow(model, begun, _flow(truth, settings), noise)
    steps = walk(variant, settings, begun.paths, begun.x, begun.sigmas, noise, model.latent_channels)
    visited = (begun.x, *(step.x for step in steps))
    return begun, visited[:-1], visited[-1]


def _from_flow(model: Model, begun: Beginning, frames: Pictures, noise: SeededNoise) -> Beginning:
    sigmas = begun.sigmas[skipped(begun.sigmas) :]
    z = torch.stack([model.keyframe(frame).z for frame in frames])
    return Beginning(begun.paths, sigmas, z + sigmas[0] * noise(z))


def _missed(take: Sampled) -> float:
    """Measure how far the last frame is from the end keyframe's latent."""
    begun, _, x = take
    assert begun.paths.z_end is not None
    return float((x[-1] - begun.paths.z_end).square().mean())


def _flow(truth: NDArray[np.uint8], settings: Settings) -> Pictures:
    reports: Iterator[object] = flow.generate(
        [truth[0], truth[-1]], Settings(method="flow", frames=settings.frames, fps=settings.fps)
    )
    return next(report.frames for report in reports if isinstance(report, Take))


_loading = threading.Lock()


def shared(folder: str, bf16: bool = False) -> Model:
    """Load the model of a folder once, with an `Abreast` as its UNet: its users must be members."""
    with _loading:
        return _loaded(folder, bf16)


@cache
def _loaded(folder: str, bf16: bool) -> Model:
    model = load(folder)
    model.unet = Abreast(model.unet, bf16)
    return model
