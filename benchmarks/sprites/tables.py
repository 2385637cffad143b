"""Rows to tables: means, intervals over clips, differences clip by clip. Knows measures by name alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.sprites.rows import Row
from mpd.sprites.measures import interval

Figure = tuple[float, float, float]
"""Mean, and the ends of its 95 % bootstrap interval over clips."""
Table = dict[str, dict[str, Figure]]
"""By variant, or claim `a − b`, and measure."""
GAP = " − "


@dataclass(frozen=True)
class Column:
    """How a measure is shown."""

    measure: str
    title: str
    digits: int = 2
    #: 100 for a percentage.
    factor: float = 1.0


TRAINED = (
    Column("psnr", "PSNR dB", 1),
    Column("region", "on the arrow dB", 1),
    Column("ssim", "SSIM", 3),
    Column("first", "first dB", 1),
    Column("last", "last dB", 1),
    Column("path", "path px"),
    Column("reverse", "reverse %", 0, 100),
    Column("ghosts", "ghosts %", 0, 100),
    Column("arrival", "arrival"),
    Column("drift", "drift ΔE"),
    Column("mismatch", "mismatch"),
)
BRIEF = ("psnr", "region", "path", "reverse", "ghosts", "arrival", "nearest", "mass", "energy")
"""Of these and of the ideal world's, what the page shows."""
IDEAL = (
    Column("nearest", "nearest dB", 1),
    Column("last", "last dB", 1),
    Column("reverse", "reverse %", 0, 100),
    Column("mass", "mass"),
    Column("energy", "energy", 3),
    Column("coverage", "coverage %", 0, 100),
    Column("mismatch", "mismatch", 3),
)


def table(rows: Sequence[Row], claims: Sequence[tuple[str, str]]) -> Table:
    """Tabulate each measure per variant and per claim (`a − b`, paired by seed).

    `mismatch` is a curve's mean over its steps.
    """
    values = {(row.task.variant, row.task.seed): measured(row) for row in rows}
    variants = list(dict.fromkeys(row.task.variant for row in rows))
    seeds = sorted({row.task.seed for row in rows})
    names = list(dict.fromkeys(name for figures in values.values() for name in figures))
    made: Table = {v: {name: interval([values[v, seed][name] for seed in seeds]) for name in names} for v in variants}
    for a, b in claims:
        if a in variants and b in variants:
            made[f"{a}{GAP}{b}"] = {
                name: interval([values[a, seed][name] - values[b, seed][name] for seed in seeds]) for name in names
            }
    return made


def measured(row: Row) -> dict[str, float]:
    mean = sum(row.mismatch) / len(row.mismatch) if row.mismatch else math.nan
    return row.figures | {"mismatch": mean}


def markdown(made: Table, columns: Sequence[Column], calls: dict[str, float], *, timed: bool = True) -> Iterator[str]:
    """Write two tables: the variants', and the claims' if there are any. `seconds` is shown where it was measured."""
    timed = timed and any("seconds" in figures for figures in made.values())
    columns = (*columns, Column("seconds", "CPU s", 1)) if timed else columns
    for title, gaps in (("method", False), ("difference", True)):
        some = {name: figures for name, figures in made.items() if (GAP in name) == gaps}
        if some:
            yield f"| {title} | calls | {' | '.join(column.title for column in columns)} |"
            yield "|" + "---|" * (len(columns) + 2)
            for name, figures in some.items():
                cells = [cell(column, figures[column.measure]) for column in columns]
                yield f"| {name} | {_calls(name, calls)} | {' | '.join(cells)} |"
            yield ""


def briefly(made: Table, calls: dict[str, float]) -> Iterator[str]:
    """Write the measures that the page shows."""
    yield from markdown(made, [column for column in TRAINED if column.measure in BRIEF], calls, timed=False)


def claims(made: Table, columns: Sequence[Column]) -> Iterator[str]:
    """Write the differences alone, by what the page shows of their measures."""
    some = {name: figures for name, figures in made.items() if GAP in name}
    yield from markdown(some, [column for column in columns if column.measure in BRIEF], {}, timed=False)


def cell(column: Column, figure: Figure) -> str:
    """Write `mean [low, high]`; a figure that does not apply is n/a, one that never varies stands alone."""
    if math.isnan(figure[0]):
        return "n/a"
    mean, low, high = (f"{column.factor * value:.{column.digits}f}" for value in figure)
    return mean if mean == low == high or column.measure == "seconds" else f"{mean} [{low}, {high}]"


def plain(made: Table) -> dict[str, dict[str, list[float | None]]]:
    """Make values fit for JSON, which knows no NaN."""
    return {
        name: {measure: [None if math.isnan(v) else round(v, 6) for v in figure] for measure, figure in figures.items()}
        for name, figures in made.items()
    }


def curves(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Give the mean mismatch per step of every variant that has one."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if row.mismatch:
            found.setdefault(row.task.variant, []).append(row.mismatch)
    return {name: [sum(step) / len(step) for step in zip(*some, strict=True)] for name, some in found.items()}


def _calls(name: str, calls: dict[str, float]) -> str:
    return f"{calls[name]:g}" if name in calls else ""
