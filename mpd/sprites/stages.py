"""The first two stages of training: the autoencoder and the CLIP tower, both on pictures rendered as they are needed.

The CLIP tower learns to say where the arrow is, where it points and what colour it has: what an embedding of such
a picture should know. Knows nothing of diffusion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpd.sprites import networks, world
from mpd.sprites.loop import Loop
from mpd.sprites.pictures import psnr, to_tensor
from mpd.sprites.pool import clip_input

PIXEL_BATCH = 12  # pictures in a step of the autoencoder
CHUNKS = (1, 4, 12)  # how many of them are successive frames, drawn with CHUNK_ODDS: decoders are asked for any
CHUNK_ODDS = (0.4, 0.4, 0.2)
KL_WEIGHT = 1e-5
LATENT_STD = 2.0  # of each channel once trained; its inverse is the scaling factor
DECODER_NOISE = 0.03  # of a latent's standard deviation
LOOKED_AT = 32  # pictures in a step of the CLIP tower


def round_trip(autoencoder: Any, frames: Tensor, chunk: int) -> Tensor:
    """Encode to the mode and decode, `chunk` successive frames at a time."""
    latents = autoencoder.encode(frames).latent_dist.mode()
    pieces = [autoencoder.decode(piece, num_frames=len(piece)).sample for piece in latents.split(chunk)]
    return torch.cat(pieces)


def train_autoencoder(folder: Path, *, steps: int, minutes: float, rate: float, bf16: bool) -> Any:
    """Train on mean squared error and a small KL term, on pictures rendered as they are needed."""
    network = networks.autoencoder()
    with torch.no_grad():
        network.quant_conv.bias[networks.LATENT_CHANNELS :] = -5.0  # begin with latents that say something
    loop = Loop(folder, "autoencoder", network, rate=rate, steps=steps, minutes=minutes, half_life=150)
    network.train()

    def loss(step: int) -> Tensor:
        random = np.random.default_rng([1, step])
        chunk = int(random.choice(CHUNKS, p=CHUNK_ODDS))
        pictures = to_tensor(np.concatenate([_window(random, chunk) for _ in range(PIXEL_BATCH // chunk)]))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            posterior = network.encode(pictures).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(step))
            decoded = network.decode(posterior.mean + posterior.std * noise, num_frames=chunk).sample
        squared = (decoded.float() - pictures).square().mean()
        divergence = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        total: Tensor = squared + KL_WEIGHT * divergence
        return total

    frames = to_tensor(np.concatenate([world.render(world.scene(s)) for s in world.seeds("development", 8)]))

    @torch.no_grad()
    def report(step: int, averaged: nn.Module) -> dict[str, float]:
        decibels = psnr(round_trip(averaged, frames, world.FRAMES), frames).mean().item()
        return {"psnr": decibels}

    return loop.run(loss, report, every=100)


def train_decoder(folder: Path, autoencoder: Any, *, steps: int, minutes: float, rate: float, bf16: bool) -> None:
    """Train the decoder alone further, in place: the latents stay, so a UNet may be trained on them at the same time.

    Its latents get a little noise, for a UNet's are never exact.
    """
    autoencoder.decoder.requires_grad_(True)
    loop = Loop(folder, "decoder", autoencoder.decoder, rate=rate, steps=steps, minutes=minutes, half_life=150)
    loop.network.train()

    def loss(step: int) -> Tensor:
        random = np.random.default_rng([8, step])
        chunk = int(random.choice(CHUNKS, p=CHUNK_ODDS))
        pictures = to_tensor(np.concatenate([_window(random, chunk) for _ in range(PIXEL_BATCH // chunk)]))
        with torch.no_grad():
            latents = autoencoder.encode(pictures).latent_dist.mode()
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            decoded = autoencoder.decode(latents + DECODER_NOISE * LATENT_STD * noise, num_frames=chunk).sample
        squared: Tensor = (decoded.float() - pictures).square().mean()
        return squared

    frames = to_tensor(np.concatenate([world.render(world.scene(s)) for s in world.seeds("development", 8)]))

    @torch.no_grad()
    def report(step: int, averaged: nn.Module) -> dict[str, float]:
        trained, autoencoder.decoder = autoencoder.decoder, averaged
        decibels = psnr(round_trip(autoencoder, frames, world.FRAMES), frames).mean().item()
        autoencoder.decoder = trained
        return {"psnr": decibels}

    autoencoder.decoder = loop.run(loss, report, every=100)


def _window(random: np.random.Generator, frames: int) -> NDArray[np.uint8]:
    """Draw `frames` successive frames of a training clip."""
    scene = world.scene(int(random.integers(1 << 32)))
    first = int(random.integers(world.FRAMES - frames + 1))
    return world.render(scene, first=first, count=frames)


@torch.no_grad()
def normalise(autoencoder: Any, clips: int = 64) -> None:
    """Scale each latent channel to a standard deviation of `LATENT_STD`, and the decoder's first layer back.

    Pictures come out as before; the latents become what the diffusion's noise levels were made for.
    """
    frames = to_tensor(np.concatenate([world.render(world.scene(s)) for s in world.seeds("train", clips)]))
    scale = LATENT_STD / autoencoder.encode(frames).latent_dist.mode().std(dim=(0, 2, 3))
    quant, first = autoencoder.quant_conv, autoencoder.decoder.conv_in
    quant.weight[: len(scale)] *= scale.view(-1, 1, 1, 1)
    quant.bias[: len(scale)] *= scale
    quant.bias[len(scale) :] += 2 * scale.log()
    first.weight /= scale.view(1, -1, 1, 1)
    autoencoder.register_to_config(scaling_factor=1 / LATENT_STD)


def train_image_encoder(folder: Path, *, steps: int, minutes: float, rate: float) -> Any:
    """Train the tower with a linear head that reads the scene's state from the embedding; the head is not kept."""
    tower = networks.image_encoder()
    network = nn.ModuleDict({"tower": tower, "head": nn.Linear(networks.EMBEDDING, 6)})
    loop = Loop(folder, "image_encoder", network, rate=rate, steps=steps, minutes=minutes, half_life=100)
    network.train()

    def error(network: nn.Module, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        pictures, states = zip(*[_state(random) for _ in range(LOOKED_AT)], strict=True)
        embeddings = network.get_submodule("tower")(clip_input(to_tensor(np.stack(pictures)))).image_embeds
        said = network.get_submodule("head")(embeddings)
        return (said - torch.tensor(np.stack(states), dtype=torch.float32)).square(), embeddings

    def loss(step: int) -> Tensor:
        squared, embeddings = error(network, np.random.default_rng([3, step]))
        return squared.mean() + 1e-3 * (embeddings.square().mean() - 1).square()

    @torch.no_grad()
    def report(step: int, averaged: nn.Module) -> dict[str, float]:
        squared, _ = error(averaged, np.random.default_rng([4, 0]))
        place, heading, hue = (squared[:, i : i + 2].mean().sqrt().item() for i in (0, 2, 4))
        return {"pixels": place * world.SIZE / 2, "heading": heading, "hue": hue}

    return loop.run(loss, report, every=200).get_submodule("tower")


def _state(random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw a first frame, and its (x, y, heading, hue) with the angles as cosine and sine, all in [-1, 1]."""
    scene = world.scene(int(random.integers(1 << 32)))
    angles = np.array([scene.heading, scene.hue])
    place = np.array([scene.x, scene.y]) / (world.SIZE / 2) - 1
    state = np.concatenate([place, np.stack([np.cos(angles), np.sin(angles)], axis=1).ravel()])
    return world.render(scene, count=1)[0], state
