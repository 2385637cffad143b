"""Whole jobs: by this library at each acceleration, by the reference loop, and by diffusers' pipeline as it ships."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.card import clocks, models
from benchmarks.card.decoders import REFERENCE_CHUNK
from benchmarks.card.models import ModelSize
from mpd import tiny
from mpd.methods import Settings
from mpd.progress import Frames, Pictures, Progress, Take
from mpd.segments import generate
from mpd.svd.accelerate import Acceleration
from mpd.svd.model import Model
from worker.engine import previews

ATTEMPTS = 2
"""Of every job; the faster one counts."""


class Clocked(Model):
    """A model that tells the seconds of its decoding.

    reference: as the published loops run it, float32 weights under autocast, decoded in float32 a few frames at a time.
    """

    decoding = 0.0
    reference: torch.dtype | None = None

    def decode(self, latents: Tensor, chunk: int | None = None, bits: int = 8) -> Frames:
        clocks.synchronize(self.device)
        began = time.perf_counter()
        with torch.autocast(self.device.type, enabled=False):
            frames = super().decode(latents, REFERENCE_CHUNK if self.reference else chunk, bits)
        self.decoding = time.perf_counter() - began
        return frames

    def sampling(self) -> Any:
        return torch.autocast(self.device.type, self.reference) if self.reference else nullcontext()


def model(size: ModelSize, device: torch.device, dtype: torch.dtype, name: str) -> Clocked:
    """Make the model of an acceleration, or of `reference`, by its name."""
    reference = name == "reference"
    own = torch.float32 if reference else dtype
    level: dict[str, Acceleration] = {"exact": "exact", "max": "max"}
    made = Clocked(models.parts(size, device, own), "random", device, own, level.get(name, "off"))
    made.reference = dtype if reference else None
    return made


def pictures(size: ModelSize) -> list[Pictures]:
    """Draw two smooth keyframes that differ."""
    y, x = np.mgrid[0 : size.height, 0 : size.width] / max(size.width, size.height)
    shades = [(x, y, 1 - x), (np.sin(6 * x) ** 2, 1 - x, y)]
    return [np.round(255 * np.clip(np.stack(shade, -1), 0, 1)).astype(np.uint8) for shade in shades]


def settings(size: ModelSize, method: str, steps: int) -> Settings:
    return Settings(method=method, steps=steps, frames=size.frames, seeds=(1,))


def once(made: Clocked, size: ModelSize, method: str, steps: int) -> tuple[Frames, float]:
    """Run a job; give its frames and its seconds from the keyframes to the frames in the CPU's memory."""
    clocks.synchronize(made.device)
    began = time.perf_counter()
    with made.sampling():
        keyframes = pictures(size)[: 1 if method == "svd" else 2]
        events = list(generate(made, keyframes, settings(size, method, steps)))
    seconds = time.perf_counter() - began
    return next(event.frames for event in events if isinstance(event, Take)), seconds


def row(made: Clocked, name: str, size: ModelSize, method: str, steps: int, warm_up: float | None) -> dict[str, Any]:
    """Run a job several times and give the fastest attempt, with `frames` to compare, not to write down."""
    found: dict[str, Any] = {"seconds": float("inf")}
    for _ in range(ATTEMPTS):
        frames, seconds = once(made, size, method, steps)
        if seconds < found["seconds"]:
            found = {"seconds": seconds, "decoding": made.decoding, "frames": frames}
    return {"name": name, "method": method, **found, "warm_up": warm_up}


def warmed_up(made: Clocked, size: ModelSize, methods: list[str], steps: int) -> float:
    """Warm up as an engine does before it is ready, and give the seconds."""
    began = time.perf_counter()
    with made.warming_up():
        for method in methods:
            once(made, size, method, steps)
    return time.perf_counter() - began


def evaluations(method: str, steps: int) -> int:
    """Count the UNet's evaluations in one job: as many whatever the model is, so that the small one counts them."""
    made = model(models.SMALL, torch.device("cpu"), torch.float32, "off")
    counted = [0]
    made.unet.conv_in.register_forward_hook(lambda *_: counted.append(counted.pop() + 1))
    small = replace(models.SMALL, frames=2, width=64, height=64)
    once(made, small, method, steps)
    return counted[0]


def preview_seconds(made: Clocked, size: ModelSize, steps: int) -> float:
    """Time one preview as a JPEG, once the sample it is made of is there: the median over a job, in seconds."""
    taken = []
    for event in generate(made, pictures(size)[:1], settings(size, "svd", steps)):
        if isinstance(event, Progress):
            clocks.synchronize(made.device)
            began = time.perf_counter()
            picture = event.preview()
            assert picture is not None
            previews.jpeg(picture)
            taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def pipeline(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Any:
    """Load diffusers' StableVideoDiffusionPipeline, half precision throughout, as its documentation does."""
    from diffusers import StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor

    parts = models.parts(size, device, dtype)
    scheduler = tiny.scheduler()
    made = StableVideoDiffusionPipeline(
        parts.vae.to(dtype), parts.image_encoder, parts.unet, scheduler, CLIPImageProcessor()
    )
    made.set_progress_bar_config(disable=True)
    return made


def by_pipeline(made: Any, size: ModelSize, steps: int) -> float:
    """Time one video from one picture, in seconds."""
    from PIL import Image

    picture = Image.fromarray(pictures(size)[0])
    device = torch.device(made.unet.device)
    clocks.synchronize(device)
    began = time.perf_counter()
    made(
        picture,
        height=size.height,
        width=size.width,
        num_frames=size.frames,
        num_inference_steps=steps,
        generator=torch.Generator("cpu").manual_seed(1),
    )
    return time.perf_counter() - began
