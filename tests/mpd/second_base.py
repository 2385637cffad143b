"""A second base model, nothing like SVD: flow matching, without a network, and not reversible in time.

Its videos walk at random from their first frame: each frame is the one before plus normal noise. Of such videos the
velocity field is known exactly, in flow matching's own coordinates x_s = (1 − s) x0 + s n, v = E[n − x0 | x_s]; what
makes it a denoiser in the samplers' coordinates is the change of variables alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mpd.base import Base, Room
from mpd.progress import Frames, Pictures

CLASS = "RandomWalkPipeline"
STRIDE = 0.1
"""Standard deviation of a step from one frame to the next."""
SIDE = 4
"""Pixels along a latent's side."""


@dataclass(frozen=True)
class Still:
    """A keyframe: its pixels, and their means as latents."""

    pixels: Tensor
    z: Tensor


@dataclass(frozen=True)
class Velocity:
    """v(x_s, s) of videos (N, C, h, w) that are normal with a mean (C, h, w) and a covariance between frames."""

    mean: Tensor
    spread: float = 0.0
    """Variance that all frames of a video share."""

    def covariance(self, frames: int) -> Tensor:
        index = torch.arange(frames, dtype=torch.float64)
        return STRIDE**2 * torch.minimum(index[:, None], index[None, :]) + self.spread

    def __call__(self, x_s: Tensor, s: float) -> Tensor:
        one, cov = torch.eye(len(x_s), dtype=torch.float64), self.covariance(len(x_s))
        gain = (s * one - (1 - s) * cov) @ torch.linalg.inv((1 - s) ** 2 * cov + s**2 * one)
        return torch.einsum("ij,jchw->ichw", gain, x_s - (1 - s) * self.mean) - self.mean


@dataclass(frozen=True)
class Flow:
    """A velocity field as a denoiser: s = σ/(1+σ), x_s = (1−s)·x, x̂0 = x_s − s·v."""

    conditional: Velocity
    unconditional: Velocity

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        s = sigma / (1 + sigma)
        x_s = (1 - s) * x.double()
        x0_c, x0_u = ((x_s - s * velocity(x_s, s)).to(x.dtype) for velocity in (self.conditional, self.unconditional))
        return x0_c, x0_u if need_uncond else None


class Times:
    """Flow matching's times in equal steps, as noise levels."""

    own_steps = 25

    def sigmas(self, steps: int | None) -> list[float]:
        count = steps or self.own_steps
        times = [0.99 * (1 - i / count) for i in range(count)]
        return [*(s / (1 - s) for s in times), 0.0]


class RandomWalk:
    """The model. What stands for a causal VAE's latents, which are not those of the reversed video when reversed."""

    reversible = False
    revision: str | None = None
    license: str | None = None
    device = torch.device("cpu")
    dtype = torch.float32
    native_frames = 5
    native_size = (32, 32)
    size_multiple = SIDE
    max_frames = 33
    room: Room | None = None
    schedule = Times()
    calibration = None
    acceleration = "off"
    compiles = False

    def __init__(self, name: str) -> None:
        self.name = name

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        yield

    def latent_shape(self, frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        return frames, 3, height // SIDE, width // SIDE

    def keyframe(self, picture: Pictures) -> Still:
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 127.5 - 1
        return Still(pixels, torch.nn.functional.avg_pool2d(pixels, SIDE))

    def condition(self, keyframe: Still, noise: Tensor, strength: float) -> Tensor:
        return torch.nn.functional.avg_pool2d(keyframe.pixels + strength * noise, SIDE)

    def denoiser(self, condition: Tensor, fps: int, motion_bucket_id: int, noise_aug_strength: float) -> Flow:
        return Flow(Velocity(condition.double()), Velocity(torch.zeros_like(condition).double(), spread=1.0))

    def decode(self, latents: Tensor, *, bits: int = 8) -> Frames:
        unit = (latents / 2 + 0.5).clamp(0, 1).repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)
        levels = (unit * (2**bits - 1)).round().permute(0, 2, 3, 1).numpy()
        frames: Frames = levels.astype("uint8" if bits == 8 else "uint16")
        return frames

    def preview(self, x0: Tensor) -> Pictures:
        return self.decode(x0[len(x0) // 2][None])[0, ::SIDE, ::SIDE]


def load(
    source: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    accelerate: str = "auto",
    compile_cache: Path | None = None,
) -> Base:
    return RandomWalk(str(source))
