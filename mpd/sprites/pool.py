"""Training clips as the UNet sees them: encoded once, kept in memory and on disk, added to while it trains.

Knows the autoencoder and the CLIP tower, and nothing of noise levels or losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mpd.sprites import world
from mpd.sprites.pictures import to_tensor

AUGMENTED = 2  # encodings of a clip's first frame, each with augmentation noise of its own
CLEAN_SHARE = 0.25  # of them without any; the others' strength is log-normal
AUGMENTATION_MEAN, AUGMENTATION_STD, AUGMENTATION_MAX = -3.5, 0.8, 0.3


@dataclass(frozen=True)
class Batch:
    """latents (B, N, C, h, w) scaled; image_latents (B, C, h, w) unscaled; embeddings (B, 1, D); time_ids (B, 3)."""

    latents: Tensor
    image_latents: Tensor
    embeddings: Tensor
    time_ids: Tensor


class Pool:
    """Clips 0, 1, 2, … of the training split, encoded in this order; `size` says how many there are so far."""

    def __init__(self, path: Path, autoencoder: Any, image_encoder: Any, capacity: int) -> None:
        self._path, self._autoencoder, self._image_encoder = path, autoencoder, image_encoder
        self._capacity = capacity
        self._scale = float(autoencoder.config.scaling_factor)
        self._parts: dict[str, Tensor] = {}
        self.size = 0
        if path.exists():
            self._parts = torch.load(path, weights_only=True)
            self.size = len(self._parts["time_ids"])
            self._grow(capacity)

    @torch.no_grad()
    def add(self, clips: int) -> None:
        """Render and encode so many more clips, up to the capacity."""
        for seed in world.seeds("train", min(clips, self._capacity - self.size), self.size):
            one = self._encode(seed)
            if not self._parts:
                self._parts = {name: value[None] for name, value in one.items()}
                self._grow(self._capacity)
            for name, value in one.items():
                self._parts[name][self.size] = value
            self.size += 1

    def batch(self, random: np.random.Generator, size: int) -> Batch:
        rows = torch.from_numpy(random.choice(self.size, size, replace=False))
        chosen = torch.from_numpy(random.integers(AUGMENTED, size=size))
        part = {name: value[rows].float() for name, value in self._parts.items()}
        here = torch.arange(size)
        strengths = part["strengths"][here, chosen]
        return Batch(
            latents=part["latents"] * self._scale,
            image_latents=part["image_latents"][here, chosen],
            embeddings=part["embeddings"][:, None],
            time_ids=torch.cat([part["time_ids"], strengths[:, None]], dim=1),
        )

    def save(self) -> None:
        partial = self._path.with_suffix(".partial")
        torch.save({name: value[: self.size].clone() for name, value in self._parts.items()}, partial)
        partial.replace(self._path)

    def _grow(self, capacity: int) -> None:
        for name, value in self._parts.items():
            room = max(0, capacity - len(value))
            self._parts[name] = torch.cat([value, value.new_zeros((room, *value.shape[1:]))])

    def _encode(self, seed: int) -> dict[str, Tensor]:
        scene = world.scene(seed)
        frames = to_tensor(world.render(scene))
        random = np.random.default_rng([2, seed])
        strengths = np.exp(AUGMENTATION_MEAN + AUGMENTATION_STD * random.standard_normal(AUGMENTED))
        strengths = np.where(random.random(AUGMENTED) < CLEAN_SHARE, 0, np.minimum(strengths, AUGMENTATION_MAX))
        noise = torch.from_numpy(random.standard_normal((AUGMENTED, *frames.shape[1:]))).float()
        strength = torch.from_numpy(strengths).float()
        noisy = frames[:1] + strength.view(-1, 1, 1, 1) * noise
        latents = self._autoencoder.encode(torch.cat([frames, noisy])).latent_dist.mode()
        return {
            "latents": latents[: len(frames)].half(),
            "image_latents": latents[len(frames) :].half(),
            "strengths": strength,
            "embeddings": self._image_encoder(clip_input(frames[:1])).image_embeds[0],
            # SVD's UNet was trained on fps - 1.
            "time_ids": torch.tensor([scene.fps - 1.0, float(scene.motion_bucket_id)]),
        }


def clip_input(pictures: Tensor) -> Tensor:
    """Bring pictures (N, 3, H, W) in [-1, 1] to (N, 3, 224, 224) as SVD's pipeline gives them to the CLIP tower."""
    large = F.interpolate(pictures, size=(224, 224), mode="bicubic", align_corners=True)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    return ((large + 1) / 2 - mean) / std
