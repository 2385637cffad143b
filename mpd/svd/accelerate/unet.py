"""SVD's UNet with all exact rewrites: `UNet(diffusers_unet)` gives the same numbers to rounding, sooner.

What does not depend on the sample comes in ready: `times` once per σ, `context` once per image, `positions` once per
number of frames. Pictures are channels-last from the first convolution to the last, so neither a transformer nor a
convolution along time moves a token. What a denoiser makes of it is in mpd/svd/denoiser.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpd.svd.accelerate.normalization import GroupNorm
from mpd.svd.accelerate.residual import ResidualBlock, lay_channels_last
from mpd.svd.accelerate.transformer import Transformer


class Given(NamedTuple):
    """What every level is told beside the sample."""

    frames: int
    times: Tensor
    context: Tensor
    positions: Tensor


class Level(nn.Module):
    """The residual blocks and transformers of one resolution, and the change to the next one."""

    def __init__(self, blocks: list[ResidualBlock], transformers: list[Transformer], sampler: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.transformers = nn.ModuleList(blocks), nn.ModuleList(transformers)
        self.sampler = sampler


class UNet(nn.Module):
    """A diffusers `UNetSpatioTemporalConditionModel` whose modules it takes over: that is not to be used again.

    Raises `ValueError` for a block that is not SVD's.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.config = unet.config
        self._columns = self._context_columns = self._place_columns = 0
        projections: list[nn.Linear] = []
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.add_time_proj, self.add_embedding = unet.add_time_proj, unet.add_embedding
        self.conv_in = unet.conv_in
        self.down: Any = nn.ModuleList(self._level(block, "downsamplers", projections) for block in unet.down_blocks)
        self.middle: Any = self._level(unet.mid_block, None, projections)
        self.up: Any = nn.ModuleList(self._level(block, "upsamplers", projections) for block in unet.up_blocks)
        self.norm_out, self.conv_out = GroupNorm(unet.conv_norm_out, silu=True), unet.conv_out
        self.projection = _side_by_side(projections)
        lay_channels_last(self)

    def _level(self, block: Any, sampler: str | None, projections: list[nn.Linear]) -> Level:
        blocks = []
        for resnet in block.resnets:
            made = ResidualBlock(resnet, self._columns)
            self._columns += made.width
            blocks.append(made)
            projections += [resnet.spatial_res_block.time_emb_proj, resnet.temporal_res_block.time_emb_proj]
        transformers = []
        for model in getattr(block, "attentions", ()):
            transformer = Transformer(model, self._context_columns, self._place_columns)
            self._context_columns += transformer.width
            self._place_columns += transformer.channels
            transformers.append(transformer)
        samplers = (getattr(block, sampler) if sampler else None) or [None]
        return Level(blocks, transformers, samplers[0])

    def times(self, c_noise: Tensor, time_ids: Tensor) -> Tensor:
        """Compute what the noise level and the time ids add in every residual block.

        c_noise (), time_ids (B, 3), to (B, T).
        """
        dtype = self.conv_in.weight.dtype
        videos = len(time_ids)
        emb = self.time_embedding(self.time_proj(c_noise.reshape(1).expand(videos)).to(dtype))
        ids = self.add_time_proj(time_ids.flatten()).reshape(videos, -1).to(dtype)
        result: Tensor = self.projection(F.silu(emb + self.add_embedding(ids)))
        return result

    def context(self, embedding: Tensor) -> Tensor:
        """Compute what the attention to an image adds in every transformer: its CLIP embedding (B, 1, D), to (B, K)."""
        return torch.cat([transformer.context(embedding) for transformer in self._transformers()], dim=1)

    def positions(self, frames: int) -> Tensor:
        """Compute what each frame's number adds in every transformer, (N, P)."""
        like = self.conv_in.weight
        return torch.cat([transformer.positions(frames, like) for transformer in self._transformers()], dim=1)

    def forward(self, sample: Tensor, times: Tensor, context: Tensor, positions: Tensor) -> Tensor:
        """Evaluate F(sample; …): (B, N, 2C, H, W) to (B, N, C, H, W)."""
        return self.keeping(sample, times, context, positions)[0]

    def keeping(self, sample: Tensor, times: Tensor, context: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate as `forward` does, and give for `reusing` what the inner levels made, (B·N, C', H, W)."""
        given = Given(sample.shape[1], times, context, positions)
        outer = self._outer_down(sample, given)
        kept = list(outer)
        for number, level in enumerate(self.down):
            if number > 0:
                _down(level, kept, given)
            if level.sampler is not None:
                kept.append(level.sampler(kept[-1]))
        x = kept[-1]
        first, *others = self.middle.blocks
        x = first(x, times, frames=given.frames)
        for transformer, block in zip(self.middle.transformers, others, strict=True):
            x = block(transformer(x, given.frames, context, positions), times, frames=given.frames)
        for level in self.up[:-1]:
            x = _up(level, x, kept, given)
            if level.sampler is not None:
                x = level.sampler(x, kept[-1].shape[2:])
        return self._outer_up(x, kept, given), x

    def reusing(self, sample: Tensor, times: Tensor, context: Tensor, positions: Tensor, deep: Tensor) -> Tensor:
        """Evaluate the outermost level alone, going by what `keeping` gave for a sample like this one."""
        given = Given(sample.shape[1], times, context, positions)
        return self._outer_up(deep, self._outer_down(sample, given), given)

    def _outer_down(self, sample: Tensor, given: Given) -> list[Tensor]:
        x = sample.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        kept = [self.conv_in(x)]
        _down(self.down[0], kept, given)
        return kept

    def _outer_up(self, x: Tensor, kept: list[Tensor], given: Given) -> Tensor:
        x = self.conv_out(self.norm_out(_up(self.up[-1], x, kept, given)))
        return x.reshape(-1, given.frames, *x.shape[1:])

    def _transformers(self) -> Iterator[Transformer]:
        return (module for module in self.modules() if isinstance(module, Transformer))


def _down(level: Any, kept: list[Tensor], given: Given) -> None:
    """Run the blocks of a level on the way down: each result is kept for the way up."""
    for i in range(len(level.blocks)):
        kept.append(_block(level, i, kept[-1], given))


def _up(level: Any, x: Tensor, kept: list[Tensor], given: Given) -> Tensor:
    for i in range(len(level.blocks)):
        x = _block(level, i, torch.cat([x, kept.pop()], dim=1), given)
    return x


def _block(level: Any, i: int, x: Tensor, given: Given) -> Tensor:
    made: Tensor = level.blocks[i](x, given.times, frames=given.frames)
    if not len(level.transformers):
        return made
    result: Tensor = level.transformers[i](made, given.frames, given.context, given.positions)
    return result


def _side_by_side(projections: list[nn.Linear]) -> nn.Linear:
    """Join linear layers to one with the outputs of all."""
    weight = torch.cat([each.weight for each in projections]).detach()
    made = nn.Linear(weight.shape[1], len(weight), device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    made.bias = nn.Parameter(torch.cat([each.bias for each in projections]).detach(), requires_grad=False)
    return made
