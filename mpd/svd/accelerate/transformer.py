"""SVD's transformer over space and then over time, on tokens that stay where the channels-last pictures have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mpd.svd.accelerate.blending import temporal_share
from mpd.svd.accelerate.cross_attention import OneToken
from mpd.svd.accelerate.normalization import GroupNorm
from mpd.svd.accelerate.self_attention import SelfAttention


class Block(nn.Module):
    """One transformer block without its cross-attention, which is a constant of the image. Tokens are (B, N, M, C)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm3, self.ff = block.norm1, block.norm3, block.ff
        self.attention = SelfAttention(block.attn1)


class Transformer(nn.Module):
    """diffusers' `TransformerSpatioTemporalModel`; weights are shared but for the joined ones.

    first: where its columns in the `context` of all transformers begin; place: where those in the `positions` do.
    """

    def __init__(self, model: Any, first: int, place: int) -> None:
        super().__init__()
        self.norm = GroupNorm(model.norm, silu=False)
        self.proj_in: Any
        self.proj_out: Any
        self.proj_in, self.proj_out = model.proj_in, model.proj_out
        self.over_space: Any = nn.ModuleList(Block(block) for block in model.transformer_blocks)
        self.over_time: Any = nn.ModuleList(Block(block) for block in model.temporal_transformer_blocks)
        self.norm_in: Any = nn.ModuleList(block.norm_in for block in model.temporal_transformer_blocks)
        self.ff_in: Any = nn.ModuleList(block.ff_in for block in model.temporal_transformer_blocks)
        pairs = zip(model.transformer_blocks, model.temporal_transformer_blocks, strict=True)
        self.tokens: Any = nn.ModuleList(OneToken(block.attn2) for pair in pairs for block in pair)
        self.time_proj, self.time_pos_embed = model.time_proj, model.time_pos_embed
        self.share = temporal_share(model.time_mixer)
        self.first, self.place, self.channels = first, place, model.in_channels
        self.width = len(self.tokens) * self.channels

    def context(self, embedding: Tensor) -> Tensor:
        """Compute what its layers' attention to the image adds: embedding (B, 1, D) to (B, `width`)."""
        return torch.cat([token.constant(embedding[:, 0]) for token in self.tokens], dim=1)

    def positions(self, frames: int, like: Tensor) -> Tensor:
        """Embed each frame's number, (N, C)."""
        numbers = self.time_proj(torch.arange(frames, device=like.device)).to(like.dtype)
        embedded: Tensor = self.time_pos_embed(numbers)
        return embedded

    def forward(self, x: Tensor, frames: int, context: Tensor, positions: Tensor) -> Tensor:
        """Transform pictures over space and then over time. x: (B·N, C, H, W) channels-last.

        context: (B, K) and positions: (N, P) of all transformers.
        """
        pictures, channels, height, width = x.shape
        shape = (pictures // frames, frames, height * width, channels)
        own = torch.split(context[:, None, None, self.first : self.first + self.width], channels, -1)  # (B, 1, 1, C)
        place = positions[:, None, self.place : self.place + channels]  # (N, 1, C)
        h = self.proj_in(self.norm(x).permute(0, 2, 3, 1).reshape(shape))
        for i, (space, time) in enumerate(zip(self.over_space, self.over_time, strict=True)):
            h = h + space.attention.over_pixels(space.norm1(h)) + own[2 * i]
            h = h + space.ff(space.norm3(h))
            t = h + place
            t = t + self.ff_in[i](self.norm_in[i](t))
            t = t + time.attention.over_frames(time.norm1(t)) + own[2 * i + 1]
            t = t + time.ff(time.norm3(t))
            h = torch.lerp(h, t, self.share)
        result: Tensor = self.proj_out(h).reshape(pictures, height, width, channels).permute(0, 3, 1, 2)
        return result + x
