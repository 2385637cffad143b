"""A tiny random model, and the ideal world: a finite set of clips whose perfect denoiser is known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mpd import tiny
from mpd.model import Model, load
from mpd.progress import Pictures


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> Model:
    return load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def pictures() -> list[Pictures]:
    """Three smooth, different 64x64 keyframes."""
    y, x = np.mgrid[0:64, 0:64] / 63
    shades = [(x, y, 1 - x), (1 - y, x * y, x), (np.sin(6 * x) ** 2, 1 - x, y)]
    return [np.round(255 * np.stack(shade, -1)).astype(np.uint8) for shade in shades]


@dataclass(frozen=True)
class Ideal:
    """The posterior mean over clips, E[y | y + σn = x]: `conditional` ones for x̂0_c, `all` for x̂0_∅. (K, N, C, H, W)"""

    conditional: Tensor
    all: Tensor

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        return _mean(x, sigma, self.conditional), _mean(x, sigma, self.all) if need_uncond else None


@dataclass(frozen=True)
class World:
    """A question with its answer: the clip between two keyframes, and denoisers that know forward motion alone."""

    truth: Tensor
    start: Ideal
    end: Ideal


@pytest.fixture(scope="session")
def world() -> Callable[[int], World]:
    """A blob with a heading that moves where it faces, at some speed, turning at some rate; by seed."""

    def make(seed: int) -> World:
        rng = np.random.default_rng(seed)
        speeds, turns = np.linspace(0.2, 1.6, 9), np.linspace(-0.25, 0.25, 9)
        state = np.array([8.0, 8.0, rng.uniform(0, 2 * math.pi)])
        futures = [_clip(state, speed, turn) for speed in speeds for turn in turns]
        chosen = int(rng.integers(len(futures)))
        truth, final = futures[chosen]
        beyond = [_clip(final, speed, turn)[0] for speed in speeds for turn in turns]
        start = torch.stack([clip for clip, _ in futures])
        end = torch.stack(beyond)
        everything = torch.cat([start, end])
        return World(truth, Ideal(start, everything), Ideal(end, everything))

    return make


def _clip(state: np.ndarray, speed: float, turn: float, frames: int = 9, size: int = 16) -> tuple[Tensor, np.ndarray]:
    """(N, 2, H, W): a body and, ahead of it, a nose that shows the heading; and the state reached."""
    y, x = np.mgrid[0:size, 0:size].astype(float)
    px, py, heading = state
    shots = []
    for frame in range(frames):
        if frame:
            heading = heading + turn
            px, py = px + speed * math.cos(heading), py + speed * math.sin(heading)
        ahead = px + 2 * math.cos(heading), py + 2 * math.sin(heading)
        blobs = [np.exp(-((x - bx) ** 2 + (y - by) ** 2) / 3) for bx, by in ((px, py), ahead)]
        shots.append(np.stack(blobs))
    return torch.from_numpy(np.stack(shots)), np.array([px, py, heading])


def _mean(x: Tensor, sigma: float, clips: Tensor) -> Tensor:
    weights = torch.softmax(-((x - clips) ** 2).flatten(1).sum(1) / (2 * sigma**2), 0)
    return torch.einsum("k,knchw->nchw", weights, clips)
