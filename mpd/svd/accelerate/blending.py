"""The blends of spatial and temporal features, folded into the weights before them.

A residual block along time gives x + h(x), blended with x by α: α x + (1 − α)(x + h) = x + (1 − α) h. So the last
convolution is multiplied by 1 − α, and nothing is left to blend.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def temporal_share(blender: Any) -> float:
    """Read 1 − α of a diffusers `AlphaBlender` for videos."""
    factor = blender.mix_factor.detach().float().cpu()
    alpha = float(factor if blender.merge_strategy == "fixed" else torch.sigmoid(factor))
    return alpha if blender.switch_spatial_to_temporal_mix else 1 - alpha


class _Blended(nn.Module):
    """Stands where an `AlphaBlender` was whose share is in the weights already."""

    def forward(self, x_spatial: Tensor, x_temporal: Tensor, image_only_indicator: Tensor | None = None) -> Tensor:
        return x_temporal


def rewrite(root: nn.Module) -> int:
    """Fold the blend of every residual block below `root` into weights of its own; returns how many there were."""
    from diffusers.models.resnet import SpatioTemporalResBlock

    blocks = [module for module in root.modules() if isinstance(module, SpatioTemporalResBlock)]
    for block in blocks:
        share, last = temporal_share(block.time_mixer), block.temporal_res_block.conv2
        for name in ("weight", "bias"):
            setattr(last, name, nn.Parameter(getattr(last, name).detach() * share, requires_grad=False))
        block.time_mixer = _Blended()
    return len(blocks)
