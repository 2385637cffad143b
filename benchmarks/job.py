"""A whole job of 25 frames of 1024x576 on this card, keyframes in and frames out: `python -m benchmarks.job`.

`mpd-vibid` by this library as diffusers' modules are, by every exact rewrite compiled, and with the approximations of
`max`; by the reference loop (float32 weights under autocast, decoded in float32 four frames at a time). `svd`, which
all can make, also by diffusers' StableVideoDiffusionPipeline as it ships in half precision, and with its UNet
compiled. Of each: seconds, how many times the floor (its products at the card's own ceiling), and how far its frames
are from those of diffusers' modules; and what previews cost. Weights are random. On a CPU: --small.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.card import clocks, decoders, jobs, results, runs, unets
from benchmarks.card.models import ModelSize
from mpd.svd.accelerate import compilation

METHODS = ["mpd-vibid", "svd"]
NAMES = ("off", "exact", "max", "reference", "pipeline", "pipeline, compiled")
LIBRARY = NAMES[:4]


def main(argv: Sequence[str] | None = None) -> int:
    command = runs.parser("job", __doc__)
    command.add_argument("--steps", type=int, default=25, help="denoising steps (default: 25)")
    command.add_argument("--names", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    command.add_argument("--cache", type=Path, help="folder that keeps compiled code for the next run")
    asked = command.parse_args(argv)
    compilation.BACKEND = asked.backend
    if asked.cache is not None:
        compilation.keep_in(asked.cache)
    place, dtype, size = runs.device(asked), runs.DTYPES[asked.dtype], runs.size(asked)
    ceiling = clocks.matmul_ceiling(place, dtype)
    clocks.release(place)
    operations = unets.counted(size, dtype)["diffusers"].operations
    decoding = decoders.counted(size, dtype)["diffusers"].operations
    counts = {method: jobs.evaluations(method, asked.steps) for method in METHODS}
    frames: dict[str, Any] = {}
    rows = []
    for row in measured(asked, size, place, dtype):
        method, made = row["method"], row.pop("frames", None)
        if "out_of_memory" in row:
            rows.append(row)
            continue
        frames.setdefault(method, made)
        reference = frames[method]
        row["apart"] = (
            None if made is None or reference is None else float(np.abs(made.astype(float) - reference).mean())
        )
        row["evaluations"] = counts[method]
        row["floor"] = (counts[method] * operations + decoding) / ceiling
        rows.append(row)
        print(row, flush=True)
    clocks.release(place)
    section = {
        "size": f"{size.frames} frames of {size.width}x{size.height}, {size.name}",
        "steps": asked.steps,
        "dtype": asked.dtype,
        "rows": rows,
        "previews": {"seconds": jobs.preview_seconds(jobs.model(size, place, dtype, "off"), size, 4)},
    }
    return results.write(asked, place, dtype, "job", section)


def measured(
    asked: argparse.Namespace, size: ModelSize, place: torch.device, dtype: torch.dtype
) -> Iterator[dict[str, Any]]:
    """Measure one model after the other, each gone before the next one comes.

    What does not fit into the memory says so.
    """
    for name in [name for name in NAMES if name in asked.names]:
        rows = by_library if name in LIBRARY else by_pipeline
        try:
            yield from rows(name, size, place, dtype, asked.steps)
        except torch.OutOfMemoryError:
            yield {"name": name, "method": METHODS[0] if name in LIBRARY else "svd", "out_of_memory": True}
        clocks.release(place)


def by_library(
    name: str, size: ModelSize, place: torch.device, dtype: torch.dtype, steps: int
) -> Iterator[dict[str, Any]]:
    made = jobs.model(size, place, dtype, name)
    warm_up = jobs.warmed_up(made, size, METHODS, steps)
    for method in METHODS[: 1 if name == "reference" else 2]:
        yield jobs.row(made, name, size, method, steps, warm_up if made.compiles else None)


def by_pipeline(
    name: str, size: ModelSize, place: torch.device, dtype: torch.dtype, steps: int
) -> Iterator[dict[str, Any]]:
    pipeline = jobs.pipeline(size, place, dtype)
    if "compiled" in name:
        pipeline.unet = torch.compile(pipeline.unet, backend=compilation.BACKEND)
    began = time.perf_counter()
    jobs.by_pipeline(pipeline, size, steps)
    warm_up = time.perf_counter() - began
    seconds = min(jobs.by_pipeline(pipeline, size, steps) for _ in range(jobs.ATTEMPTS))
    row = {"name": name, "method": "svd", "seconds": seconds, "decoding": None}
    yield {**row, "warm_up": warm_up if "compiled" in name else None}


if __name__ == "__main__":
    sys.exit(main())
