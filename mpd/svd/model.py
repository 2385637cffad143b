"""Stable Video Diffusion as a base model: loaded once, it turns keyframes into conditions and latents into frames.

Its diffusers layout is the one known here: a folder, or a hub id such as
`stabilityai/stable-video-diffusion-img2vid-xt` as it stands. What the samplers do with a denoiser is not known here.

Precision: the UNet, the image encoder and the VAE's decoder run in the model's dtype; the VAE's encoder always in
float32, because SVD's overflows in half precision; latents stay float32.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mpd.base import ModelError, Room
from mpd.methods import LIMITS
from mpd.progress import Frames, Pictures
from mpd.svd import memory, weights
from mpd.svd.accelerate import ACCELERATIONS, Acceleration
from mpd.svd.denoiser import Condition, Plain, SvdDenoiser

if TYPE_CHECKING:
    from mpd.svd.network import Accelerated

CPU_DECODE_BUDGET = 8e9
"""Bytes of activations that one decoded chunk may take without a GPU."""

SHARE_OF_FREE = 0.75
"""Of a GPU's free memory, what a decoded chunk may take."""

DECODE_OVERLAP = 2
"""Frames that neighbouring chunks have in common, of chunks that are long enough; the one fades into the other."""

TENSORS_PER_FRAME = 6
"""Full-size feature maps alive at the decoder's widest point: the block's input, the normalised and the activated one,
the convolution's output and workspace, and the residual. An estimate on the safe side."""


@dataclass(frozen=True)
class SvdKeyframe:
    """A keyframe as SVD sees it, before any noise."""

    #: (3, H, W) float32 in [-1, 1].
    pixels: Tensor
    #: (C, h, w) float32, scaled latent.
    z: Tensor
    #: (1, 1, D), CLIP's.
    embedding: Tensor


