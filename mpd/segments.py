"""Pictures of a model's size in, frames of that size out: one sampled segment between every two neighbouring keyframes.

Knows nothing of image files, fitting or video formats, nor of what a sampler does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mpd.base import Base, Denoiser, EncodedKeyframe
from mpd.lengths import segment_frames
from mpd.methods import METHODS, Settings, SettingsError
from mpd.progress import Frames, Pictures, Progress, Take
from mpd.samplers import Paths, Step, sample


def generate(
    model: Base, pictures: Sequence[Pictures], settings: Settings, bits: int = 8
) -> Generator[Progress | Take, None, None]:
    """Sample all segments between the pictures: one `Progress` per step and one `Take` per seed.

    pictures: (H, W, 3) uint8, all alike, their sides multiples of `model.size_multiple`. bits: 8 or 16, of the frames'
    samples, the decoder's own numbers rounded once. Raises `SettingsError` when they or the settings do not fit the
    model, before anything is sampled.
    """
    if not METHODS[settings.method].needs_model:
        raise SettingsError("method", f"{settings.method} samples nothing from a model", "Choose another method")
    able = methods(model)
    if settings.method not in able:
        problem = f"{settings.method} samples backwards in time too, and the latents of {model.name} cannot be reversed"
        raise SettingsError("method", problem, f"Choose one of {', '.join(able)}")
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise SettingsError("keyframes", "differ in size", "Bring all to one size first")
    for height, width, _ in shapes:
        if height % model.size_multiple or width % model.size_multiple:
            size = f"{width}x{height}"
            raise SettingsError("width", f"{size} does not suit the model", f"Use multiples of {model.size_multiple}")
    frames = segment_frames(settings, len(pictures), model.native_frames)
    if max(frames) > model.max_frames:
        problem = f"{max(frames)} are too many for a segment of {model.name}"
        raise SettingsError(_length(settings), problem, f"Use at most {model.max_frames}")
    for height, width, _ in shapes:
        _check_room(model, settings, max(frames), width, height)
    return _takes(model, pictures, settings, frames, bits)


def methods(model: Base) -> tuple[str, ...]:
    """Name the methods that can sample from a model: all, or with latents that cannot be reversed those of one path."""
    sampled = [method for method in METHODS.values() if method.needs_model]
    return tuple(method.name for method in sampled if model.reversible or not method.reverses_time)


def _check_room(model: Base, settings: Settings, frames: int, width: int, height: int) -> None:
    """Refuse a segment that the GPU's memory cannot hold. Raises `SettingsError`."""
    room, size = model.room, width * height
    if room is None:
        return
    if size > room.pixels or 2 * size > room.volume:
        most = min(room.pixels, room.volume // 2)
        raise SettingsError("width", f"{width}x{height} is too large for this GPU", f"Use at most {most} pixels")
    if frames * size > room.volume:
        problem = f"a segment of {frames} frames of {width}x{height} is too long for this GPU"
        remedy = f"Use at most {room.volume // size} frames at this size, or a smaller one"
        raise SettingsError(_length(settings), problem, remedy)


def _length(settings: Settings) -> str:
    """Name the setting that says how long a segment is."""
    return "frames" if settings.positions is None else "positions"


@dataclass(frozen=True)
class Segment:
    """`frames` frames from one keyframe to the next, both included; `end` is None where the start stands alone."""

    frames: int
    start: EncodedKeyframe
    end: EncodedKeyframe | None


class SeededNoise:
    """Standard normal noise from one seeded generator, on the CPU: so a seed means the same on every device."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._device = device

    def __call__(self, like: Tensor) -> Tensor:
        return self.draw(like.shape)

    def draw(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float32).to(self._device)


@torch.inference_mode()
def _takes(
    model: Base, pictures: Sequence[Pictures], settings: Settings, frames: tuple[int, ...], bits: int
) -> Generator[Progress | Take, None, None]:
    stops: list[EncodedKeyframe | None] = [model.keyframe(picture) for picture in pictures]
    if settings.loop or len(stops) == 1:
        stops.append(stops[0] if settings.loop else None)
    segments = [
        Segment(count, start, end)
        for count, (start, end) in zip(frames, itertools.pairwise(stops), strict=True)
        if start is not None
    ]
    jobs = len(settings.seeds) * len(segments) * settings.steps
    for take, seed in enumerate(settings.seeds):
        noise = SeededNoise(seed, model.device)
        shots = []
        for index, segment in enumerate(segments):
            for step in _sample(model, segment, settings, noise):
                done = (take * len(segments) + index) * settings.steps + step.index + 1
                yield Progress(
                    take=take,
                    takes=len(settings.seeds),
                    segment=index,
                    segments=len(segments),
                    step=step.index + 1,
                    steps=step.total,
                    fraction=done / jobs,
                    sigma=step.sigma,
                    preview=partial(model.preview, step.x0),
                )
            shots.append(model.decode(step.x, bits=bits))
        yield Take(take, seed, _join(shots, settings.loop), settings.fps)


@dataclass(frozen=True)
class Beginning:
    """Where sampling a segment begins: what it is conditioned on, the noise levels, and pure noise at the first."""

    paths: Paths
    sigmas: list[float]
    x: Tensor


def begin(model: Base, segment: Segment, settings: Settings, noise: SeededNoise) -> Beginning:
    """Condition a segment and draw the noise that its sampling begins with.

    Noise is drawn in this order: the start keyframe's augmentation, x_T, the end keyframe's; then the sampler's.
    """

    def denoiser(keyframe: EncodedKeyframe, augmentation: Tensor) -> Denoiser:
        strength = settings.noise_aug_strength
        condition = model.condition(keyframe, augmentation, strength)
        return model.denoiser(condition, settings.fps, settings.motion_bucket_id, strength)

    start, end = segment.start, segment.end
    sigmas = model.sigmas(settings.steps)
    _, height, width = start.pixels.shape
    forward = denoiser(start, noise(start.pixels))
    x = math.sqrt(1 + sigmas[0] ** 2) * noise.draw(model.latent_shape(segment.frames, width, height))
    backward = denoiser(end, noise(end.pixels)) if end is not None else None
    return Beginning(Paths(forward, backward, start.z, end.z if end is not None else None), sigmas, x)


def _sample(model: Base, segment: Segment, settings: Settings, noise: SeededNoise) -> Iterator[Step]:
    begun = begin(model, segment, settings, noise)
    return sample(
        settings.method,
        begun.paths,
        begun.x,
        begun.sigmas,
        distillation=settings.distillation,
        guidance=settings.guidance_ramp,
        noise=noise,
    )


def _join(shots: Sequence[Frames], loop: bool) -> Frames:
    """Join the segments to one video, each shared keyframe once: its frame is that of the segment it starts."""
    parts = [shot[:-1] for shot in shots]
    return np.concatenate(parts if loop else [*parts, shots[-1][-1:]])
