"""The fleet simulated: `python -m benchmarks.fleet table | vary | one`.

    table   every rule with every parameter at every size; says which hold the objective, and at what cost
    vary    the shipped setting with slower starts, harder bursts, more work-horses, shorter grace
    one     the shipped setting, or --target, once

Times of sampling are a model unless --measured gives a card's figures (`python -m benchmarks.job`). What the waits are:
from a job's arrival to its first step. --docs puts the tables into docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.fleet import answer, report
from benchmarks.fleet.experiments import (
    GRIDS,
    HOURS,
    Conditions,
    Trial,
    cheapest,
    grid,
    pooled,
    run,
    run_all,
    variations,
)
from benchmarks.fleet.rules import Unfinished
from benchmarks.fleet.simulation import FleetPlan
from benchmarks.fleet.workload import TFLOP_PER_SECOND, WorkItem, floors, measured

MIDDLE = 100
"""From this size on one run of each is enough: its many sources burst in turn."""
LARGE = 1000
"""From this size on, each rule is tried with the one parameter that was cheapest at a tenth of it."""


def main(argv: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(argv)
    try:
        seconds = measured(asked.measured, asked.name) if asked.measured else floors(asked.tflops)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"--measured: {error}\n")
        return 2
    work = WorkItem(seconds)
    plan = replace(answer.PLAN, start_seconds=asked.start_seconds)
    print(f"a job keeps a GPU for {work.mean:.1f} s on average", file=sys.stderr)
    if asked.command == "one":
        print(
            json.dumps(
                run(Trial("one", Unfinished(asked.target), plan, Conditions(asked.size, work, seed=1))), indent=1
            )
        )
        return 0
    parts: dict[str, Any] = {"seconds_of_a_take": {name: round(value, 2) for name, value in seconds.items()}}
    if asked.command == "table":
        rows = _table(asked, work, plan)
        text = report.comparison(rows, asked.objective, asked.dollars)
        parts |= {"objective": asked.objective, "answer": report.shipped()}
        picture = report.picture(rows, 10, asked.objective) if 10 in asked.sizes else None
    else:
        worlds = [Conditions(asked.size, work, seed=seed) for seed in range(1, asked.seeds + 1)]
        rows = pooled(run_all([trial for world in worlds for trial in variations(world, plan)], asked.processes))
        text, picture = report.varied(rows), None
    parts["rows"] = [report.slim(row) for row in rows]
    print(text)
    name = {"table": "fleet", "vary": "fleet-varied"}[asked.command]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"{name}.json").write_text(json.dumps(parts, indent=1) + "\n")
    if picture is not None:
        (asked.out / f"{name}.svg").write_text(picture)
    if asked.docs:
        pages.publish(name, text, parts, page="scaling.md")
        if picture is not None:
            (pages.DOCS / "pictures" / f"{name}.svg").write_text(picture)
    return 0


def _table(asked: argparse.Namespace, work: WorkItem, plan: FleetPlan) -> list[dict[str, Any]]:
    """Write rows of every size, the smallest first."""
    rows: list[dict[str, Any]] = []
    for size in sorted(asked.sizes):
        worlds = [Conditions(size, work, seed=seed) for seed in range(1, (asked.seeds if size < MIDDLE else 1) + 1)]
        trials = [Trial("shipped", answer.RULE, plan, world) for world in worlds]
        below = [row for row in rows if row["size"] == size // 10]
        for trial in [trial for world in worlds for trial in grid(world, plan)]:
            if size < LARGE or _is_best(trial, below, asked.objective):
                trials.append(trial)
        rows += pooled(run_all(trials, asked.processes))
        sys.stderr.write(f"{size}: done\n")
    return rows


def _is_best(trial: Trial, below: Sequence[dict[str, Any]], objective: float) -> bool:
    of_kind = [row for row in below if row["kind"] == trial.kind]
    if trial.kind not in GRIDS or not of_kind:
        return False
    best = cheapest(of_kind, objective) or min(of_kind, key=lambda row: float(row["p95"]))
    return bool(best["rule"] == trial.rule.text and best["plan"]["window"] == trial.plan.window)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("table", "vary", "one"))
    parser.add_argument("--sizes", type=int, nargs="+", choices=sorted(HOURS), default=sorted(HOURS), metavar="GPUS")
    parser.add_argument("--size", type=int, choices=sorted(HOURS), default=10, help="of vary and one (default: 10)")
    parser.add_argument("--target", type=float, default=answer.RULE.target, help="of one: jobs for each GPU")
    parser.add_argument("--objective", type=float, default=60.0, help="seconds that p95 must stay below (default: 60)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each below 100 GPUs (default: 3)")
    parser.add_argument("--tflops", type=float, default=TFLOP_PER_SECOND, help="TFLOP/s of the modelled card")
    parser.add_argument("--measured", type=Path, metavar="JSON", help="figures of a card: docs/figures/gpu-*.json")
    parser.add_argument("--name", default="exact", help="which of its rows (default: exact)")
    parser.add_argument("--start-seconds", type=float, default=120.0, help="from a pod to a warm model (default: 120)")
    parser.add_argument("--dollars", type=float, metavar="D", help="price of an hour of a GPU, for a column of $ a job")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("var/benchmark-fleet"))
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/scaling.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