class Model:
    """Hold SVD's parts on one device, as `mpd.base.Base` asks for them.

    acceleration: of the UNet and the decoder. A latent is a frame's alone, so that they may be reversed in time.
    """

    reversible = True
    max_frames = int(LIMITS["frames"].high)

    def __init__(
        self,
        parts: weights.Parts,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        acceleration: Acceleration = "off",
        room: Room | None = None,
    ) -> None:
        self.name = name
        self.revision = parts.revision
        self.license = parts.license
        self.device = device
        self.dtype = dtype
        self.room = room
        self.unet: Any = parts.unet.to(device).eval()
        self.image_encoder: Any = parts.image_encoder.to(device).eval()
        self.vae: Any = parts.vae.to(device).eval()
        self.vae.decoder.to(dtype)
        self.acceleration = acceleration
        self._accelerated: Accelerated | None = None
        if acceleration != "off":
            self._accelerate()
        self._image_mean, self._image_std = parts.image_mean, parts.image_std
        self.schedule = parts.schedule
        self.calibration = parts.calibration
        self._scale = float(self.vae.config.scaling_factor)
        self.size_multiple = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.latent_channels = int(self.vae.config.latent_channels)
        self.native_frames = int(self.unet.config.num_frames)
        self.native_size = _native_size(self.unet.config.sample_size, self.size_multiple)
        self._colours: Tensor | None = None
        self._fitting = threading.Lock()

    def _accelerate(self) -> None:
        from mpd.svd.accelerate import decoder
        from mpd.svd.accelerate.compilation import Compiled
        from mpd.svd.network import Accelerated

        self._accelerated = Accelerated(self.unet, self.acceleration)
        self.unet = self._accelerated.unet
        decoder.rewrite(self.vae.decoder)
        if self.compiles:
            self.vae.decoder.forward = Compiled(self.vae.decoder.forward)

    @property
    def compiles(self) -> bool:
        """Whether `warming_up` makes a difference."""
        return self.acceleration != "off" and self.device.type == "cuda"

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Compile for the sizes that are sampled and decoded within the block, which takes minutes.

        Later sizes are not compiled.
        """
        with ExitStack() as stack:
            if self._accelerated is not None:
                stack.enter_context(self._accelerated.warming_up())
            if self.compiles:
                stack.enter_context(self.vae.decoder.forward.warming_up())
            yield

    @torch.inference_mode()
    def keyframe(self, picture: Pictures) -> SvdKeyframe:
        """Encode a picture (H, W, 3) uint8, its sides multiples of `size_multiple`."""
        unit = torch.from_numpy(np.ascontiguousarray(picture)).to(self.device).permute(2, 0, 1).float() / 255
        pixels = 2 * unit - 1
        return SvdKeyframe(pixels, self._scale * self._encode(pixels), self._embed(pixels))

    @torch.inference_mode()
    def condition(self, keyframe: SvdKeyframe, noise: Tensor, strength: float) -> Condition:
        """Make what the denoiser is conditioned on.

        noise: standard normal shaped like the keyframe's pixels, added to them with `strength` before encoding.
        """
        image_latents = self._encode(keyframe.pixels + strength * noise.to(self.device))
        return Condition(image_latents, keyframe.embedding)

    def denoiser(self, condition: Condition, fps: int, motion_bucket_id: int, noise_aug_strength: float) -> SvdDenoiser:
        """Make the denoiser of a condition. fps is the video's; the UNet was trained on one less."""
        time_ids = torch.tensor([[fps - 1, motion_bucket_id, noise_aug_strength]], device=self.device)
        return SvdDenoiser(self._accelerated or Plain(self.unet), condition, time_ids, self.dtype)

    def latent_shape(self, frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        return frames, self.latent_channels, height // self.size_multiple, width // self.size_multiple

    @torch.inference_mode()
    def decode(self, latents: Tensor, chunk: int | None = None, bits: int = 8) -> Frames:
        """Decode scaled latents (N, C, h, w) to frames (N, H, W, 3) of 8 or 16 bits: uint8 or uint16.

        At most `chunk` frames are decoded together, by default as many as fit. The decoder looks along time: where
        chunks meet, each would be a little off for want of neighbours, so they overlap and fade into each other.
        """
        chunk = chunk or self._decode_chunk(latents.shape[2] * latents.shape[3])
        return np.concatenate([_levels(frames, bits) for frames in self._faded(latents / self._scale, chunk)])

    def _faded(self, z: Tensor, chunk: int) -> Iterator[Tensor]:
        """Yield frames (n, H, W, 3) about [-1, 1], in order, as soon as they are final."""
        overlap = min(DECODE_OVERLAP, chunk // 4)
        tail: Tensor | None = None
        for span in spans(len(z), chunk, overlap):
            piece = z[span.start : span.stop].to(self.dtype)
            frames = self.vae.decode(piece, num_frames=len(piece)).sample.float().permute(0, 2, 3, 1)
            if tail is not None:
                weight = torch.arange(1, len(tail) + 1, device=z.device).view(-1, 1, 1, 1) / (len(tail) + 1)
                frames[: len(tail)] = torch.lerp(tail, frames[: len(tail)], weight)
            shared = 0 if span.stop == len(z) else overlap
            tail = frames[len(frames) - shared :].clone()
            yield frames[: len(frames) - shared]

    @torch.inference_mode()
    def preview(self, x0: Tensor) -> Pictures:
        """Draw the middle frame of scaled latents (N, C, h, w) as a (h, w, 3) picture, without the VAE.

        A linear map from latent to colour, fitted at the first call to the model's own encoding of a colour chart.
        """
        middle = x0[len(x0) // 2].permute(1, 2, 0)  # (h, w, C)
        rgb = F.pad(middle, (0, 1), value=1.0) @ self._latent_colours()
        return _to_uint8(rgb).cpu().numpy()

    def _encode(self, pixels: Tensor) -> Tensor:
        """Encode (3, H, W) in [-1, 1] to the posterior's mode, (C, h, w), unscaled."""
        latents: Tensor = self.vae.encode(pixels[None]).latent_dist.mode()[0]
        return latents

    def _embed(self, pixels: Tensor) -> Tensor:
        """Embed (3, H, W) in [-1, 1] by CLIP, (1, 1, D)."""
        small = (_resize(pixels[None], 224) + 1) / 2
        mean = torch.tensor(self._image_mean, device=self.device).view(3, 1, 1)
        std = torch.tensor(self._image_std, device=self.device).view(3, 1, 1)
        embedding: Tensor = self.image_encoder(((small - mean) / std).to(self.dtype)).image_embeds
        return embedding[:, None]

    def _decode_chunk(self, latent_pixels: int) -> int:
        """Count how many frames fit into the share of the free memory, on a GPU; into a budget elsewhere."""
        widest = self.vae.config.block_out_channels[min(1, len(self.vae.config.block_out_channels) - 1)]
        area = latent_pixels * self.size_multiple**2
        frame = TENSORS_PER_FRAME * area * widest * torch.empty(0, dtype=self.dtype).element_size()
        budget = CPU_DECODE_BUDGET
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0]
            cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            budget = SHARE_OF_FREE * (free + cached)
        return max(1, int(budget / frame))

    def _latent_colours(self) -> Tensor:
        """Fit the map from a latent and 1 to its colour in [-1, 1], (C + 1, 3).

        A ridge regression for latents of variance 1.
        """
        with self._fitting:
            if self._colours is None:
                level = torch.linspace(-1, 1, 6)
                patches = torch.cartesian_prod(level, level, level).T.reshape(3, 12, 18)
                chart = patches.repeat_interleave(4, 1).repeat_interleave(4, 2)  # (3, 48, 72), one value per latent
                pixels = F.interpolate(chart[None], scale_factor=self.size_multiple)[0].to(self.device)
                z = (self._scale * self._encode(pixels)).flatten(1).T  # (48·72, C)
                known = F.pad(z, (0, 1), value=1.0)
                ridge = 0.01 * len(known) * torch.eye(known.shape[1], device=self.device)
                colours = chart.flatten(1).T.to(self.device)
                self._colours = torch.linalg.solve(known.T @ known + ridge, known.T @ colours)
            return self._colours


def spans(frames: int, chunk: int, overlap: int) -> list[range]:
    """Divide so many frames into ranges of at most `chunk`, as even as can be, each sharing `overlap` with the next."""
    if frames <= chunk:
        return [range(frames)]
    count = math.ceil((frames - overlap) / (chunk - overlap))
    step, rest = divmod(frames - overlap, count)
    starts = [i * step + min(i, rest) for i in range(count + 1)]
    return [range(first, after + overlap) for first, after in itertools.pairwise(starts)]


def load(
    source: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    accelerate: str = "auto",
    compile_cache: Path | None = None,
) -> Model:
    """Load SVD from a diffusers folder or hub id, with the parameters of `mpd.load`. Raises `ModelError`."""
    if compile_cache is not None:
        from mpd.svd.accelerate import compilation

        compilation.keep_in(compile_cache)
    place = _device(device)
    precision = _dtype(dtype, place)
    acceleration = _acceleration(accelerate, place)
    parts = weights.read(str(source), revision, variant, precision)
    room = memory.room_on(place, parts, precision, acceleration) if place.type == "cuda" else None
    return Model(parts, str(source), place, precision, acceleration, room)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ModelError(f"device {name!r} is not known: choose auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ModelError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    known = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in known:
        raise ModelError(f"dtype {name!r} is not known: choose auto, {', '.join(known)}")
    return known[name]


def _acceleration(name: str, device: torch.device) -> Acceleration:
    if name == "auto":
        return "exact" if device.type == "cuda" else "off"
    if name not in ACCELERATIONS:
        raise ModelError(f"accelerate {name!r} is not known: choose auto, {', '.join(ACCELERATIONS)}")
    return next(known for known in ACCELERATIONS if known == name)


def _native_size(sample_size: int | list[int], factor: int) -> tuple[int, int]:
    """Give the (w, h) in pixels. SVD's own configuration says 96 latents square, though it was trained at 1024x576."""
    if sample_size == 96:
        return 1024, 576
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    return width * factor, height * factor


def _resize(x: Tensor, size: int) -> Tensor:
    """Resize (1, 3, H, W) to size x size as SVD was trained.

    A Gaussian against aliasing, then bicubic, corners aligned.
    """
    for axis in (2, 3):
        x = _blur(x, axis, (x.shape[axis] / size - 1) / 2)
    return F.interpolate(x, size=(size, size), mode="bicubic", align_corners=True)


def _blur(x: Tensor, axis: int, deviation: float) -> Tensor:
    """Blur along one axis by a Gaussian of two deviations either side, reflected at the borders."""
    if deviation <= 0:
        return x
    reach = (int(max(4 * deviation, 3)) | 1) // 2
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).view((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)).expand(3, 1, -1, -1)
    border = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
    return F.conv2d(F.pad(x, border, mode="reflect"), kernel, groups=3)


def _to_uint8(x: Tensor) -> Tensor:
    return ((x / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def _levels(frames: Tensor, bits: int) -> Frames:
    """Round frames about [-1, 1] to whole numbers of 8 or 16 bits, on their device, and copy them then."""
    if bits == 8:
        return _to_uint8(frames).contiguous().cpu().numpy()
    # torch.uint16 knows hardly any operation.
    levels = ((frames / 2 + 0.5).clamp(0, 1) * 65535).round().to(torch.int32).contiguous()
    deep: Frames = levels.cpu().numpy().astype(np.uint16)
    return deep
