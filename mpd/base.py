"""What a base model is to everything that samples, measures or serves one; SVD (`mpd.svd`) is the first.

Latents are (N, C, h, w) float32, frames first, in the samplers' own coordinates x = x0 + σn. A model trained in others
changes them in its denoiser. Loads no torch; knows nothing of samplers, files or weights.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mpd.calibration import Calibration
    from mpd.progress import Frames, Pictures
    from mpd.schedule import NoiseLevels


class ModelError(Exception):
    """A model cannot be loaded. The message is one line for the person who named it."""


@dataclass(frozen=True)
class Room:
    """What a card holds."""

    #: Width × height of a frame.
    pixels: int
    #: Width × height of a frame, times the frames of a segment.
    volume: int


class EncodedKeyframe(Protocol):
    """A keyframe as a model sees it, before any noise. What else a model keeps of it is the model's own affair."""

    @property
    def pixels(self) -> Tensor:
        """Give the picture: (3, H, W) float32 in [-1, 1]."""
        ...

    @property
    def z(self) -> Tensor:
        """Give its scaled latent, (C, h, w) float32, which a frame of the latents can be compared with."""
        ...


class Denoiser(Protocol):
    """E[x0 | x0 + σn = x] for one conditioning frame."""

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        """Estimate the clean latents of x, (N, C, h, w) at noise level sigma > 0, as (x̂0_c, x̂0_∅), shaped like x.

        x̂0_∅ may be None when it is not needed.
        """
        ...


class Base(Protocol):
    """A base model on one device. Keyframes and conditions go back only to the model that made them."""

    #: The folder or hub id as it was given, the hub's commit if known, and the licence as the model card names it.
    name: str
    revision: str | None
    license: str | None
    device: torch.device
    dtype: torch.dtype
    #: What it was trained at; native_size is (width, height).
    native_frames: int
    native_size: tuple[int, int]
    #: Width and height are multiples of it.
    size_multiple: int
    #: The longest segment, both keyframes included.
    max_frames: int
    #: What the card holds; None where that is not known.
    room: Room | None
    #: Whether latents reversed in time are those of the reversed video, which two-path methods rely on.
    reversible: bool

    @property
    def schedule(self) -> NoiseLevels:
        """Give the noise levels that it is sampled at."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """Tell how fast it moves things by motion bucket; None where that was not measured."""
        ...

    @property
    def acceleration(self) -> str:
        """Name how it is accelerated: off, exact or max, which approximates."""
        ...

    @property
    def compiles(self) -> bool:
        """Tell whether `warming_up` makes a difference."""
        ...

    def warming_up(self) -> AbstractContextManager[None]:
        """Compile for the sizes that are sampled and decoded within the block."""
        ...

    def latent_shape(self, frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        """Give the shape of the latents of a segment, by its frames and pixels."""
        ...

    def keyframe(self, picture: Pictures) -> EncodedKeyframe:
        """Read a picture (H, W, 3) uint8, its sides multiples of `size_multiple`."""
        ...

    def condition(self, keyframe: Any, noise: Tensor, strength: float) -> Any:
        """Make what a denoiser is conditioned on. noise: standard normal shaped like the keyframe's pixels."""
        ...

    def denoiser(self, condition: Any, fps: int, motion_bucket_id: int, noise_aug_strength: float) -> Denoiser:
        """Make the denoiser of a condition. fps is the video's."""
        ...

    def decode(self, latents: Tensor, *, bits: int = 8) -> Frames:
        """Turn latents into frames (N, H, W, 3) of 8 or 16 bits a sample, as many as were asked for."""
        ...

    def preview(self, x0: Tensor) -> Pictures:
        """Draw the middle frame of latents as a small picture (h, w, 3), fast."""
        ...
