"""Pictures as tensors, and how far two of them are apart. Knows nothing of models."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Bring pictures (N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Measure the PSNR in dB, (N,), between pictures (N, C, H, W) in [-1, 1], clamped to it."""
    squared = (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(4 / squared.clamp_min(1e-10))
