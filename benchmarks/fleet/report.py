"""From runs to what is told of them: tables in Markdown, the picture, and what ships."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.fleet import answer, chart
from benchmarks.fleet.experiments import GRIDS, cheapest

Rows = Sequence[dict[str, Any]]


def shipped() -> dict[str, Any]:
    """Give the setting in the manifests."""
    return {"rule": answer.RULE.text, "target": answer.RULE.target, **asdict(answer.PLAN)}


def comparison(rows: Rows, objective: float, dollars: float | None) -> str:
    """Compare for each size and rule the cheapest parameter that holds the objective, and the shipped setting."""
    price = " | $ a job" if dollars is not None else ""
    lines = [
        f"| GPUs busy on average | rule | window | p50 | p95 | paid ÷ used | idle | GPU-s a job{price} | holds |",
        "|---|---|---|---|---|---|---|---|---|" + ("---|" if price else ""),
    ]
    for size in sorted({row["size"] for row in rows}):
        of_size = [row for row in rows if row["size"] == size]
        for kind in (*GRIDS, "fixed"):
            of_kind = [row for row in of_size if row["kind"] == kind]
            if not of_kind:
                continue
            best = cheapest(of_kind, objective) or min(of_kind, key=lambda row: float(row["p95"]))
            lines.append(_line(best, objective, dollars))
        own = [row for row in of_size if row["kind"] == "shipped"]
        lines += [_line(row, objective, dollars, "**ships:** ") for row in own]
    return "\n".join(lines) + "\n"


def slim(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a row what is the same in all, or said by its kind."""
    plan = {name: row["plan"][name] for name in ("minimum", "window")}
    return {**{name: value for name, value in row.items() if name not in ("weather", "seed")}, "plan": plan}


def _line(row: dict[str, Any], objective: float, dollars: float | None, prefix: str = "") -> str:
    window = f"{row['plan']['window']:g} s" if row["kind"] != "fixed" else "–"
    cells = [
        f"{row['size']:,}",
        prefix + row["rule"],
        window,
        f"{row['p50']:g} s",
        f"{row['p95']:g} s",
        f"{row['paid_over_used']:.2f}",
        f"{row['idle_share']:.0%}",
        f"{row['gpu_seconds_per_job']:.1f}",
    ]
    if dollars is not None:
        cells.append(f"{row['gpu_seconds_per_job'] * dollars / 3600:.4f}")
    return "| " + " | ".join([*cells, "yes" if row["p95"] < objective else "**no**"]) + " |"


def varied(rows: Rows) -> str:
    """Write the table of the shipped setting in other circumstances."""
    lines = [
        "| | p50 | p95 | p99 | paid ÷ used | stopped at work | given back | sampling wasted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['p50']:g} s | {row['p95']:g} s | {row['p99']:g} s | {row['paid_over_used']:.2f} "
        f"| {row['stopped_at_work']:.0f} | {row['given_back']:.0f} | {row['wasted_share']:.2%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def picture(rows: Rows, size: int, objective: float) -> str:
    """Draw the wait against the cost of every rule at one size; of each parameter with the shorter window."""
    series = {
        kind: [
            (row["paid_over_used"], row["p95"])
            for row in rows
            if row["kind"] == kind and row["size"] == size and row["plan"]["window"] == answer.PLAN.window
        ]
        for kind in (*GRIDS, "fixed")
    }
    found = {name: points for name, points in series.items() if points}
    return chart.draw(f"{size} GPUs busy on average", found, objective)


def machine() -> str:
    """Name where this was simulated; of no weight for the figures, which are of simulated time."""
    return f"{platform.machine()}, Python {platform.python_version()}"
