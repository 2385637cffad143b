"""Triton kernels. Imported on CUDA alone; in Triton's interpreter (TRITON_INTERPRET=1) they run on the CPU.

Offsets are 64-bit: 25 frames of 1024x576 hold tensors of more than 2³¹ elements.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 64
"""Rows of x that one program reads at a time."""
STRETCH = 1024
"""Rows of x whose statistics one program gathers."""


@triton.jit
def _gather(
    x, sums, rows, stretches, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, STRETCH: tl.constexpr, ROWS: tl.constexpr
):
    """Of one stretch of one sample, per channel: the mean of x and the sum of squares about it."""
    sample, stretch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    inside = channel < CHANNELS
    first = stretch * STRETCH
    count = tl.minimum(rows - first, STRETCH)
    total = tl.zeros((WIDTH,), tl.float32)
    base = x + (sample * rows + first) * CHANNELS
    for start in range(0, STRETCH, ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < count)[:, None] & inside[None, :]
        total += tl.sum(tl.load(base + row[:, None] * CHANNELS + channel[None, :], mask, 0.0).to(tl.float32), 0)
    mean = total / count
    squares = tl.zeros((WIDTH,), tl.float32)
    for start in range(0, STRETCH, ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < count)[:, None] & inside[None, :]
        value = tl.load(base + row[:, None] * CHANNELS + channel[None, :], mask, 0.0).to(tl.float32)
        distance = tl.where(mask, value - mean[None, :], 0.0)
        squares += tl.sum(distance * distance, 0)
    out = sums + (sample * stretches + stretch) * 2 * CHANNELS + channel
    tl.store(out, mean, inside)
    tl.store(out + CHANNELS, squares, inside)


@triton.jit
def _apply(
    x, scale, shift, out, rows, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, SILU: tl.constexpr
):
    """scale · x + shift, channel by channel, and SiLU."""
    sample, block = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    inside = channel < CHANNELS
    row = block * ROWS + tl.arange(0, ROWS)
    mask = (row < rows)[:, None] & inside[None, :]
    place = (sample * rows + row)[:, None] * CHANNELS + channel[None, :]
    by = tl.load(scale + sample * CHANNELS + channel, inside, 0.0)
    to = tl.load(shift + sample * CHANNELS + channel, inside, 0.0)
    y = tl.load(x + place, mask, 0.0).to(tl.float32) * by[None, :] + to[None, :]
    if SILU:
        y = y * tl.sigmoid(y)
    tl.store(out + place, y.to(out.dtype.element_ty), mask)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    """`mpd.accelerate.normalization.normalize`: x (S, M, C) contiguous, statistics in float32."""
    samples, rows, channels = x.shape
    x = x.contiguous()
    width = min(triton.next_power_of_2(channels), 128)
    across = triton.cdiv(channels, width)
    stretches = triton.cdiv(rows, STRETCH)
    sums = torch.empty(samples, stretches, 2, channels, dtype=torch.float32, device=x.device)
    _gather[(samples, stretches, across)](x, sums, rows, stretches, channels, width, STRETCH, ROWS)
    mean, rstd = _combine(sums, rows, groups, eps)
    scale = weight.float() * rstd  # (S, C)
    shift = bias.float() - mean * scale
    out = torch.empty_like(x)
    _apply[(samples, triton.cdiv(rows, ROWS), across)](x, scale, shift, out, rows, channels, width, ROWS, silu)
    return out


def _combine(sums: Tensor, rows: int, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1/deviation of each group, for each of its channels, (S, C); Chan's way to join partial variances."""
    samples, stretches, _, channels = sums.shape
    counts = torch.full((stretches,), float(STRETCH), device=sums.device)
    counts[-1] = rows - (stretches - 1) * STRETCH
    counts = counts[None, :, None, None]  # (1, stretches, 1, 1)
    means, squares = sums.view(samples, stretches, 2, groups, channels // groups).unbind(2)
    total = rows * (channels // groups)
    mean = (counts * means).sum((1, 3), keepdim=True) / total
    variance = (squares + counts * (means - mean) ** 2).sum((1, 3), keepdim=True) / total
    every = (samples, groups, channels // groups)
    mean, rstd = mean[:, 0].expand(every), torch.rsqrt(variance + eps)[:, 0].expand(every)
    return mean.reshape(samples, channels), rstd.reshape(samples, channels)
