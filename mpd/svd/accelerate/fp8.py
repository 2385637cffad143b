"""Linear layers in 8-bit floating point: approximate. Every row of the input and of the weight has its own scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
MULTIPLE = 16
"""The matrix units take sides that are multiples of this."""


class Fp8Linear(nn.Module):
    """`nn.Linear` with weight and input rounded to e4m3, products summed in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantize(linear.weight.detach())
        self.weight, self.scale = nn.Buffer(weight), nn.Buffer(scale.T.contiguous())  # (O, I), (1, O)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = quantize(x.flatten(0, -2))
        # Row-wise scales want bfloat16 results.
        y: Tensor = torch._scaled_mm(rows, self.weight.T, scale_a=scale, scale_b=self.scale, out_dtype=torch.bfloat16)
        y = y.to(x.dtype).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize (R, C) to e4m3 and give the float32 scale of each row, (R, 1); a row of zeros keeps the scale 1."""
    largest = x.abs().amax(1, keepdim=True).float()
    scale = torch.where(largest > 0, largest / LARGEST, 1.0)
    return (x.float() / scale).to(E4M3), scale


def has_fp8(device: torch.device) -> bool:
    """Tell whether the matrix units of a device know e4m3: compute capability 8.9 and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def rewrite(root: nn.Module) -> int:
    """Replace the linear layers of every feed-forward below `root`; returns how many there were.

    They hold a third of SVD's products.
    """
    from diffusers.models.attention import FeedForward

    found = [
        (parent, name, child)
        for block in root.modules()
        if isinstance(block, FeedForward)
        for parent in block.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child.in_features % MULTIPLE == 0 and child.out_features % MULTIPLE == 0
    ]
    for parent, name, child in found:
        setattr(parent, name, Fp8Linear(child))
    return len(found)
