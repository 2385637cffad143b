"""A UNet and a decoder of SVD's architecture with random weights, none of them where a mistake would not show."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import Tensor

FRAMES = 5
DIMENSION = 32
"""Of the image's embedding."""


def restless(module: torch.nn.Module) -> None:
    """New modules scale by one, shift by nothing and blend by halves; this one does not."""
    for name, parameter in module.named_parameters():
        if name.endswith("mix_factor"):
            parameter.data = torch.empty_like(parameter).uniform_(-1.5, 1.5)
        elif parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)


@pytest.fixture(scope="session")
def original() -> Any:
    """Three levels, the widths of two of them equal, with and without transformers."""
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * 2 + ("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 2,
        block_out_channels=(32, 64, 64),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=DIMENSION,
        num_attention_heads=(2, 4, 4),
        num_frames=FRAMES,
    )
    restless(unet)
    return unet.eval()


@pytest.fixture(scope="session")
def autoencoder() -> Any:
    torch.manual_seed(1)
    made = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 64), layers_per_block=1, sample_size=16
    )
    restless(made)
    return made.eval()


@pytest.fixture
def unet(original: Any) -> Any:
    """A copy to rewrite."""
    return copy.deepcopy(original)


def asked(batch: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What a UNet may be asked."""
    torch.manual_seed(batch + height)
    return {
        "sample": torch.randn(batch, FRAMES, 8, height, width).to(dtype),
        "timestep": torch.tensor(1.3),
        "encoder_hidden_states": torch.randn(batch, 1, DIMENSION).to(dtype),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]]).repeat(batch, 1).to(dtype),
    }


def error(got: Tensor, truth: Tensor) -> float:
    """Relative, in the root of the sum of squares."""
    return float((got.double() - truth.double()).norm() / truth.double().norm())
