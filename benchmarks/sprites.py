"""The paper's comparison in miniature: every method on held-out clips of the sprite world.

Each clip's first and last frame go in as keyframes, told the clip's own fps and motion bucket, with one seed per clip
that is the same for every method. `truth` is the clip through the VAE and back, the best a sampler could do.

The run folder keeps `clips.jsonl` (one line per clip and method; a run stopped and started again goes on) and gets
`table.md`, `table.json` and `strips.png`. Intervals are 95 % bootstrap intervals over clips, differences being paired.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mpd import flow
from mpd.methods import Settings, denoiser_calls
from mpd.model import Model, load
from mpd.progress import Take
from mpd.segments import generate
from mpd.sprites import PATH, gate, sheet, world
from mpd.sprites.measures import Judged, interval, judge

VARIANTS: dict[str, dict[str, Any]] = {
    "flow": {"method": "flow"},
    "svd": {"method": "svd"},
    "trf": {"method": "trf"},
    "mpd-trf": {"method": "mpd-trf"},
    "vibid": {"method": "vibid"},
    "mpd-vibid": {"method": "mpd-vibid"},
    "mpd (pin)": {"method": "mpd", "anchor": "pin"},
    "mpd (rigid)": {"method": "mpd", "anchor": "rigid"},
    "mpd (closure)": {"method": "mpd", "anchor": "closure"},
}
CLAIMS = (("mpd-trf", "trf"), ("mpd-vibid", "vibid"), ("mpd (rigid)", "mpd (pin)"), ("mpd (closure)", "mpd (pin)"))
"""Pairs (method, what it has to beat)."""
COLUMNS = {
    "psnr": "PSNR dB",
    "ssim": "SSIM",
    "first": "first dB",
    "last": "last dB",
    "path": "path px",
    "reverse": "reverse %",
    "ghosts": "ghosts %",
    "arrival": "arrival",
    "drift": "drift ΔE",
}
PERCENT = ("reverse", "ghosts")
DIGITS = {"ssim": 3, "arrival": 2, "psnr": 1, "first": 1, "last": 1}
IN_STRIPS = 3


@dataclass(frozen=True)
class Row:
    """One method on one clip."""

    variant: str
    seed: int
    seconds: float
    judged: Judged


def settings_of(variant: str, scene: world.Scene, seed: int, steps: int) -> Settings:
    told = Settings(
        frames=world.FRAMES,
        steps=steps,
        seeds=(seed % (1 << 32),),
        fps=scene.fps,
        motion_bucket_id=scene.motion_bucket_id,
    )
    return replace(told, **VARIANTS[variant])


def made(model: Model, variant: str, seed: int, steps: int) -> np.ndarray:
    """The clip that a variant makes of a seed's keyframes."""
    scene = world.scene(seed)
    truth = world.render(scene)
    if variant == "truth":
        return gate.round_trip(model, truth)
    settings = settings_of(variant, scene, seed, steps)
    pictures = [truth[0]] if settings.method == "svd" else [truth[0], truth[-1]]
    reports = flow.generate(pictures, settings) if variant == "flow" else generate(model, pictures, settings)
    return next(report.frames for report in reports if isinstance(report, Take))


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [Row(line["variant"], line["seed"], line["seconds"], Judged(**line["judged"])) for line in lines]


def run(model: Model, path: Path, seeds: range, steps: int, variants: list[str]) -> list[Row]:
    """All rows, those of `path` and the missing ones, which are made and added to it."""
    rows = [row for row in read(path) if row.seed in seeds and row.variant in variants]
    done = {(row.variant, row.seed) for row in rows}
    missing = [(variant, seed) for seed in seeds for variant in variants if (variant, seed) not in done]
    with path.open("a") as log:
        for variant, seed in tqdm(missing, desc="clips", mininterval=5):
            began = time.process_time()
            frames = made(model, variant, seed, steps)
            scene = world.scene(seed)
            judged = judge(frames, world.render(scene), scene)
            row = Row(variant, seed, round(time.process_time() - began, 3), judged)
            log.write(json.dumps(asdict(row)) + "\n")
            log.flush()
            rows.append(row)
    return rows


