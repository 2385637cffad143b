"""Pictures of a model's size in, frames of that size out: one sampled segment between every two neighbouring keyframes.

Knows nothing of image files, fitting or video formats, nor of what a sampler does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mpd.base import Base, Denoiser, EncodedKeyframe
from mpd.calibration import speed_between
from mpd.displacement import displacement
from mpd.lengths import Group, groups, segment_frames
from mpd.methods import METHODS, MOTION_BUCKET, Settings, SettingsError
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
    if settings.motion_bucket_id == "auto" and model.calibration is None:
        problem = f"{model.name} has no calibration that says what auto is"
        remedy = f"Send a number, such as {MOTION_BUCKET}, or make one with mpd calibrate"
        raise SettingsError("motion_bucket_id", problem, remedy)
    [(height, width, _)] = shapes
    _check_room(model, settings, max(frames), width, height)
    most = model.native_frames
    if model.room is not None:
        most = min(most, model.room.volume // (width * height))
    return _takes(model, pictures, settings, groups(settings, frames, most), bits)


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
class Latent:
    """What one latent is sampled between, `frames` frames from the first keyframe to the last, both included."""

    frames: int
    start: EncodedKeyframe
    #: None where the start stands alone.
    end: EncodedKeyframe | None
    #: Keyframes in between, with the frame of each.
    inner: tuple[tuple[int, EncodedKeyframe], ...] = ()


class SeededNoise:
    """Standard normal noise from one seeded generator, on the CPU: so a seed means the same on every device.

    group: of a take's latents, from 0, so that each can be made again without the others; the first has the seed's own
    numbers.
    """

    def __init__(self, seed: int, device: torch.device, group: int = 0) -> None:
        # The CPU's generator heeds no more than 32 bits.
        mixed = seed if group == 0 else int(np.random.SeedSequence((seed, group)).generate_state(1)[0])
        self._generator = torch.Generator("cpu").manual_seed(mixed)
        self._device = device

    def __call__(self, like: Tensor) -> Tensor:
        return self.draw(like.shape)

    def draw(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float32).to(self._device)


@torch.inference_mode()
def _takes(
    model: Base, pictures: Sequence[Pictures], settings: Settings, parts: tuple[Group, ...], bits: int
) -> Generator[Progress | Take, None, None]:
    keyframes = [model.keyframe(picture) for picture in pictures]
    numbers = tuple(part.keyframes(len(keyframes)) for part in parts)
    latents = [_latent(part, [keyframes[number] for number in own]) for part, own in zip(parts, numbers, strict=True)]
    steps = settings.steps or model.schedule.own_steps
    jobs = len(settings.seeds) * len(parts) * steps
    buckets = tuple(motion_bucket(model, latent, settings) for latent in latents)
    told = [replace(settings, motion_bucket_id=bucket) for bucket in buckets]
    for take, seed in enumerate(settings.seeds):
        chained = SeededNoise(seed, model.device)
        shots = []
        for index, (part, latent) in enumerate(zip(parts, latents, strict=True)):
            noise = chained if settings.segments == "chained" else SeededNoise(seed, model.device, index)
            for step in _sample(model, latent, told[index], noise):
                done = (take * len(parts) + index) * steps + step.index + 1
                yield Progress(
                    take=take,
                    takes=len(settings.seeds),
                    segment=index,
                    segments=len(parts),
                    step=step.index + 1,
                    steps=step.total,
                    fraction=done / jobs,
                    sigma=step.sigma,
                    preview=partial(model.preview, step.x0),
                )
            shots.append(model.decode(step.x, bits=bits)[: part.shown])
        yield Take(take, seed, _join(shots, settings.loop), settings.fps, groups=numbers, motion_bucket_ids=buckets)


def _latent(part: Group, keyframes: Sequence[EncodedKeyframe]) -> Latent:
    """Give a latent its keyframes."""
    start, *others = keyframes
    inner = tuple(zip(part.places[1:-1], others, strict=False))
    return Latent(part.length, start, others[-1] if others else None, inner)


def motion_bucket(model: Base, latent: Latent, settings: Settings) -> int:
    """Give the motion bucket that a latent is asked for: the settings', or by how far its keyframes are apart.

    `MOTION_BUCKET` where the model is not calibrated, where the method uses one keyframe, and where no motion is found.
    """
    asked = settings.motion_bucket_id
    if isinstance(asked, int):
        return asked
    if model.calibration is None or latent.end is None or not METHODS[settings.method].uses_end:
        return MOTION_BUCKET
    pictures = [_picture(one) for one in (latent.start, *(keyframe for _, keyframe in latent.inner), latent.end)]
    apart = [displacement(a, b) for a, b in itertools.pairwise(pictures)]
    speed = speed_between(apart, latent.frames)
    return MOTION_BUCKET if speed is None else model.calibration.bucket(speed, settings.fps)


def _picture(keyframe: EncodedKeyframe) -> Pictures:
    levels = ((keyframe.pixels.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255)
    picture: Pictures = levels.to(torch.uint8).cpu().numpy()
    return picture


@dataclass(frozen=True)
class Beginning:
    """Where sampling a segment begins: what it is conditioned on, the noise levels, and pure noise at the first."""

    paths: Paths
    sigmas: list[float]
    x: Tensor


def begin(model: Base, latent: Latent, settings: Settings, noise: SeededNoise) -> Beginning:
    """Condition a latent and draw the noise that its sampling begins with.

    Noise is drawn in this order: the start keyframe's augmentation, x_T, the end keyframe's; then the sampler's.
    """

    bucket = motion_bucket(model, latent, settings)

    def denoiser(keyframe: EncodedKeyframe, augmentation: Tensor) -> Denoiser:
        strength = settings.noise_aug_strength
        condition = model.condition(keyframe, augmentation, strength)
        return model.denoiser(condition, settings.fps, bucket, strength)

    start, end = latent.start, latent.end
    sigmas = model.schedule.sigmas(settings.steps)
    _, height, width = start.pixels.shape
    forward = denoiser(start, noise(start.pixels))
    x = math.sqrt(1 + sigmas[0] ** 2) * noise.draw(model.latent_shape(latent.frames, width, height))
    backward = denoiser(end, noise(end.pixels)) if end is not None else None
    inner = tuple((frame, keyframe.z) for frame, keyframe in latent.inner)
    return Beginning(Paths(forward, backward, start.z, end.z if end is not None else None, inner), sigmas, x)


def _sample(model: Base, latent: Latent, settings: Settings, noise: SeededNoise) -> Iterator[Step]:
    begun = begin(model, latent, settings, noise)
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
    """Join the latents' frames to one video, each shared keyframe once: its frame is that of the one it starts."""
    parts = [shot[:-1] for shot in shots]
    return np.concatenate(parts if loop else [*parts, shots[-1][-1:]])
