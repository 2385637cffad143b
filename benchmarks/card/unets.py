"""The UNet in every form that is measured: as it is, each rewrite alone, all together, and the peers' ways.

Every form is the same weights and the same question, so that only time, memory and rounding differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from benchmarks.card import attentions, counts, models
from benchmarks.card.models import ModelSize
from mpd.svd.accelerate import Acceleration, blending, cross_attention, fp8, normalization, self_attention
from mpd.svd.accelerate import temporal_convolution as convolution
from mpd.svd.accelerate.reuse import Interval
from mpd.svd.network import BACKENDS, Accelerated

REWRITES: dict[str, Callable[[nn.Module], int]] = {
    "temporal convolutions as 2-D": convolution.rewrite,
    "query, key, value in one": self_attention.rewrite,
    "attention to one token": cross_attention.rewrite,
    "blends in the weights": blending.rewrite,
    "GroupNorm with SiLU": normalization.rewrite,
}


@dataclass(frozen=True)
class Form:
    """One way to evaluate, ready to be measured."""

    #: One evaluation.
    call: Callable[[], Tensor]
    #: What its first calls are to happen within.
    warming: Callable[[], AbstractContextManager[None]] = nullcontext


Build = Callable[[ModelSize, torch.device, torch.dtype], Form]


def _diffusers(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
    unet, given = models.unet(size, device, dtype), models.asked(size, device, dtype)
    return Form(lambda: unet(**given, return_dict=False)[0])


def _diffusers_compiled(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
    unet, given = models.unet(size, device, dtype), models.asked(size, device, dtype)
    compiled = torch.compile(unet, backend=backend())
    return Form(lambda: compiled(**given, return_dict=False)[0])  # type: ignore[no-untyped-call]


def _autocast(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
    unet, given = models.unet(size, device, torch.float32), models.asked(size, device, torch.float32)

    def call() -> Tensor:
        with torch.autocast(device.type, dtype):
            result: Tensor = unet(**given, return_dict=False)[0]
        return result

    return Form(call)


def _attention(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
    plain = _diffusers(size, device, dtype)

    def call() -> Tensor:
        with sdpa_kernel(BACKENDS, set_priority=True):
            return plain.call()

    return Form(call)


def _alone(rewrite: Callable[[nn.Module], int]) -> Build:
    def build(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
        unet, given = models.unet(size, device, dtype), models.asked(size, device, dtype)
        if not rewrite(unet):
            raise RuntimeError("there is nothing to rewrite")
        return Form(lambda: unet(**given, return_dict=False)[0])

    return build


def _together(level: Acceleration, compiled: bool, reusing: bool = False, mode: str | None = None) -> Build:
    """Make the builder of a UNet with all rewrites together.

    reusing: every evaluation but the first goes by the features that this one kept. mode: of torch.compile.
    """

    def build(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
        unet, given = models.unet(size, device, dtype), models.asked(size, device, dtype)
        interval = Interval(free_above=math.inf, turn=math.pi) if reusing else Interval(free_above=0.0)
        network = Accelerated(unet, level, compiled, interval, mode)
        branch = network.branch(given["encoder_hidden_states"])
        if reusing:
            with network.warming_up():
                branch(given["sample"], network.times(given["timestep"], given["added_time_ids"]), 2.0)

        def call() -> Tensor:
            times = network.times(given["timestep"], given["added_time_ids"])
            result = branch(given["sample"], times, 1.0)
            # A CUDA graph writes its next result over this one, so whoever uses them has to copy too.
            return result if mode is None else result.clone()

        return Form(call, network.warming_up if compiled else nullcontext)

    return build


FORMS: dict[str, Build] = {
    "diffusers": _diffusers,
    "diffusers, compiled": _diffusers_compiled,
    "reference: autocast": _autocast,
    "attention back end": _attention,
    **{name: _alone(rewrite) for name, rewrite in REWRITES.items()},
    "together": _together("exact", compiled=False),
    "together, compiled": _together("exact", compiled=True),
    "together, compiled, CUDA graph": _together("exact", compiled=True, mode="reduce-overhead"),
    "feed-forwards in fp8": _alone(fp8.rewrite),
    "max, compiled, whole": _together("max", compiled=True),
    "max, compiled, reused": _together("max", compiled=True, reusing=True),
}
COMPILED = tuple(name for name in FORMS if "compiled" in name)


def there(name: str, device: torch.device) -> bool:
    """Tell whether a form can run on a device."""
    return name != "feed-forwards in fp8" or device.type == "cpu" or fp8.has_fp8(device)


def more(size: ModelSize, device: torch.device, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Time attention by each back end."""
    return {"attention": attentions.timings(size, device, dtype, repeats)}


def truth(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Give the untouched UNet's answer in float32, products too, to the question rounded to `dtype`."""
    unet, given = models.unet(size, device, torch.float32), models.asked(size, device, dtype)
    with whole_float32():
        result: Tensor = unet(**{name: value.float() for name, value in given.items()}, return_dict=False)[0]
    return result.cpu()


def counted(size: ModelSize, dtype: torch.dtype) -> dict[str, counts.Counted]:
    """Count the eager work of diffusers' UNet and of all rewrites together."""
    return {
        "diffusers": counts.count(_on_meta(size, dtype, False)),
        "together": counts.count(_on_meta(size, dtype, True)),
    }


def _on_meta(size: ModelSize, dtype: torch.dtype, together: bool) -> Callable[[], object]:
    """Prepare one evaluation where nothing is computed."""
    with torch.device("meta"):
        unet: Any = UNetSpatioTemporalConditionModel(**size.unet).eval()
    nn.Module.to(unet, dtype)
    given = {key: value.to("meta") for key, value in models.asked(size, torch.device("cpu"), dtype).items()}
    if not together:
        unet.to("meta")
        return lambda: unet(**given, return_dict=False)
    network = Accelerated(unet, "exact", compiled=False)
    branch = network.branch(given["encoder_hidden_states"])
    times = network.times(given["timestep"], given["added_time_ids"])
    return lambda: branch(given["sample"], times, 1.0)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Switch TF32 off, which rounds as bfloat16 does."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def backend() -> Any:
    from mpd.svd.accelerate import compilation

    return compilation.BACKEND
