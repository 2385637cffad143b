"""GroupNorm and the SiLU after it in one pass over channels-last pictures.

PyTorch's own group_norm makes its result NCHW, and every convolution after it would turn it back.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.Module):
    """`nn.GroupNorm` for channels-last pictures, with or without SiLU, its statistics over `frames` pictures together.

    norm: whose weights are shared. silu: whether SiLU follows.
    """

    def __init__(self, norm: nn.GroupNorm, silu: bool) -> None:
        super().__init__()
        self.groups, self.eps, self.silu = norm.num_groups, norm.eps, silu
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """Normalise x (B·frames, C, H, W), channels-last; the result is like it."""
        pictures, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(pictures // frames, frames * height * width, channels)
        rows = normalize(rows, self.weight, self.bias, self.groups, self.eps, self.silu)
        return rows.view(pictures, height, width, channels).permute(0, 3, 1, 2)


def normalize(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    """Normalise x (S, M, C), contiguous: statistics of each of the S over M and the C / groups channels of a group.

    Triton on CUDA, PyTorch elsewhere; both compute in float32.
    """
    return (plain if x.is_cpu else fused)(x, weight, bias, groups, eps, silu)


@torch.library.custom_op("mpd::group_norm", mutates_args=())
def fused(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    """Normalise by Triton's kernels as `normalize` does; torch.compile takes them as they are."""
    from mpd.svd.accelerate import kernels

    return kernels.group_norm(x, weight, bias, groups, eps, silu)


@fused.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def plain(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    """Normalise in PyTorch's own operations as `normalize` does."""
    samples, rows, channels = x.shape
    grouped = x.float().view(samples, rows, groups, channels // groups)
    variance, mean = torch.var_mean(grouped, dim=(1, 3), correction=0, keepdim=True)
    normal = ((grouped - mean) * torch.rsqrt(variance + eps)).view(samples, rows, channels)
    result = torch.addcmul(bias.float(), normal, weight.float())
    return (F.silu(result) if silu else result).to(x.dtype)


class _Through(nn.Module):
    """Stands where the activation was that a `GroupNorm` now does."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Video(nn.Module):
    """A `GroupNorm` for videos (B, C, N, H, W), whose frames share their statistics."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = GroupNorm(norm, silu=True)

    def forward(self, x: Tensor) -> Tensor:
        videos, channels, frames, height, width = x.shape
        pictures = x.transpose(1, 2).reshape(videos * frames, channels, height, width)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        result: Tensor = self.norm(pictures, frames)
        return result.view(videos, frames, channels, height, width).transpose(1, 2)


def rewrite(root: nn.Module) -> int:
    """Replace both GroupNorms, SiLU included, in every residual block below `root`; returns how many blocks."""
    from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock

    blocks = [module for module in root.modules() if isinstance(module, ResnetBlock2D | TemporalResnetBlock)]
    for block in blocks:
        video = isinstance(block, TemporalResnetBlock)
        for name in ("norm1", "norm2"):
            norm = getattr(block, name)
            setattr(block, name, _Video(norm) if video else GroupNorm(norm, silu=True))
        block.nonlinearity = _Through()
        if block.time_emb_proj is not None:
            block.time_emb_proj = nn.Sequential(nn.SiLU(), block.time_emb_proj)
    return len(blocks)
