"""Means over windows with intervals: bootstrapped within each clip, paired with another row's."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips.cases import TRUTH
from benchmarks.clips.features import frechet, stacked

AGAINST = "dissolve"
RIVAL = "minterpolate"
"""The rows that all are paired with, unless others are named."""
DRAWS = 2000
BLOCK = 4
"""Neighbouring windows share frames: they are drawn together."""
BELOW = 0.1
"""dB by which a window counts as below the row that it is paired with."""


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


def interval(clips: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float, float]:
    """Give the mean of all clips' values and its 95 % interval.

    Each clip, its values in order, is drawn from by itself, as many as it has (a circular block bootstrap: Politis and
    Romano, 1992): neighbours come together, and the last value's neighbour is the first.
    """
    dice = np.random.default_rng(seed)
    sums = np.zeros(DRAWS)
    for clip in clips:
        values = np.asarray(clip, float)
        # A block as long as its clip would be the same in every draw.
        size = min(BLOCK, max(1, len(values) // 2))
        starts = dice.integers(0, len(values), (DRAWS, -(-len(values) // size)))
        places = (starts[:, :, None] + np.arange(size)).reshape(DRAWS, -1)[:, : len(values)] % len(values)
        sums += values[places].sum(1)
    count = sum(len(clip) for clip in clips)
    low, high = np.quantile(sums / count, (0.025, 0.975))
    return sum(sum(clip) for clip in clips) / count, float(low), float(high)


def table(measured: Iterable[Measured], against: str = AGAINST, rival: str = RIVAL) -> str:
    """Write a Markdown table for each kind of window, every row paired with two rows.

    Raises `ValueError` where a kind has no window that all of its rows have.
    """
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
    common, lacking = _common(kind, rows)
    clips = _clips(common)
    names = [name for name in rows if name != TRUTH]
    lines = [
        f"**{kind}**: {len(common)} windows{lacking}",
        "",
        f"| | PSNR | gain over {against} | below it | over {rival} | wins | SSIM | torn: mean · worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        mine = [rows[name][window] for window in common]
        gains, leads = _gains(rows, name, against, clips), _gains(rows, name, rival, clips)
        cells = [
            f"`{name}`",
            f"{np.mean([one.psnr for one in mine]):.2f}",
            "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval(gains)) if gains else "",
            f"{np.mean([gain < -BELOW for clip in gains for gain in clip]):.0%}" if gains else "",
            "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval(leads)) if leads else "",
            f"{np.mean([lead > 0 for clip in leads for lead in clip]):.0%}" if leads else "",
            f"{np.mean([one.ssim for one in mine]):.4f}",
            f"{np.mean([one.disturbed for one in mine]):.2%} · {np.max([one.disturbed for one in mine]):.2%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _by_clip(rows, names, clips, against)
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


def _common(kind: str, rows: Mapping[str, Mapping[str, Measured]]) -> tuple[list[str], str]:
    """Give the windows that all rows have, in order, and what is to be said of those that not all have.

    Raises `ValueError` where there is none that all have.
    """
    windows = set[str]().union(*rows.values())
    common = sorted(windows.intersection(*rows.values()))
    if not common:
        has = ", ".join(f"{name!r} has {len(of_row)}" for name, of_row in rows.items())
        raise ValueError(
            f"{kind}: none of {len(windows)} windows was measured of every row ({has}): `run` all rows over the same"
            " windows, or take the lines of one of them away"
        )
    lacking = {name: len(windows) - len(of_row) for name, of_row in rows.items() if len(of_row) < len(windows)}
    if not lacking:
        return common, ""
    lacks = ", ".join(f"`{name}` lacks {count}" for name, count in lacking.items())
    return common, f" that every row has, of {len(windows)}: {lacks}"


def _clips(windows: Sequence[str]) -> dict[str, list[str]]:
    """Give the windows of each clip, in their order."""
    clips: dict[str, list[str]] = defaultdict(list)
    for window in windows:
        clips[window.rsplit("-", 2)[0]].append(window)
    return clips


def _gains(
    rows: Mapping[str, Mapping[str, Measured]], name: str, against: str, clips: Mapping[str, Sequence[str]]
) -> list[list[float]]:
    """Give by how much a row is above another, by clip and window; nothing where the other was not measured."""
    if against not in rows:
        return []
    return [[rows[name][window].psnr - rows[against][window].psnr for window in windows] for windows in clips.values()]


def _by_clip(
    rows: Mapping[str, Mapping[str, Measured]], names: Sequence[str], clips: Mapping[str, Sequence[str]], against: str
) -> list[str]:
    """Write each row's gain over another by clip, where there are several."""
    if len(clips) < 2 or against not in rows:
        return []
    heads = [f"{clip} ({len(windows)})" for clip, windows in clips.items()]
    lines = ["", f"| gain over {against} | {' | '.join(heads)} |", "|---" * (len(clips) + 1) + "|"]
    for name in names:
        gains = _gains(rows, name, against, clips)
        lines.append(f"| `{name}` | {' | '.join(f'{np.mean(gain):+.2f}' for gain in gains)} |")
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
