"""SVD-XT at full size, or a small likeness of it, with random weights: speed does not depend on their values.

None of them is zero, or one, or a blend by halves as in new modules: a mistake would show, and no kernel has it easier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mpd.schedule import SVD_XT
from mpd.svd.weights import Parts
from mpd.tiny import CLIP_MEAN, CLIP_STD


@dataclass(frozen=True)
class ModelSize:
    """The parts' configurations where they are not diffusers' defaults, and the video: frames, width, height."""

    name: str
    unet: dict[str, Any]
    vae: dict[str, Any]
    clip: dict[str, Any]
    frames: int
    width: int
    height: int

    @property
    def multiple(self) -> int:
        """Pixels along a latent's side."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def latents(self) -> tuple[int, int, int, int]:
        return self.frames, 4, self.height // self.multiple, self.width // self.multiple


FULL = ModelSize(
    name="SVD-XT",
    unet={"num_frames": 25, "sample_size": 96},
    vae={
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
    },
    clip={
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "intermediate_size": 5120,
        "patch_size": 14,
        "projection_dim": 1024,
        "image_size": 224,
    },
    frames=25,
    width=1024,
    height=576,
)
SMALL = ModelSize(
    name="small",
    unet={
        "num_frames": 4,
        "sample_size": 8,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "block_out_channels": (32, 64),
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 96,
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "num_attention_heads": 2,
    },
    vae={"down_block_types": ("DownEncoderBlock2D",) * 4, "block_out_channels": (32,) * 4, "layers_per_block": 1},
    clip={
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "patch_size": 32,
        "projection_dim": 32,
        "image_size": 224,
    },
    frames=4,
    width=128,
    height=64,
)


def unet(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Any:
    """Build the UNet with the same weights at every call, on one device."""
    return _made(lambda: UNetSpatioTemporalConditionModel(**size.unet), device, 0, dtype)


def vae(size: ModelSize, device: torch.device) -> Any:
    """Build the VAE in float32, as it is read from disk."""
    return _made(lambda: AutoencoderKLTemporalDecoder(**size.vae, scaling_factor=0.18215), device, 1, torch.float32)


def image_encoder(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Any:
    return _made(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**size.clip)), device, 2, dtype)


def parts(size: ModelSize, device: torch.device, dtype: torch.dtype, unet_size: ModelSize | None = None) -> Parts:
    """Build a whole model as `mpd.svd.model.Model` takes it.

    unet_size: where the UNet does not matter, a smaller one.
    """
    return Parts(
        unet(unet_size or size, device, dtype),
        vae(size, device),
        image_encoder(unet_size or size, device, dtype),
        schedule=SVD_XT,
        calibration=None,
        image_mean=tuple(CLIP_MEAN),
        image_std=tuple(CLIP_STD),
        revision=None,
        license=None,
    )


def asked(size: ModelSize, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Make what a UNet may be asked in the middle of a job."""
    random = torch.Generator("cpu").manual_seed(3)
    frames, channels, height, width = size.latents
    dimension = size.unet.get("cross_attention_dim", 1024)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(device, dtype)

    return {
        "sample": normal(1, frames, 2 * channels, height, width),
        "timestep": torch.tensor(0.1, device=device),
        "encoder_hidden_states": normal(1, 1, dimension),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]], device=device, dtype=dtype),
    }


def latents(size: ModelSize, device: torch.device) -> Tensor:
    """Make a video's latents, as sampled, scaled: frames that change slowly, (N, C, h, w) float32."""
    random = torch.Generator("cpu").manual_seed(4)
    frames, channels, height, width = size.latents
    first, last = torch.randn(2, 1, channels, height, width, generator=random)
    share = torch.linspace(0, 1, frames).view(-1, 1, 1, 1)
    return torch.lerp(first, last, share).to(device)


def _made(build: Any, device: torch.device, seed: int, dtype: torch.dtype) -> Any:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(seed)
        module = build()
        for name, parameter in module.named_parameters():
            if name.endswith("mix_factor"):
                parameter.data = torch.empty_like(parameter).uniform_(-1.5, 1.5)
            elif parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn(parameter.shape)
    nn.Module.to(module, device, dtype)
    return module.eval().requires_grad_(False)
