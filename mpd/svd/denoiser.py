"""D_θ(x; σ): noisy latents in, the estimates of the clean ones out.

The samplers see only `mpd.base.Denoiser`. `SvdDenoiser` puts EDM's preconditioning (Karras et al. 2022, Table 1,
with v-prediction) over SVD's UNet; preconditioning, half precision and the UNet's inputs are known nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Branch(Protocol):
    """The network conditioned on one image, or on none."""

    def __call__(self, sample: Tensor, times: Any, sigma: float) -> Tensor:
        """Evaluate F of a sample (1, N, 2C, H, W), what the network is given: (1, N, C, H, W)."""
        ...


class Network(Protocol):
    """SVD's UNet, as the denoiser asks it: as it is (`Plain`), or accelerated (mpd/svd/network.py)."""

    def branch(self, embedding: Tensor) -> Branch:
        """Make the branch of an image by its embedding (1, 1, D); zeros for none."""
        ...

    def times(self, c_noise: Tensor, time_ids: Tensor) -> Any:
        """Compute what a branch needs of the noise level, c_noise (), and of the time ids, (1, 3)."""
        ...


class Plain:
    """diffusers' `UNetSpatioTemporalConditionModel` as it is."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self._unet = unet

    def branch(self, embedding: Tensor) -> Branch:
        def evaluate(sample: Tensor, times: tuple[Tensor, Tensor], sigma: float) -> Tensor:
            c_noise, time_ids = times
            v: Tensor = self._unet(
                sample, c_noise, encoder_hidden_states=embedding, added_time_ids=time_ids, return_dict=False
            )[0]
            return v

        return evaluate

    def times(self, c_noise: Tensor, time_ids: Tensor) -> tuple[Tensor, Tensor]:
        return c_noise, time_ids


@dataclass(frozen=True)
class Condition:
    """A keyframe as SVD's UNet takes it."""

    #: (C, H, W), the VAE posterior's mode, *not* scaled, of the keyframe with its augmentation noise.
    image_latents: Tensor
    #: (1, 1, D), the CLIP image embedding.
    embedding: Tensor


class SvdDenoiser:
    """SVD's UNet, conditioned on one keyframe.

    network: the UNet. time_ids: (1, 3) fps - 1, motion bucket, noise augmentation strength, as the UNet was trained.
    The conditional and the unconditional estimate are evaluated one after the other: together they would need twice
    the memory and save no time.
    """

    def __init__(self, network: Network, condition: Condition, time_ids: Tensor, dtype: torch.dtype) -> None:
        self._network = network
        self._dtype = dtype
        self._time_ids = time_ids.to(dtype)
        self._image_latents = condition.image_latents.to(dtype)
        embedding = condition.embedding.to(dtype)
        self._conditional, self._unconditional = network.branch(embedding), network.branch(torch.zeros_like(embedding))

    @torch.inference_mode()
    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        c_noise = torch.tensor(0.25 * math.log(sigma), dtype=torch.float32, device=x.device)
        times = self._network.times(c_noise, self._time_ids)
        x0_c = self._estimate(x, sigma, times, self._image_latents, self._conditional)
        if not need_uncond:
            return x0_c, None
        return x0_c, self._estimate(x, sigma, times, torch.zeros_like(self._image_latents), self._unconditional)

    def _estimate(self, x: Tensor, sigma: float, times: Any, image_latents: Tensor, branch: Branch) -> Tensor:
        """Compute D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise)."""
        c_skip = 1 / (sigma**2 + 1)
        c_out = -sigma / math.sqrt(sigma**2 + 1)
        c_in = 1 / math.sqrt(sigma**2 + 1)
        frames = image_latents.expand(len(x), -1, -1, -1)
        sample = torch.cat([(c_in * x).to(self._dtype), frames], dim=1)[None]  # (1, N, 2C, H, W)
        v = branch(sample, times, sigma)[0]
        return c_skip * x + c_out * v.to(x.dtype)
