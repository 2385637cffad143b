"""`svd` against diffusers' own pipeline on the same random weights and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mpd.methods import Settings
from mpd.progress import Pictures, Take
from mpd.samplers import Paths, sample
from mpd.segments import generate
from mpd.svd.model import Model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' scheduler

SETTINGS = Settings(method="svd", seeds=(7,), steps=6, fps=9, motion_bucket_id=90, noise_aug_strength=0.1)


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> Any:
    from diffusers import StableVideoDiffusionPipeline

    pipe = StableVideoDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def picture() -> Pictures:
    """Wider than high, and larger than CLIP's 224, so that shrinking it matters."""
    y, x = np.mgrid[0:40, 0:72] / 40
    shades = np.stack([np.sin(9 * x) ** 2, y, np.cos(5 * x * y) ** 2], -1)
    return np.round(255 * shades).astype(np.uint8)


def theirs(pipeline: Any, picture: Pictures, output_type: str) -> Any:
    return pipeline(
        Image.fromarray(picture),
        height=picture.shape[0],
        width=picture.shape[1],
        num_frames=5,
        num_inference_steps=SETTINGS.steps,
        fps=SETTINGS.fps,
        motion_bucket_id=SETTINGS.motion_bucket_id,
        noise_aug_strength=SETTINGS.noise_aug_strength,
        generator=torch.Generator().manual_seed(SETTINGS.seeds[0]),
        output_type=output_type,
    ).frames[0]


def test_latents(pipeline: Any, tiny_model: Model, picture: Pictures) -> None:
    generator = torch.Generator().manual_seed(SETTINGS.seeds[0])
    keyframe = tiny_model.keyframe(picture)
    augmentation = torch.randn(keyframe.pixels.shape, generator=generator)
    condition = tiny_model.condition(keyframe, augmentation, SETTINGS.noise_aug_strength)
    denoiser = tiny_model.denoiser(condition, SETTINGS.fps, 90, SETTINGS.noise_aug_strength)
    sigmas = tiny_model.schedule.sigmas(SETTINGS.steps)
    x = torch.randn(tiny_model.latent_shape(5, 72, 40), generator=generator) * (1 + sigmas[0] ** 2) ** 0.5
    *_, step = sample("svd", Paths(denoiser, None, keyframe.z, None), x, sigmas, noise=torch.randn_like)
    torch.testing.assert_close(step.x, theirs(pipeline, picture, "latent"), rtol=1e-4, atol=1e-5)


def test_frames(pipeline: Any, tiny_model: Model, picture: Pictures) -> None:
    *_, take = generate(tiny_model, [picture], Settings(**{**vars(SETTINGS), "frames": 5}))
    assert isinstance(take, Take)
    frames = theirs(pipeline, picture, "np") * 255
    assert take.frames.shape == frames.shape == (5, 40, 72, 3)
    assert np.abs(take.frames - frames).max() <= 0.5 + 1e-2  # half a level is the rounding to uint8


@pytest.mark.parametrize("size", [(64, 64), (448, 320), (320, 200)])
def test_image_embedding(pipeline: Any, tiny_model: Model, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    with torch.inference_mode():
        embedding = pipeline._encode_image(Image.fromarray(picture), "cpu", 1, False)
    torch.testing.assert_close(tiny_model.keyframe(picture).embedding, embedding, rtol=1e-4, atol=1e-5)
