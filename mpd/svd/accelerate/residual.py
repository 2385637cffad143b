"""SVD's residual block over space and then over time, for channels-last pictures, its blend folded away."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mpd.svd.accelerate.blending import temporal_share
from mpd.svd.accelerate.normalization import GroupNorm
from mpd.svd.accelerate.temporal_convolution import TemporalConvolution, channels_last


class ResidualBlock(nn.Module):
    """diffusers' `SpatioTemporalResBlock`; weights are shared but for the folded and the re-laid ones.

    What σ and the conditioning add to both halves comes ready, as columns `first` to `first + width` of the `times` of
    all blocks, the spatial half's and then the temporal half's. `width` is 0 for the VAE's, which are told no time.
    """

    def __init__(self, block: Any, first: int = 0) -> None:
        super().__init__()
        space, time = block.spatial_res_block, block.temporal_res_block
        if space.upsample or space.downsample or space.time_embedding_norm != "default" or time.conv_shortcut:
            raise ValueError(f"not one of SVD's residual blocks: {block}")
        self.norm1, self.norm2 = GroupNorm(space.norm1, silu=True), GroupNorm(space.norm2, silu=True)
        self.conv1, self.conv2 = space.conv1, space.conv2
        self.shortcut = space.conv_shortcut
        self.over_time1, self.over_time2 = GroupNorm(time.norm1, silu=True), GroupNorm(time.norm2, silu=True)
        self.along1 = TemporalConvolution(time.conv1)
        self.along2 = TemporalConvolution(time.conv2, temporal_share(block.time_mixer))
        self.first, self.channels = first, space.conv1.out_channels
        self.width = 0 if space.time_emb_proj is None else 2 * self.channels
        lay_channels_last(self)

    def forward(
        self,
        hidden_states: Tensor,
        temb: Tensor | None = None,
        image_only_indicator: Tensor | None = None,
        frames: int | None = None,
    ) -> Tensor:
        """Compute the block over space and then over time, as diffusers' UNet and VAE call it.

        hidden_states: (B·N, C, H, W). temb: (B, T), the `times` of all blocks. frames: N.
        diffusers' VAE says N by the shape of `image_only_indicator`, (B, N).
        """
        count = image_only_indicator.shape[-1] if frames is None and image_only_indicator is not None else frames or 1
        space, time = (None, None) if temb is None else self._times(temb, count)
        h = self.conv1(self.norm1(hidden_states))
        h = h if space is None else h + space
        h = self.conv2(self.norm2(h))
        x: Tensor = (hidden_states if self.shortcut is None else self.shortcut(hidden_states)) + h
        h = self.along1.pictures(self.over_time1(x, count), count)
        h = h if time is None else h + time
        return x + self.along2.pictures(self.over_time2(h, count), count)

    def _times(self, times: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Pick what is added in each half, (B·N, C, 1, 1), out of the `times` of all blocks."""
        own = times[:, self.first : self.first + self.width].repeat_interleave(frames, 0)[..., None, None]
        return own[:, : self.channels], own[:, self.channels :]


def lay_channels_last(root: nn.Module) -> None:
    """Lay every 2-D convolution below `root` out as channels-last pictures want; values stay."""
    for module in root.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        elif isinstance(module, TemporalConvolution):
            channels_last(module)
