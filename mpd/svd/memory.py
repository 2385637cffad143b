"""What SVD needs of a card's memory, known before anything is on it: its modules run on torch's meta device.

Counted is every tensor that is alive while they run as they do on CUDA for a size that was not compiled; compiled code
keeps fewer. Left out are CUDA's own context, the workspaces of its kernels, and what the allocator cannot hand out
again; `RUNTIME` and `SLACK` stand for them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpd.base import ModelError, Room
from mpd.svd.accelerate import Acceleration, fp8
from mpd.svd.weights import Parts

RUNTIME = 1_000_000_000
"""Bytes that CUDA, cuDNN and cuBLAS take for themselves. An estimate on the safe side."""

SLACK = 1.5
"""What the counted activations are multiplied by for workspaces and for what the allocator keeps. An estimate."""

PROBE = (8, 512, 512)
"""Frames, width and height that are counted. Activations grow with the number of pixels, which a test holds them to."""

LEAST_SIDE = 64
"""Pixels along the sides of the smallest video that a card must hold to be of use."""

MULTIPLE = 8
"""Pixels along a latent's side."""


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the tensors made while it is on, within `torch.inference_mode`: alive now, and at the peak.

    In that mode attention is one operation here as it is on a GPU, and keeps no matrix of all pairs.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(made):
            if tensor.untyped_storage()._cdata not in given:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def peak(work: Callable[[], object]) -> int:
    """Count the bytes of the tensors that `work` has alive at most, without those there before."""
    alive = Alive()
    with torch.inference_mode(), alive:
        work()
    return alive.peak


def bytes_of(module: nn.Module) -> int:
    """Count the bytes of a module's weights."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a model needs of a card."""

    #: Of all parts.
    weights: int
    #: Of activations for each pixel of each frame of a segment, while the UNet is evaluated.
    sampling: float
    #: Of activations for each pixel, while one picture is encoded or a frame decoded by itself.
    picture: float

    def total(self, frames: int, width: int, height: int) -> int:
        """Count the bytes of a card that a segment needs."""
        pixels = width * height
        return round(self._fixed + SLACK * max(self.sampling * frames, self.picture) * pixels)

    def room(self, card: int) -> Room:
        """Tell what a card of so many bytes in all has room for. Zero where it does not even hold the weights."""
        left = max(0, card - self._fixed) / SLACK
        return Room(int(left / self.picture), int(left / self.sampling))

    @property
    def _fixed(self) -> int:
        return RUNTIME + self.weights


def room_on(device: torch.device, parts: Parts, dtype: torch.dtype, level: Acceleration) -> Room:
    """Tell what a CUDA device has room for with a model that was read and is not there yet, if nothing else is.

    Raises `ModelError` where not even the smallest video fits beside the weights.
    """
    card = torch.cuda.mem_get_info(device)[1]
    has_fp8 = level == "max" and fp8.has_fp8(device)
    encoder = bytes_of(parts.image_encoder)
    needed = need(parts.unet.config, parts.vae.config, encoder, dtype, level, has_fp8)
    least = needed.total(parts.unet.config.num_frames, LEAST_SIDE, LEAST_SIDE)
    if least > card:
        raise ModelError(f"needs {least / 1e9:.1f} GB for the smallest video, and {device} has {card / 1e9:.1f} GB")
    return needed.room(card)


def need(
    unet_config: Any, vae_config: Any, image_encoder: int, dtype: torch.dtype, level: Acceleration, has_fp8: bool
) -> MemoryNeed:
    """Count what a model needs by the configurations of its parts, which are built where nothing is held.

    image_encoder: bytes of its weights. has_fp8: whether the card has it, which `max` uses.
    """
    from diffusers import AutoencoderKLTemporalDecoder

    from mpd.svd.accelerate import decoder

    with torch.device("meta"):
        vae = AutoencoderKLTemporalDecoder.from_config(vae_config).eval()
    vae.decoder.to(dtype)
    if level != "off":
        decoder.rewrite(vae.decoder)
    unet, sampling = _sampling(unet_config, dtype, level, has_fp8)
    return MemoryNeed(bytes_of(unet) + bytes_of(vae) + image_encoder, sampling, _picture(vae.to("meta"), dtype))


def _sampling(config: Any, dtype: torch.dtype, level: Acceleration, has_fp8: bool) -> tuple[nn.Module, float]:
    """Build the UNet as it will be, without its weights, and count the bytes of a call for each pixel of each frame."""
    from diffusers import UNetSpatioTemporalConditionModel

    from mpd.svd.denoiser import Condition, Network, Plain, SvdDenoiser
    from mpd.svd.network import Accelerated

    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel.from_config(config).eval()
    nn.Module.to(unet, dtype)  # diffusers' own warns of nothing
    network: Network
    if level == "off":
        network = Plain(unet.to("meta"))
    else:
        network = accelerated = Accelerated(unet, level)
        unet = accelerated.unet
        if level == "max" and has_fp8:
            fp8.rewrite(unet)
    frames, width, height = PROBE
    with torch.device("meta"):
        x = torch.empty(frames, config["out_channels"], height // MULTIPLE, width // MULTIPLE)
        condition = Condition(x[0], torch.empty(1, 1, config["cross_attention_dim"]))
        denoiser = SvdDenoiser(network, condition, torch.empty(1, 3), dtype)
    alive = Alive()
    with torch.inference_mode(), alive:
        denoiser(x, 1.0, need_uncond=False)
        kept = alive.now  # of one branch; a job has up to four
    return unet, (alive.peak + 3 * kept) / (frames * width * height)


def _picture(vae: Any, dtype: torch.dtype) -> float:
    """Count the bytes for each pixel of one picture that is encoded in float32, or of one frame that is decoded."""
    _, width, height = PROBE
    pixels = torch.empty(1, 3, height, width, device="meta")
    encoding = peak(lambda: vae.encode(pixels))
    z = torch.empty(1, vae.config.latent_channels, height // MULTIPLE, width // MULTIPLE, dtype=dtype, device="meta")
    decoding = peak(lambda: vae.decode(z, num_frames=1).sample.float())
    return max(encoding, decoding) / (width * height)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