def summary(rows: list[Row], variants: list[str]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Per variant and measure, and per claim (`a − b`) and measure: mean and interval."""
    values = {(row.variant, row.seed): asdict(row.judged) | {"seconds": row.seconds} for row in rows}
    seeds = sorted({row.seed for row in rows})
    names = [*COLUMNS, "seconds"]
    table = {v: {name: interval([values[v, seed][name] for seed in seeds]) for name in names} for v in variants}
    for a, b in CLAIMS:
        if a in variants and b in variants:
            gaps = {name: [values[a, seed][name] - values[b, seed][name] for seed in seeds] for name in names}
            table[f"{a} − {b}"] = {name: interval(gap) for name, gap in gaps.items()}
    return table


def markdown(table: dict[str, dict[str, tuple[float, float, float]]], clips: int, steps: int) -> Iterator[str]:
    yield f"{clips} held-out clips, {steps} steps. Mean [95 % bootstrap interval over clips].\n"
    for title, is_gap in (("method", False), ("difference", True)):
        yield f"| {title} | calls | {' | '.join(COLUMNS.values())} | CPU s |"
        yield "|" + "---|" * (len(COLUMNS) + 3)
        for name, figures in table.items():
            if (" − " in name) == is_gap:
                calls = _calls(name, steps)
                cells = [_cell(measure, figures[measure]) for measure in COLUMNS]
                yield f"| {name} | {calls} | {' | '.join(cells)} | {figures['seconds'][0]:.1f} |"
        yield ""


def _calls(name: str, steps: int) -> str:
    return str(denoiser_calls(Settings(steps=steps, **VARIANTS[name]))) if name in VARIANTS else ""


def _cell(measure: str, figures: tuple[float, float, float]) -> str:
    if math.isnan(figures[0]):
        return "n/a"
    factor, digits = (100, 0) if measure in PERCENT else (1, DIGITS.get(measure, 2))
    mean, low, high = (f"{factor * value:.{digits}f}" for value in figures)
    return f"{mean} [{low}, {high}]"


def strips(model: Model, seeds: range, steps: int, variants: list[str]) -> np.ndarray:
    """Per clip: the truth, then a row per variant."""
    rows = []
    for seed in seeds:
        rows.append(sheet.strip(world.render(world.scene(seed))))
        rows += [sheet.strip(made(model, variant, seed, steps)) for variant in variants if variant != "truth"]
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python benchmarks/sprites.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=PATH, help="model folder (default: the one that ships)")
    parser.add_argument("--out", type=Path, default=Path("var/benchmark-sprites"), help="run folder")
    parser.add_argument("--split", default="held-out", choices=list(world.SPLITS), help="default: held-out")
    parser.add_argument("--clips", type=int, default=200, help="default: 200")
    parser.add_argument("--steps", type=int, default=25, help="default: 25")
    parser.add_argument("--methods", nargs="+", choices=["truth", *VARIANTS], default=["truth", *VARIANTS])
    parser.add_argument("--threads", type=int, default=0, help="torch's threads (default: as torch chooses)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    model, seeds = load(arguments.model), world.seeds(arguments.split, arguments.clips)
    rows = run(model, arguments.out / "clips.jsonl", seeds, arguments.steps, arguments.methods)
    table = summary(rows, arguments.methods)
    text = "\n".join(markdown(table, arguments.clips, arguments.steps))
    (arguments.out / "table.md").write_text(text)
    (arguments.out / "table.json").write_text(json.dumps(table, indent=1) + "\n")
    sheet.save(strips(model, seeds[:IN_STRIPS], arguments.steps, arguments.methods), arguments.out / "strips.png")
    print(text)


if __name__ == "__main__":
    main()
