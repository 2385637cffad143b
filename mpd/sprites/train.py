"""Trains the sprite model from nothing to a folder that `mpd.svd.model.load` takes: `python -m mpd.sprites.train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpd.sprites import diffusion, export, sheet, stages, world
from mpd.sprites.pool import Pool
from mpd.svd.model import load

DESCRIPTION = """\
Train the sprite model: the VAE, then its decoder alone, then the CLIP tower, then the UNet; and write the model folder.

Every stage keeps a checkpoint in --run and continues from it when the command is given again: stop it whenever you
like. A stage ends after its steps, or after its minutes of training if those are over first, and the learning rate
falls towards whichever comes first; give a larger number to train a finished stage further. The run folder holds:

  log.jsonl               every stage's figures, one line per report
  autoencoder.pt, decoder.pt, image_encoder.pt, unet.pt, pool.pt
                          checkpoints and the encoded clips; delete one to train that stage again (and what follows it)
  model/                  the model so far, in diffusers' format
  samples-000000.png      per clip: the truth, its round trip through the VAE, what the model makes of its first frame
"""
EPILOG = """\
The weights that ship were made on shared CPU cores; their README.md says with which options, and what came of it.
Check a model with: python -m mpd.sprites.gate --model RUN/model
"""


def main() -> None:
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    run: Path = arguments.run
    autoencoder = stages.train_autoencoder(
        run, steps=arguments.vae_steps, minutes=arguments.vae_minutes, rate=arguments.vae_rate, bf16=arguments.bf16
    )
    stages.normalise(autoencoder)
    stages.train_decoder(
        run,
        autoencoder,
        steps=arguments.decoder_steps,
        minutes=arguments.decoder_minutes,
        rate=arguments.decoder_rate,
        bf16=arguments.bf16,
    )
    tower = stages.train_image_encoder(
        run, steps=arguments.clip_steps, minutes=arguments.clip_minutes, rate=arguments.clip_rate
    )
    if arguments.until == "clip":
        return
    pool = Pool(run / "pool.pt", autoencoder, tower, arguments.clips)
    pool.add(max(0, min(arguments.clips, 512) - pool.size))

    def look(step: int, unet: nn.Module) -> None:
        folder = export.write(run / "model", unet, autoencoder, tower)
        if step % arguments.sheets == 0:
            seeds = world.seeds("development", 6)
            sheet.save(sheet.samples(load(folder), seeds), run / f"samples-{step:06d}.png")

    unet = diffusion.train_unet(
        run,
        pool,
        steps=arguments.unet_steps,
        minutes=arguments.unet_minutes,
        rate=arguments.unet_rate,
        half_life=arguments.half_life,
        bf16=arguments.bf16,
        every=arguments.every,
        on_report=look,
    )
    folder = export.write(run / "model", unet, autoencoder, tower)
    sheet.save(sheet.samples(load(folder), world.seeds("development", 12)), run / "samples.png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mpd.sprites.train",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, default: Any, text: str) -> None:
        parser.add_argument(name, type=type(default), default=default, help=f"{text} (default: {default})")

    add("--run", Path("var/sprites"), "folder of this run")
    add("--threads", 1, "torch's threads")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products: faster with AVX-512 BF16 or AMX")
    add("--vae-steps", 3000, f"steps of {stages.PIXEL_BATCH} pictures")
    add("--vae-minutes", 1e9, "of training at most")
    add("--vae-rate", 1e-3, "learning rate")
    add("--decoder-steps", 3000, f"more steps of {stages.PIXEL_BATCH} pictures for the VAE's decoder alone")
    add("--decoder-minutes", 1e9, "of training at most")
    add("--decoder-rate", 5e-4, "learning rate")
    add("--clip-steps", 2000, f"steps of {stages.LOOKED_AT} pictures")
    add("--clip-minutes", 1e9, "of training at most")
    add("--clip-rate", 1e-3, "learning rate")
    parser.add_argument("--until", choices=("clip", "unet"), default="unet", help="last stage to train (default: unet)")
    add("--unet-steps", 20000, f"steps of {diffusion.BATCH} clips")
    add("--unet-minutes", 1e9, "of training at most")
    add("--unet-rate", 1e-3, "learning rate")
    add("--half-life", 300, "of the averaged weights, in steps")
    add("--clips", 12000, f"training clips in all; {diffusion.FRESH} are encoded with every step until all are")
    add("--every", 250, "steps between reports, checkpoints and exports")
    add("--sheets", 1000, "steps between sample sheets; a multiple of --every")
    return parser


if __name__ == "__main__":
    main()
