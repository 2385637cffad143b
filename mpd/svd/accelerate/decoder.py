"""The decoder of SVD's VAE with the exact rewrites that fit it, in place."""

from __future__ import annotations

from typing import Any

from torch import nn

from mpd.svd.accelerate.normalization import GroupNorm
from mpd.svd.accelerate.residual import ResidualBlock, lay_channels_last
from mpd.svd.accelerate.temporal_convolution import rewrite as rewrite_convolutions


def rewrite(decoder: Any) -> int:
    """Change diffusers' `TemporalDecoder` where it stands; returns how many residual blocks it has.

    Its pictures become channels-last with the first convolution.
    """
    from diffusers.models.resnet import SpatioTemporalResBlock

    found = [
        (parent, name, child)
        for parent in decoder.modules()
        for name, child in parent.named_children()
        if isinstance(child, SpatioTemporalResBlock)
    ]
    for parent, name, child in found:
        setattr(parent, name, ResidualBlock(child))
    rewrite_convolutions(decoder)
    decoder.conv_norm_out, decoder.conv_act = GroupNorm(decoder.conv_norm_out, silu=True), nn.Identity()
    lay_channels_last(decoder)
    return len(found)
