"""Methods compared on sprites: `python -m benchmarks.sprites COMMAND`. docs/sprites.md explains and shows the results.

Every command keeps a folder of rows under --out and goes on where it stopped; it leaves `table.md`, `table.json` and
pictures there. Intervals are 95 % bootstrap intervals over clips, differences being paired.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.sprites import commands
from benchmarks.sprites.rows import RunError
from benchmarks.sprites.storyboards import BOARDS
from benchmarks.sprites.variants import ABLATIONS, BUCKETS, CONTROLS, KNOWN, VARIANTS
from mpd.base import ModelError
from mpd.sprites import PATH

RUNS = Path("var/benchmark-sprites")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        print(arguments.run(arguments))
    except (RunError, ModelError) as error:
        print(f"sprites: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsprites: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="python -m benchmarks.sprites", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = whole.add_subparsers(required=True, metavar="COMMAND")
    table = _part(parts, "table", commands.table, 48, "every method on held-out clips, by the trained model")
    where = _part(parts, "where", commands.where, 48, "at which noise levels MPD's rounds help a host")
    ablate = _part(parts, "ablate", commands.ablate, 48, "γ, k, λ, handover, anchor, experiments; development clips")
    prior = _part(parts, "prior", commands.prior, 24, "what the trained model knows of time's direction")
    ideal = _part(parts, "ideal", commands.ideal, 24, "every method in the world of known answers")
    dials = _part(parts, "dials", commands.dials, 12, "there: forwardness, displacement, the negative control")
    boards = _part(parts, "storyboards", commands.boards, 48, "several keyframes of a clip, as one latent and apart")
    for part in (table, where, ablate, prior, boards):
        part.add_argument("--model", type=Path, default=PATH, help="model folder (default: the one that ships)")
    for part, first in ((table, 7000), (where, 8000), (boards, 6000)):
        part.add_argument("--first", type=int, default=first, help=f"the first clip's number (default: {first})")
    boards.add_argument("--boards", nargs="+", choices=list(BOARDS), default=list(BOARDS), help="default: all")
    for part in (table, where, ablate, boards):
        part.add_argument("--abreast", type=int, default=16, help="clips that a process samples at once (default: 16)")
        part.add_argument("--bf16", action="store_true", help="UNet in bfloat16: twice as fast with AVX-512 BF16")
    for part in (ideal, dials):
        part.add_argument("--samples", type=int, default=8, help="per question, side by side (default: 8)")
    _table(table)
    ablate.add_argument(
        "--sweep", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS), help="default: all three"
    )
    for part in (where, ablate):
        part.add_argument("--world", choices=("trained", "ideal"), default="trained", help="default: trained")
    docs = parts.add_parser("docs", help="put the finished runs' tables and pictures into docs/sprites.md")
    docs.add_argument("--out", type=Path, default=RUNS, help=f"folder of runs (default: {RUNS})")
    docs.set_defaults(run=commands.docs)
    return whole


def _part(parts: Any, name: str, run: commands.Command, clips: int, what: str) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = parts.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    part.add_argument("--out", type=Path, default=RUNS, help=f"folder of runs, each in its own (default: {RUNS})")
    part.add_argument("--clips", type=int, default=clips, help=f"clips, or questions (default: {clips})")
    part.add_argument("--steps", type=int, help="denoising steps (default: the model's own; 25 in the ideal world)")
    part.add_argument("--jobs", type=int, default=1, help="processes, of one thread each (default: 1)")
    part.set_defaults(run=run)
    return part


def _table(part: argparse.ArgumentParser) -> None:
    known: dict[str, Any] = {"nargs": "+", "choices": list(KNOWN), "metavar": "NAME"}
    part.add_argument("--methods", **known, default=list(VARIANTS), help=f"default: {', '.join(VARIANTS)}")
    part.add_argument(
        "--also", **known, default=[*CONTROLS, *BUCKETS], help="more of them (default: the controls and the buckets)"
    )
    part.add_argument("--probed", type=int, default=40, help="clips whose mismatch is taken, too (default: 40)")
    part.add_argument("--split", default="held-out", choices=("held-out", "development"), help="default: held-out")


if __name__ == "__main__":
    raise SystemExit(main())
