"""What the commands of `python -m benchmarks.clips` do."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

import mpd
from benchmarks import pages
from benchmarks.clips import drawings, features, measures, rows, sequences, speed, table
from benchmarks.clips.cases import TRUTH, Case, Frames, Made, Make, cases, write
from benchmarks.clips.paper import table1, tools
from benchmarks.clips.table import Measured
from benchmarks.clips.windows import HIDDEN, Clip, read_all, windows, write_windows

WHOLE = 1_000_000
"""More frames than any window has between its ends."""


def cut(chosen: argparse.Namespace) -> None:
    """Cut a clip into windows."""
    clip = Clip(chosen.clip.resolve(), chosen.cuts)
    found = list(windows(clip, chosen.apart, chosen.part, chosen.stride or chosen.apart))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    write_windows(chosen.output.resolve(), found)
    print(f"{len(found)} windows")


def run(chosen: argparse.Namespace) -> None:
    """Make and measure the frames of windows."""
    drawn = drawings.numbers(chosen.drawings, chosen.drawings_from)
    done = {(one.window, one.row) for one in table.read(chosen.output)}
    frames = _frames(chosen, chosen.frames)
    with_features = features.available()
    for missing, package in (
        (not with_features, features.PACKAGES),
        (not sequences.has_vmaf(), sequences.VMAF_PACKAGE),
    ):
        if missing:
            print(f"left out: pip install {package}", file=sys.stderr)
    asked = _rows(chosen, frames)
    for case in _each(chosen.windows, chosen.kind, drawn, HIDDEN):
        motion, seen = None, None
        for row in asked:
            if (case.name, row) in done or (made := frames.of(case, row)) is None:
                continue
            if seen is None and with_features:
                seen = [features.look(frame) for frame in case.truth]
            if motion is None and not chosen.frames_alone:
                motion = sequences.TrueMotion([case.start, *case.truth, case.end])
            table.append(chosen.output, _measured(case, row, made, motion, seen))


def _frames(chosen: argparse.Namespace, kept: Path | None) -> Frames:
    """Give all rows that were asked for by name, by a model, by FILM's file and by folders."""
    known: dict[str, Make] = dict(rows.ROWS)
    if chosen.film:
        known |= rows.by_film(chosen.film)
    if chosen.model:
        model = mpd.load(chosen.model, variant=chosen.variant)
        known |= rows.sampled(model, chosen.methods or rows.sampled_methods(model), chosen.seed)
    return Frames(known, kept, chosen.elsewhere)


def _rows(chosen: argparse.Namespace, frames: Frames) -> Sequence[str]:
    """Give the rows in question. Raises `KeyError` for one that is not there."""
    for row in chosen.rows or ():
        if row not in frames.names:
            raise KeyError(f"no row {row!r}: there are {', '.join(frames.names)}")
    if not chosen.rows:
        return frames.names
    return [*chosen.rows, *(folder.name for folder in chosen.elsewhere if folder.name not in chosen.rows)]


def _each(paths: Sequence[Path], kind: str, drawn: Sequence[int], hidden: int) -> Iterator[Case]:
    found = list(cases(paths, kind, drawn, hidden))
    for number, make in enumerate(found, 1):
        case = make()
        yield case
        print(f"{number}/{len(found)} {case.name}", file=sys.stderr)


