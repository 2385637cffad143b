"""What SVD-XT needs of a GPU's memory, and the most that fits: `python -m benchmarks.memory`. No GPU is needed.

Counted as the engine counts it before it publishes its limits (mpd/svd/memory.py). The tables go into
docs/performance.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks import pages
from benchmarks.card.models import FULL
from mpd.base import Room
from mpd.methods import LIMITS
from mpd.svd import memory
from mpd.svd.accelerate import Acceleration

CARDS = (24, 48, 80)
"""Gigabytes, of 10⁹ bytes."""

LEVELS: dict[str, tuple[Acceleration, bool]] = {
    "off": ("off", False),
    "exact": ("exact", False),
    "max": ("max", False),
    "max, with fp8": ("max", True),
}
SIZES = ((512, 320), (1024, 576), (1280, 704), (1920, 1088))
STEP = 64
"""Widths that are tried are multiples of it."""


def main(argv: Sequence[str] | None = None) -> int:
    command = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    command.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="default: float16")
    command.add_argument(
        "--docs", type=Path, help="folder of the page (default: print only)", nargs="?", const=pages.DOCS
    )
    asked = command.parse_args(argv)
    needs = {name: need(*level, getattr(torch, asked.dtype)) for name, level in LEVELS.items()}
    text = "\n".join(table(needs, asked.dtype)) + "\n"
    print(text)
    if asked.docs is not None:
        figures = {"dtype": asked.dtype, "cards": CARDS, "needs": {name: asdict(one) for name, one in needs.items()}}
        pages.publish("memory", text, figures, asked.docs)
    return 0


def need(level: Acceleration, has_fp8: bool, dtype: torch.dtype) -> memory.MemoryNeed:
    """Count what SVD-XT needs of a card's memory."""
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

    with torch.device("meta"):
        unet: Any = UNetSpatioTemporalConditionModel(**FULL.unet)
        vae: Any = AutoencoderKLTemporalDecoder(**FULL.vae)
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**FULL.clip))
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    weights = parameters * torch.empty(0, dtype=dtype).element_size()
    return memory.need(unet.config, vae.config, weights, dtype, level, has_fp8)


def table(needs: dict[str, memory.MemoryNeed], dtype: str) -> Iterator[str]:
    parts = f"{memory.RUNTIME / 1e9:g} GB for CUDA, the weights, {memory.SLACK:g} × the activations"
    yield f"GB needed in {dtype}, for segments of 25 frames: {parts}.\n"
    yield f"| | weights | {' | '.join(f'{width}×{height}' for width, height in SIZES)} |"
    yield f"|---|{'---|' * (1 + len(SIZES))}"
    for name, one in needs.items():
        sizes = (f"{one.total(25, *size) / 1e9:.1f}" for size in SIZES)
        yield f"| {name} | {one.weights / 1e9:.1f} | {' | '.join(sizes)} |"
    longest = int(LIMITS["frames"].high)
    yield (
        f"\nThe most that fits: frames of a segment at 1024×576 (no job has more than {longest}), and the largest size "
        "of 16:9 at 25 frames (no side is longer than 2048).\n"
    )
    yield f"| | {' | '.join(f'{card} GB' for card in CARDS)} |"
    yield f"|---|{'---|' * len(CARDS)}"
    for name, one in needs.items():
        rooms = [one.room(card * 10**9) for card in CARDS]
        cells = (
            f"{min(longest, room.volume // (1024 * 576))} frames, {'{}×{}'.format(*largest(room))}" for room in rooms
        )
        yield f"| {name} | {' | '.join(cells)} |"


def largest(room: Room) -> tuple[int, int]:
    """Find the widest (width, height) of about 16:9 of which 25 frames fit."""
    sizes = [(width, round(width * 9 / 16 / 8) * 8) for width in range(STEP, int(LIMITS["width"].high) + 1, STEP)]
    return max((w, h) for w, h in sizes if w * h <= room.pixels and 25 * w * h <= room.volume)


if __name__ == "__main__":
    raise SystemExit(main())
