"""The third stage of training: the UNet, as SVD's was trained (EDM preconditioning with v-prediction) on pooled clips.

Knows nothing of pictures; what the network is asked at which noise level is all here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpd.schedule import karras
from mpd.sprites import networks
from mpd.sprites.attention import PlainAttention
from mpd.sprites.loop import Loop
from mpd.sprites.pool import Batch, Pool

BATCH = 8
P_MEAN, P_STD = 1.0, 1.6  # of ln σ, SVD's own
SCHEDULE_SHARE = 0.25  # of the noise levels come from the sampler's schedule, whose 700 the log-normal never reaches
DROPPED = 0.15  # of the clips lose both of their conditions: the unconditional estimate's training
FIRST = 8.0  # times as much as another's counts the first frame's error: an exact copy is what is learnt last
FRESH = 1  # clips added to the pool with every step, until it is full
_SCHEDULE = np.array(karras(256, 0.002, 700.0)[:-1])


def noise_levels(random: np.random.Generator, count: int) -> Tensor:
    """Draw `count` σ, spread evenly over the distribution so that every batch sees low ones and high ones: (count,)."""
    even = (random.permutation(count) + random.random(count)) / count
    usual = np.exp(P_MEAN + P_STD * math.sqrt(2) * torch.erfinv(torch.from_numpy(2 * even - 1)).numpy())
    asked = np.interp(random.random(count) * (len(_SCHEDULE) - 1), np.arange(len(_SCHEDULE)), _SCHEDULE)
    return torch.from_numpy(np.where(random.random(count) < SCHEDULE_SHARE, asked, usual)).float().clamp(0.002, 700)


def velocity_error(unet: Any, batch: Batch, sigma: Tensor, noise: Tensor, kept: Tensor, bf16: bool) -> Tensor:
    """Measure the mean squared error of v per clip and frame (B, N), which is D's error weighted by 1/c_out².

    sigma, kept: (B,); where `kept` is 0 the conditions are zeroed. noise: like the latents.
    """
    level, keep = sigma.view(-1, 1, 1, 1, 1), kept.view(-1, 1, 1, 1)
    x = batch.latents + level * noise
    root = (level**2 + 1).sqrt()
    target = (x / root**2 - batch.latents) * root / level  # F = (D − c_skip·x) / c_out at D = x0
    frames = (keep * batch.image_latents)[:, None].expand(-1, x.shape[1], -1, -1, -1)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        guess = unet(
            torch.cat([x / root, frames], dim=2),
            sigma.log() / 4,
            encoder_hidden_states=keep[:, :, 0] * batch.embeddings,
            added_time_ids=batch.time_ids,
            return_dict=False,
        )[0]
    error: Tensor = (guess.float() - target).square().mean(dim=(2, 3, 4))
    return error


def weighted(error: Tensor, kept: Tensor) -> Tensor:
    """Average (B, N) errors to the loss, the first frame's counting `FIRST` times where the picture is kept."""
    weights = torch.ones_like(error)
    weights[:, 0] += (FIRST - 1) * kept
    return (weights * error).sum() / weights.sum()


def train_unet(
    folder: Path,
    pool: Pool,
    *,
    steps: int,
    minutes: float,
    rate: float,
    half_life: int,
    bf16: bool,
    every: int,
    on_report: Any = None,
) -> Any:
    """Train the UNet on clips of latents.

    `on_report(step, unet)` is called with the averaged weights `every` so many steps.
    """
    unet = networks.unet()
    unet.set_attn_processor(PlainAttention())
    nn.init.zeros_(unet.conv_out.weight)
    loop = Loop(folder, "unet", unet, rate=rate, steps=steps, minutes=minutes, half_life=half_life)
    unet.train()

    def loss(step: int) -> Tensor:
        pool.add(FRESH)
        random = np.random.default_rng([5, step])
        generator = torch.Generator().manual_seed(step)
        batch = pool.batch(random, BATCH)
        kept = torch.from_numpy(random.random(BATCH) >= DROPPED).float()
        noise = torch.randn(batch.latents.shape, generator=generator)
        return weighted(velocity_error(unet, batch, noise_levels(random, BATCH), noise, kept, bf16), kept)

    judged = pool.batch(np.random.default_rng(6), 16)
    still = torch.randn(judged.latents.shape, generator=torch.Generator().manual_seed(7))

    @torch.no_grad()
    def report(step: int, averaged: nn.Module) -> dict[str, float]:
        pool.save()
        numbers = {"pool": float(pool.size)}
        for level in (0.3, 3.0, 30.0, 700.0):
            sigma = torch.full((16,), level)
            error = velocity_error(averaged, judged, sigma, still, torch.ones(16), bf16).mean(dim=0)
            x0_error = (error * level**2 / (level**2 + 1)).sqrt()
            numbers[f"x0_error_{level:g}"] = x0_error.square().mean().sqrt().item()
            numbers[f"first_error_{level:g}"] = x0_error[0].item()
        if on_report is not None:
            on_report(step, averaged)
        return numbers

    return loop.run(loss, report, every=every)
