"""Convolutions along time, Conv3d with a kernel of (3, 1, 1), as 2-D ones over (frames, pixels).

A channels-last picture's pixels lie one after the other, so a video of them is a channels-last picture of N rows and
H·W columns as it stands: nothing is moved. cuDNN's 3-D kernels in bfloat16 have been wrong on large inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalConvolution(nn.Module):
    """A Conv3d with a kernel of (k, 1, 1), stride 1 and padding k // 2; its weights are shared. Raises `ValueError`.

    share: what the result is multiplied by, folded into a copy of the weights.
    """

    def __init__(self, convolution: nn.Conv3d, share: float = 1.0) -> None:
        super().__init__()
        size, *flat = convolution.kernel_size
        if flat != [1, 1] or convolution.padding != (size // 2, 0, 0) or convolution.stride != (1, 1, 1):
            raise ValueError(f"not a convolution along time alone: {convolution}")
        self.padding = (size // 2, 0)
        weight, bias = convolution.weight.squeeze(-1), convolution.bias  # (O, I, k, 1)
        if share != 1.0:
            weight, bias = weight * share, None if bias is None else bias * share
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, C, N, H, W), as Conv3d takes it, along time."""
        height, width = x.shape[3:]
        return self._convolve(x.flatten(3)).view(*x.shape[:1], -1, x.shape[2], height, width)

    def pictures(self, x: Tensor, frames: int) -> Tensor:
        """Convolve pictures along time. x: (B·frames, C, H, W) channels-last, and so the result."""
        count, channels, height, width = x.shape
        videos = x.permute(0, 2, 3, 1).reshape(count // frames, frames, height * width, channels)
        y = self._convolve(videos.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, N, H·W, O)
        return y.reshape(count, height, width, y.shape[-1]).permute(0, 3, 1, 2)

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


def rewrite(root: nn.Module) -> int:
    """Replace every convolution along time below `root`; returns how many there were."""
    found = [
        (parent, name, child)
        for parent in root.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv3d) and child.kernel_size[0] > 1
    ]
    for parent, name, child in found:
        setattr(parent, name, TemporalConvolution(child))
    return len(found)


def channels_last(module: TemporalConvolution) -> None:
    """Lay the weights out as channels-last pictures want."""
    module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
