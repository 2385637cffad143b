"""The UNet's largest self-attentions by each of PyTorch's back ends, one by one: which is the fastest on this card.

The model prefers them in the order of `mpd.svd.network.BACKENDS`; where another one is faster here, that
order is wrong for this card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.card import clocks
from benchmarks.card.models import ModelSize
from mpd.svd.accelerate.self_attention import attend
from mpd.svd.network import BACKENDS


@dataclass(frozen=True)
class Shape:
    """Self-attention of the outermost level."""

    #: `pixels` of a frame, or `frames` of a pixel.
    over: str
    sequences: int
    heads: int
    tokens: int
    channels: int

    @property
    def operations(self) -> int:
        return 4 * self.sequences * self.heads * self.tokens**2 * self.channels


def shapes(size: ModelSize) -> list[Shape]:
    """List both kinds of attention for one evaluation of a video of this size."""
    with torch.device("meta"):
        config: Any = UNetSpatioTemporalConditionModel(**size.unet).config
    frames, _, height, width = size.latents
    heads = config.num_attention_heads
    heads = heads if isinstance(heads, int) else heads[0]
    channels = config.block_out_channels[0] // heads
    pixels = height * width
    return [Shape("pixels", frames, heads, pixels, channels), Shape("frames", pixels, heads, frames, channels)]


def timings(size: ModelSize, device: torch.device, dtype: torch.dtype, repeats: int) -> list[dict[str, Any]]:
    """Time each shape and back end, a row each.

    Where it cannot be done here, `seconds` is None and `refused` says why.
    """
    rows = []
    for shape in shapes(size):
        parts = (3, shape.sequences, shape.heads, shape.tokens, shape.channels)
        query, key, value = torch.randn(parts, device=device, dtype=dtype)
        for backend in BACKENDS:
            rows.append(
                {
                    "over": shape.over,
                    "shape": [shape.sequences, shape.heads, shape.tokens, shape.channels],
                    "backend": backend.name.removesuffix("_ATTENTION").lower(),
                    "operations": shape.operations,
                    **_timed(backend, (query, key, value), device, repeats),
                }
            )
        del query, key, value
        clocks.release(device)
    return rows


def _timed(
    backend: SDPBackend, parts: tuple[torch.Tensor, ...], device: torch.device, repeats: int
) -> dict[str, float | str | None]:
    try:
        with sdpa_kernel([backend]):
            return {"seconds": clocks.timed(lambda: attend(*parts), device, repeats).seconds}
    except RuntimeError as error:
        # Back ends and cards word their refusals each in their own way, and none may cost what was measured before.
        clocks.release(device)
        return {"seconds": None, "refused": f"{type(error).__name__}: {error}"}
