"""D_θ(x; σ): noisy latents in, the estimates of the clean ones out.

The samplers see only the `Denoiser` protocol. `SvdDenoiser` puts EDM's preconditioning (Karras et al. 2022, Table 1,
with v-prediction) over SVD's UNet; preconditioning, half precision and the UNet's inputs are known nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Denoiser(Protocol):
    """E[x0 | x0 + σn = x] for one conditioning frame."""

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        """x: (N, C, H, W) at noise level sigma > 0. Gives (x̂0_c, x̂0_∅), shaped like x.

        x̂0_∅ may be None when it is not needed.
        """
        ...


@dataclass(frozen=True)
class Condition:
    """A keyframe as SVD's UNet takes it.

    image_latents: (C, H, W), the VAE posterior's mode, *not* scaled, of the keyframe with its augmentation noise.
    embedding: (1, 1, D), the CLIP image embedding.
    """

    image_latents: Tensor
    embedding: Tensor


class SvdDenoiser:
    """SVD's UNet, conditioned on one keyframe.

    time_ids: (1, 3) fps - 1, motion bucket, noise augmentation strength, as the UNet was trained.
    The conditional and the unconditional estimate are evaluated one after the other: together they would need twice
    the memory and save no time.
    """

    def __init__(self, unet: torch.nn.Module, condition: Condition, time_ids: Tensor, dtype: torch.dtype) -> None:
        self._unet = unet
        self._dtype = dtype
        self._time_ids = time_ids.to(dtype)
        self._image_latents = condition.image_latents.to(dtype)
        self._embedding = condition.embedding.to(dtype)

    @torch.inference_mode()
    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        x0_c = self._estimate(x, sigma, self._image_latents, self._embedding)
        if not need_uncond:
            return x0_c, None
        nothing = torch.zeros_like(self._image_latents), torch.zeros_like(self._embedding)
        return x0_c, self._estimate(x, sigma, *nothing)

    def _estimate(self, x: Tensor, sigma: float, image_latents: Tensor, embedding: Tensor) -> Tensor:
        """D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise)."""
        c_skip = 1 / (sigma**2 + 1)
        c_out = -sigma / math.sqrt(sigma**2 + 1)
        c_in = 1 / math.sqrt(sigma**2 + 1)
        c_noise = torch.tensor(0.25 * math.log(sigma), dtype=torch.float32, device=x.device)
        frames = image_latents.expand(len(x), -1, -1, -1)
        model_input = torch.cat([(c_in * x).to(self._dtype), frames], dim=1)[None]  # (1, N, 2C, H, W)
        v: Tensor = self._unet(
            model_input, c_noise, encoder_hidden_states=embedding, added_time_ids=self._time_ids, return_dict=False
        )[0][0]
        return c_skip * x + c_out * v.to(x.dtype)
