"""Means over windows with intervals: bootstrapped over clips' parts, paired with the dissolve's."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips.cases import TRUTH
from benchmarks.clips.features import frechet, stacked

DRAWS = 2000
BLOCK = 4
"""Neighbouring windows share frames: they are drawn together."""
BELOW = 0.1
"""dB by which a window counts as below the dissolve."""


@dataclass(frozen=True)
class Measured:
    """One row's measures of one window."""

    kind: str
    window: str
    row: str
    psnr: float
    ssim: float
    #: Share of standing pixels disturbed in the middle frame.
    disturbed: float
    #: Levels, along the true motion; None, as all below, where it was not measured.
    warping: float | None = None
    smoothness: float | None = None
    #: PSNR of what is shown in the keyframes' places; None where it is the keyframes themselves.
    keyframes: float | None = None
    #: By features.
    distance: float | None = None
    #: A row for each frame, for the Fréchet distance.
    descriptions: list[list[float]] | None = None
    vmaf: float | None = None


def read(path: Path) -> list[Measured]:
    """Read what has been measured so far; a later line of the same window and row counts."""
    if not path.is_file():
        return []
    found = {(one.window, one.row): one for one in map(_of_line, path.read_text().splitlines())}
    return list(found.values())


def _of_line(line: str) -> Measured:
    return Measured(**json.loads(line))


def append(path: Path, one: Measured) -> None:
    with path.open("a") as file:
        file.write(json.dumps(asdict(one)) + "\n")


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Give the mean and its 95 % interval, neighbouring values drawn together."""
    given = np.asarray(values, float)
    blocks = [given[first : first + BLOCK] for first in range(0, len(given), BLOCK)]
    sums, sizes = np.array([block.sum() for block in blocks]), np.array([len(block) for block in blocks])
    drawn = np.random.default_rng(seed).integers(0, len(blocks), (DRAWS, len(blocks)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(given.mean()), float(low), float(high)


def table(measured: Iterable[Measured], against: str = "dissolve", rival: str = "minterpolate") -> str:
    """Write a Markdown table for each kind of window, every row paired with the dissolve and with the rival."""
    kinds: dict[str, dict[str, dict[str, Measured]]] = defaultdict(lambda: defaultdict(dict))
    for one in measured:
        kinds[one.kind][one.row][one.window] = one
    return "\n\n".join(_of_kind(kind, rows, against, rival) for kind, rows in kinds.items())


def figures(measured: Iterable[Measured]) -> dict[str, Any]:
    """Give each window's figures, by kind, window and row."""
    found: dict[str, Any] = defaultdict(lambda: defaultdict(dict))
    for one in measured:
        values = {name: value for name, value in asdict(one).items() if isinstance(value, float)}
        found[one.kind][one.window][one.row] = {name: round(value, 4) for name, value in values.items()}
    return found


def _of_kind(kind: str, rows: dict[str, dict[str, Measured]], against: str, rival: str) -> str:
    common = sorted(set.intersection(*(set(of_row) for of_row in rows.values())))
    names = [name for name in rows if name != TRUTH]
    lines = [
        f"**{kind}**: {len(common)} windows",
        "",
        f"| | PSNR | gain over {against} | below it | over {rival} | wins | SSIM | torn: mean · worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        mine = [rows[name][window] for window in common]
        gains = [one.psnr - rows[against][one.window].psnr for one in mine] if against in rows else []
        leads = [one.psnr - rows[rival][one.window].psnr for one in mine] if rival in rows else []
        cells = [
            f"`{name}`",
            f"{np.mean([one.psnr for one in mine]):.2f}",
            "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval(gains)) if gains else "",
            f"{np.mean([gain < -BELOW for gain in gains]):.0%}" if gains else "",
            "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval(leads)) if leads else "",
            f"{np.mean([lead > 0 for lead in leads]):.0%}" if leads else "",
            f"{np.mean([one.ssim for one in mine]):.4f}",
            f"{np.mean([one.disturbed for one in mine]):.2%} · {np.max([one.disturbed for one in mine]):.2%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _by_clip(rows, names, common, against)
    lines += [
        "",
        "| | distance | Fréchet | VMAF | keyframes | warping error | smoothness |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of_row in rows.items():
        mine = [of_row[window] for window in common]
        true = [rows[TRUTH][window] for window in common] if TRUTH in rows else []
        cells = [
            f"`{name}`",
            _mean([one.distance for one in mine], ".4f"),
            _frechet(mine, true),
            _mean([one.vmaf for one in mine], ".1f"),
            _mean([one.keyframes for one in mine], ".1f") or "exact",
            _mean([one.warping for one in mine], ".2f"),
            _mean([one.smoothness for one in mine], ".4f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_clip(
    rows: dict[str, dict[str, Measured]], names: Sequence[str], common: Sequence[str], against: str
) -> list[str]:
    """Write each row's gain over the dissolve by clip, where there are several."""
    clips: dict[str, list[str]] = defaultdict(list)
    for window in common:
        clips[window.rsplit("-", 2)[0]].append(window)
    if len(clips) < 2 or against not in rows:
        return []
    heads = [f"{clip} ({len(windows)})" for clip, windows in clips.items()]
    lines = ["", f"| gain over {against} | {' | '.join(heads)} |", "|---" * (len(clips) + 1) + "|"]
    for name in names:
        gains = [
            np.mean([rows[name][window].psnr - rows[against][window].psnr for window in windows])
            for windows in clips.values()
        ]
        lines.append(f"| `{name}` | {' | '.join(f'{gain:+.2f}' for gain in gains)} |")
    return lines


def _mean(values: Sequence[float | None], form: str) -> str:
    """Write the mean, or nothing where a value is missing."""
    known = [value for value in values if value is not None]
    return format(np.mean(known), form) if known and len(known) == len(values) else ""


def _frechet(mine: Sequence[Measured], true: Sequence[Measured]) -> str:
    sets = [[one.descriptions for one in side if one.descriptions is not None] for side in (mine, true)]
    if not true or any(len(found) < len(mine) for found in sets):
        return ""
    return f"{frechet(*(stacked(found) for found in sets)):.3f}"
