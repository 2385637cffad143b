"""The VAE's decoder in every form that is measured, and what chunks cost. See benchmarks/card/unets.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.card import clocks, counts, models
from benchmarks.card.models import ModelSize
from benchmarks.card.unets import Build, Form, backend, whole_float32
from mpd.svd.accelerate import blending, decoder, normalization
from mpd.svd.accelerate import temporal_convolution as convolution
from mpd.svd.accelerate.compilation import Compiled
from mpd.svd.model import Model

REWRITES: dict[str, Callable[[nn.Module], int]] = {
    "temporal convolutions as 2-D": convolution.rewrite,
    "blends in the weights": blending.rewrite,
    "GroupNorm with SiLU": normalization.rewrite,
}
REFERENCE_CHUNK = 4


def _half(size: ModelSize, device: torch.device, dtype: torch.dtype) -> tuple[Any, Tensor]:
    """Make the VAE with its decoder in `dtype`, and latents as it takes them."""
    vae = models.vae(size, device)
    vae.decoder.to(dtype)
    return vae, (models.latents(size, device) / vae.config.scaling_factor).to(dtype)


def _decode(vae: Any, z: Tensor) -> Tensor:
    frames: Tensor = vae.decode(z, num_frames=len(z)).sample
    return frames


def _diffusers(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
    vae, z = _half(size, device, dtype)
    return Form(lambda: _decode(vae, z))


def _diffusers_compiled(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
    vae, z = _half(size, device, dtype)
    vae.decoder = torch.compile(vae.decoder, backend=backend())
    return Form(lambda: _decode(vae, z))


def _reference(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
    vae, z = _half(size, device, torch.float32)
    return Form(lambda: torch.cat([_decode(vae, part) for part in torch.split(z, REFERENCE_CHUNK)]))


def _alone(rewrite: Callable[[nn.Module], int]) -> Build:
    def build(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
        vae, z = _half(size, device, dtype)
        if not rewrite(vae.decoder):
            raise RuntimeError("there is nothing to rewrite")
        return Form(lambda: _decode(vae, z))

    return build


def _together(compiled: bool) -> Build:
    def build(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Form:
        vae, z = _half(size, device, dtype)
        decoder.rewrite(vae.decoder)
        if not compiled:
            return Form(lambda: _decode(vae, z))
        forward = vae.decoder.forward = Compiled(vae.decoder.forward)
        return Form(lambda: _decode(vae, z), forward.warming_up)

    return build


FORMS: dict[str, Build] = {
    "diffusers": _diffusers,
    "diffusers, compiled": _diffusers_compiled,
    f"reference: float32, {REFERENCE_CHUNK} at a time": _reference,
    **{name: _alone(rewrite) for name, rewrite in REWRITES.items()},
    "together": _together(compiled=False),
    "together, compiled": _together(compiled=True),
}
COMPILED = tuple(name for name in FORMS if "compiled" in name)


def truth(size: ModelSize, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Decode by the untouched decoder in float32, all frames together, latents rounded to `dtype`."""
    vae, z = _half(size, device, torch.float32)
    with whole_float32():
        return _decode(vae, z.to(dtype).float()).cpu()


def counted(size: ModelSize, dtype: torch.dtype) -> dict[str, counts.Counted]:
    """Count the eager work of diffusers' decoder and of all rewrites together."""
    from diffusers import AutoencoderKLTemporalDecoder

    made = {}
    for name in ("diffusers", "together"):
        with torch.device("meta"):
            vae: Any = AutoencoderKLTemporalDecoder(**size.vae).eval()
            z = torch.empty(size.latents, dtype=dtype)
        vae.decoder.to(dtype)
        if name == "together":
            decoder.rewrite(vae.decoder)
        vae.to("meta")
        made[name] = counts.count(lambda vae=vae, z=z: _decode(vae, z))  # type: ignore[misc]
    return made


def more(size: ModelSize, device: torch.device, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Measure what decoding in chunks costs, and how far it is from the longest chunk that fits.

    The distance is in grey levels of 255.
    """
    model = Model(models.parts(size, device, dtype, unet_size=models.SMALL), "random", device, dtype, "exact")
    z, whole, rows = models.latents(size, device), None, []
    for chunk in sorted({size.frames, -(-size.frames // 2), -(-size.frames // 3), min(4, size.frames)}, reverse=True):
        try:
            timing = clocks.timed(lambda chunk=chunk: model.decode(z, chunk=chunk), device, repeats)  # type: ignore[misc]
        except torch.OutOfMemoryError:
            clocks.release(device)
            continue
        frames = model.decode(z, chunk=chunk).astype(float)
        whole = frames if whole is None else whole
        apart = np.abs(frames - whole)
        row = {"chunk": chunk, "seconds": timing.seconds, "peak": timing.peak}
        rows.append({**row, "mean": float(apart.mean()), "most": float(apart.max())})
    return {"chunks": rows}
