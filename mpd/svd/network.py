"""The accelerated UNet as the denoiser asks it (`mpd.svd.denoiser.Network`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mpd.svd.accelerate import Acceleration, fp8
from mpd.svd.accelerate.compilation import Compiled
from mpd.svd.accelerate.reuse import Features, Interval
from mpd.svd.accelerate.unet import UNet
from mpd.svd.denoiser import Branch

BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""Of attention, the fastest first on Hopper; each is taken where it can."""


class Accelerated:
    """A diffusers UNet with every rewrite of a level; it is taken over, and not to be used again.

    compiled: by torch.compile, for the sizes seen while warming up. interval: for how long features serve, of `max`.
    mode: torch.compile's; with `reduce-overhead`, which is CUDA graphs, each result is written over the one before it.
    """

    def __init__(
        self,
        unet: Any,
        level: Acceleration,
        compiled: bool | None = None,
        interval: Interval | None = None,
        mode: str | None = None,
    ) -> None:
        self.unet = UNet(unet).eval()
        device = self.unet.conv_in.weight.device
        self.reuses, self._interval = level == "max", interval or Interval()
        if level == "max" and fp8.has_fp8(device):
            fp8.rewrite(self.unet)
        self._cuda = device.type == "cuda"
        wanted = self._cuda if compiled is None else compiled
        names = ("keeping", "reusing") if self.reuses else ("forward",)
        functions = {name: getattr(self.unet, name) for name in names}
        self._parts = {name: Compiled(one, mode=mode) if wanted else one for name, one in functions.items()}
        self._positions = lru_cache(maxsize=8)(self.unet.positions)

    def branch(self, embedding: Tensor) -> Branch:
        with torch.inference_mode():
            context = self.unet.context(embedding)
        features = Features(self._interval)

        def evaluate(sample: Tensor, times: Tensor, sigma: float) -> Tensor:
            inputs = (sample, times, context, self._positions(sample.shape[1]))
            with sdpa_kernel(BACKENDS, set_priority=True) if self._cuda else nullcontext():
                if not self.reuses:
                    v: Tensor = self._parts["forward"](*inputs)
                    return v
                shape = tuple(sample.shape)
                if features.usable(sigma, shape):
                    v = self._parts["reusing"](*inputs, features.deep)
                else:
                    v, deep = self._parts["keeping"](*inputs)
                    features.keep(deep, sigma, shape)
                return v

        return evaluate

    def times(self, c_noise: Tensor, time_ids: Tensor) -> Tensor:
        return self.unet.times(c_noise, time_ids)

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Compile for the sizes seen within the block."""
        with ExitStack() as stack:
            for part in self._parts.values():
                if isinstance(part, Compiled):
                    stack.enter_context(part.warming_up())
            yield
