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
AT_ONCE = 64
"""Stretches whose statistics are joined at a time."""


@triton.jit
def _gather(
    x, sums, rows, stretches, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, STRETCH: tl.constexpr, ROWS: tl.constexpr
):
    """Compute per channel, of one stretch of one sample, the mean of x and the sum of squares about it."""
    stretch, sample = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
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
def _combine(
    sums,
    weight,
    bias,
    scale,
    shift,
    rows,
    stretches,
    eps,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    STRETCH: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """Compute what the channels of one group of one sample are multiplied by, and what is added then.

    Joins the stretches' variances as Chan, Golub and LeVeque do: nothing large is subtracted from something large.
    """
    group, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, WIDTH)
    inside = channel < GROUP
    base = sums + sample * stretches * 2 * CHANNELS + group * GROUP
    total = 0.0
    for start in range(0, stretches, AT_ONCE):
        stretch = start + tl.arange(0, AT_ONCE)
        mask = (stretch < stretches)[:, None] & inside[None, :]
        count = tl.minimum(rows - stretch * STRETCH, STRETCH).to(tl.float32)
        means = tl.load(base + stretch[:, None] * 2 * CHANNELS + channel[None, :], mask, 0.0)
        total += tl.sum(tl.where(mask, means * count[:, None], 0.0))
    mean = total / (rows * GROUP)
    total = 0.0
    for start in range(0, stretches, AT_ONCE):
        stretch = start + tl.arange(0, AT_ONCE)
        mask = (stretch < stretches)[:, None] & inside[None, :]
        count = tl.minimum(rows - stretch * STRETCH, STRETCH).to(tl.float32)
        place = base + stretch[:, None] * 2 * CHANNELS + channel[None, :]
        distance = tl.load(place, mask, 0.0) - mean
        squares = tl.load(place + CHANNELS, mask, 0.0)
        total += tl.sum(tl.where(mask, squares + count[:, None] * distance * distance, 0.0))
    deviation = tl.sqrt(total / (rows * GROUP) + eps)
    by = tl.load(weight + group * GROUP + channel, inside, 0.0).to(tl.float32) / deviation
    to = tl.load(bias + group * GROUP + channel, inside, 0.0).to(tl.float32) - mean * by
    place = sample * CHANNELS + group * GROUP + channel
    tl.store(scale + place, by, inside)
    tl.store(shift + place, to, inside)


@triton.jit
def _apply(
    x, scale, shift, out, rows, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, SILU: tl.constexpr
):
    """Compute scale · x + shift, channel by channel, and SiLU."""
    block, sample = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
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
    """Do as `mpd.svd.accelerate.normalization.normalize` does: x (S, M, C) contiguous, statistics in float32."""
    samples, rows, channels = x.shape
    x = x.contiguous()
    width = min(1 << (channels - 1).bit_length(), 128)
    across, stretches, blocks = -(-channels // width), -(-rows // STRETCH), -(-rows // ROWS)
    sums = torch.empty(samples, stretches, 2, channels, dtype=torch.float32, device=x.device)
    # Only a grid's first axis may be longer than 65,535.
    _gather[(stretches, samples, across)](x, sums, rows, stretches, channels, width, STRETCH, ROWS)
    scale, shift = torch.empty(2, samples, channels, dtype=torch.float32, device=x.device).unbind()
    size = channels // groups
    own = 1 << (size - 1).bit_length()
    _combine[(groups, samples)](
        sums, weight, bias, scale, shift, rows, stretches, eps, channels, size, own, STRETCH, AT_ONCE
    )
    out = torch.empty_like(x)
    _apply[(blocks, samples, across)](x, scale, shift, out, rows, channels, width, ROWS, silu)
    return out
