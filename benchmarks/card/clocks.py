"""Seconds and bytes of a call, and what the device can do at best: its own measured ceilings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")

SQUARES = {"cuda": (4096, 8192, 12288), "cpu": (512, 1024)}
"""Sides of the matrices that the ceiling is measured with; the best counts."""
COPIED = {"cuda": 2 << 30, "cpu": 64 << 20}
"""Bytes that are copied from one place of the memory to another."""


@dataclass(frozen=True)
class Timed:
    """What a call took."""

    #: The median.
    seconds: float
    #: Bytes alive at most, weights and all, but for what a CUDA graph keeps for its own replays; 0 without a GPU.
    peak: int


def timed(call: Callable[[], object], device: torch.device, repeats: int) -> Timed:
    """Time `repeats` of a call one by one, after one to warm up."""
    _seconds(call, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = statistics.median(_seconds(call, device) for _ in range(repeats))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Timed(seconds, peak)


def first(call: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """Give what a call gives, and the seconds it took, compiling and all."""
    synchronize(device)
    began = time.perf_counter()
    result = call()
    synchronize(device)
    return result, time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Free what nothing refers to any more, also in caches of compiled code."""
    import gc

    torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def matmul_ceiling(device: torch.device, dtype: torch.dtype, repeats: int = 10) -> float:
    """Measure the operations per second of the best product of two square matrices."""
    rates = []
    for side in SQUARES[device.type]:
        a, b = torch.randn(2, side, side, device=device, dtype=dtype)
        rates.append(2 * side**3 / timed(lambda a=a, b=b: a @ b, device, repeats).seconds)  # type: ignore[misc]
    return max(rates)


def bandwidth(device: torch.device, repeats: int = 10) -> float:
    """Measure the bytes per second read and written by a copy within the device's memory."""
    source = torch.randint(255, (COPIED[device.type],), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / timed(lambda: target.copy_(source), device, repeats).seconds


def card(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    from benchmarks.pages import machine

    return machine()


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    return first(call, device)[1]