def _measured(
    case: Case, row: str, made: Made, motion: sequences.TrueMotion | None, seen: list[features.Seen] | None
) -> Measured:
    pairs = list(zip(made.frames, case.truth, strict=True))
    start, end = made.ends or (case.start, case.end)
    film = [start, *made.frames, end]
    mine = [features.look(frame) for frame in made.frames] if seen else []
    ends = [measures.psnr(start, case.start), measures.psnr(end, case.end)]
    return Measured(
        case.kind,
        case.name,
        row,
        psnr=float(np.mean([measures.psnr(*pair) for pair in pairs])),
        ssim=float(np.mean([measures.ssim(*pair) for pair in pairs])),
        disturbed=measures.disturbed(*pairs[len(pairs) // 2], case.start, case.end),
        warping=motion.warping_error(film) if motion else None,
        smoothness=sequences.smoothness(film) if motion else None,
        keyframes=float(np.mean(ends)) if made.ends and row != TRUTH else None,
        distance=float(np.mean([features.distance(*pair) for pair in zip(mine, seen, strict=True)])) if seen else None,
        descriptions=[features.describe(frame) for frame in mine] if seen else None,
        vmaf=sequences.vmaf(made.frames, case.truth) if motion and sequences.has_vmaf() else None,
    )


def show(chosen: argparse.Namespace) -> None:
    """Print the means with their intervals, or put them into docs/clips.md with each window's figures beside it.

    Raises `ValueError` where a row to compare with was named and not measured, or rows have no window in common.
    """
    found = [one for path in chosen.measured for one in table.read(path)]
    there = dict.fromkeys(one.row for one in found)
    for option, row in (("--against", chosen.against), ("--rival", chosen.rival)):
        if row is not None and row not in there:
            raise ValueError(f"{option} {row}: no measured lines of it: there are those of {', '.join(there)}")
    text = table.table(found, chosen.against or table.AGAINST, chosen.rival or table.RIVAL)
    if chosen.publish:
        pages.publish("clips", f"{text}\n", table.figures(found), chosen.docs, "clips.md")
    else:
        print(text)


def time_it(chosen: argparse.Namespace) -> None:
    """Time the methods side by side."""
    found = speed.measure(chosen.frames, *chosen.size)
    said = f"{chosen.frames} frames of {chosen.size[0]}×{chosen.size[1]} on {pages.machine()}"
    text = f"{said}:\n\n{speed.table(found)}\n"
    if chosen.publish:
        figures = {"machine": pages.machine(), "rows": [asdict(one) for one in found]}
        pages.publish("clips-speed", text, figures, chosen.docs, "clips.md")
    else:
        print(text)


def sheet(chosen: argparse.Namespace) -> None:
    """Draw the windows in which a row lost most against the dissolve.

    Raises `KeyError` for a row that is not there, `ValueError` where none of its windows was measured, or not all of
    them were of the dissolve, or none of the worst is among those that were named.
    """
    drawn = drawings.numbers(chosen.drawings, chosen.drawings_from)
    found = table.read(chosen.measured)
    plain, mine = ({one.window: one.psnr for one in found if one.row == row} for row in (table.AGAINST, chosen.row))
    if not mine:
        raise ValueError(f"{chosen.measured}: no window of {chosen.row!r}")
    if missing := len(mine.keys() - plain):
        raise ValueError(
            f"{chosen.measured}: {table.AGAINST!r} lacks {missing} of the {len(mine)} windows of {chosen.row!r}:"
            f" measure them by `run --rows {table.AGAINST}` into the same file"
        )
    lost = sorted((psnr - plain[window], window) for window, psnr in mine.items())
    worst = {name: gain for gain, name in lost[: chosen.count]}
    frames = _frames(chosen, chosen.frames)
    lines = {}
    for make in cases(chosen.windows, "", drawn):
        case = make()
        if case.name in worst and (made := frames.of(case, chosen.row)) is not None:
            lines[case.name] = _line(case, made, f"{case.name} {worst[case.name]:+.1f} dB")
    if not lines:
        raise ValueError(
            f"{chosen.measured}: none of the {len(worst)} windows in question is in the CSVs or among the drawings,"
            f" with frames of {chosen.row!r}: name those that were run"
        )
    cv2.imwrite(str(chosen.output), np.vstack([lines[name] for name in worst if name in lines])[..., ::-1])
    print(f"{chosen.output}: start, made, truth, end of {len(lines)} windows, the worst first")


def _line(case: Case, made: Made, words: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    middle = len(case.times) // 2
    line = np.hstack([case.start, made.frames[middle], case.truth[middle], case.end])
    line = np.asarray(cv2.resize(line, (1280, 1280 * line.shape[0] // line.shape[1])), np.uint8)
    cv2.putText(line, words, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 0, 0))
    return line


def paper(chosen: argparse.Namespace) -> None:
    """Make all frames of two sets of windows, measure them by the paper's tools, and print a table of its shape.

    Raises `ValueError` for two clips of one name, in one set or both: a folder from elsewhere has the frames of both;
    and for a row that has some of a set's windows and not all that others have.
    """
    read_all(chosen.table)
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.frames or Path(name)
        laid = {
            named: _of_set(chosen, folder / named, path, named)
            for named, path in zip(table1.SETS, chosen.table, strict=True)
        }
        found = {named: _by_tools(chosen, folder / named, rows_of) for named, (rows_of, _) in laid.items()}
    if chosen.output:
        chosen.output.write_text(json.dumps(found, indent=2) + "\n")
    print(table1.table(found))
    print(f"\nWindows measured: {', '.join(f'{named} {count}' for named, (_, count) in laid.items())}.")


def _of_set(chosen: argparse.Namespace, here: Path, path: Path, named: str) -> tuple[Sequence[str], str]:
    """Lay a set's frames into folders; give the rows that have some, and of how many windows."""
    frames = _frames(chosen, here)
    there: dict[str, set[str]] = defaultdict(set)
    for case in _each([path], named, (), WHOLE):
        for row in (TRUTH, *_rows(chosen, frames)):
            if (made := frames.of(case, row)) is not None:
                write(here / row, case, made)
                there[row].add(case.name)
    windows_of = {row: names for row, names in there.items() if row != TRUTH}
    most = set[str]().union(*windows_of.values())
    for row, names in windows_of.items():
        if missing := most - names:
            raise ValueError(
                f"{named}: {row!r} lacks {len(missing)} of {len(most)} windows that other rows have, such as"
                f" {min(missing)}: bring their frames, or take them out of {path}"
            )
        if old := {one.name for one in (here / row).iterdir() if (here / TRUTH / one.name).is_dir()} - names:
            raise ValueError(
                f"{here / row}: {len(old)} windows that are not of this run, such as {min(old)}: take another folder"
                " for --frames, or remove them"
            )
    return list(windows_of), f"{len(most)} of {len(there[TRUTH])}"


def _by_tools(chosen: argparse.Namespace, here: Path, found: Iterable[str]) -> Mapping[str, Mapping[str, float]]:
    measured: dict[str, dict[str, float]] = {}
    for row in found:
        measured[row] = {}
        for tool, python in chosen.tool.items():
            print(f"{tool} of {row}", file=sys.stderr)
            more = tuple(shlex.split(chosen.tool_arguments.get(tool, "")))
            measured[row] |= tools.measure(tool, python, here / row, here / TRUTH, more)
    return measured
