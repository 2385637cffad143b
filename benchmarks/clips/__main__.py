"""Frames between real frames, and between drawings, against the truth: rows of methods, a line for every window.

python -m benchmarks.clips cut CLIP [--cuts 30,76] --apart 24 -o windows.csv    # windows of a clip, as a CSV
python -m benchmarks.clips run windows.csv --kind "24 apart" -o measured.jsonl  # every row over them
python -m benchmarks.clips run --drawings 48 -o measured.jsonl
python -m benchmarks.clips table measured.jsonl                                 # means with intervals, in Markdown
python -m benchmarks.clips sheet measured.jsonl windows.csv --row rife -o worst.png

A run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import drawings, measures, table
from benchmarks.clips.rows import ROWS, elsewhere, keep
from benchmarks.clips.table import Measured
from benchmarks.clips.windows import HIDDEN, Clip, Window, read_windows, windows, write_windows
from mpd.progress import Pictures


@dataclass(frozen=True)
class Case:
    """A window with its truth."""

    kind: str
    name: str
    start: Pictures
    end: Pictures
    times: tuple[float, ...]
    truth: list[Pictures]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clips", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    does = parser.add_subparsers(required=True)
    cut = does.add_parser("cut", help="cut a clip into windows")
    cut.add_argument("clip", type=Path, help="a video, or a folder of numbered frames")
    cut.add_argument("--cuts", type=_numbers, default=(), help="frames before which the clip is cut, such as 30,76")
    cut.add_argument("--apart", type=int, required=True, help="frames from one end of a window to the other")
    cut.add_argument("--stride", type=int, help="frames from one start to the next (default: as far as the ends)")
    cut.add_argument("--part", choices=("tuning", "judging"), default="judging", help="(default: %(default)s)")
    cut.add_argument("-o", "--output", type=Path, required=True, help="the CSV to write")
    cut.set_defaults(run=_cut)
    run = does.add_parser("run", help="make and measure the frames of windows")
    run.add_argument("windows", type=Path, nargs="*", help="CSVs of clip,start,apart")
    run.add_argument("--kind", default="windows", help="what the table calls these windows (default: %(default)s)")
    run.add_argument("--drawings", type=int, default=0, metavar="N", help="the first N drawings too")
    run.add_argument("--rows", type=_names, default=tuple(ROWS), help=f"of {', '.join(ROWS)} (default: all)")
    run.add_argument(
        "--elsewhere", type=Path, action="append", default=[], metavar="FOLDER",
        help="frames made elsewhere: FOLDER/WINDOW/1.png to 5.png; the row has the folder's name",
    )  # fmt: skip
    run.add_argument(
        "--frames", type=Path, metavar="FOLDER",
        help="keep the frames as FOLDER/ROW/WINDOW/1.png to 5.png; what lies there is measured and not made again",
    )  # fmt: skip
    run.add_argument("-o", "--output", type=Path, required=True, help="JSON lines; what stands there is not made again")
    run.set_defaults(run=_run)
    show = does.add_parser("table", help="print the means with their intervals")
    show.add_argument("measured", type=Path)
    show.set_defaults(run=_table)
    sheet = does.add_parser("sheet", help="draw the windows in which a row lost most against the dissolve")
    sheet.add_argument("measured", type=Path)
    sheet.add_argument("windows", type=Path, nargs="*", help="the CSVs that were run")
    sheet.add_argument("--drawings", type=int, default=0, metavar="N")
    sheet.add_argument("--row", default="rife", choices=ROWS)
    sheet.add_argument("--count", type=int, default=10)
    sheet.add_argument("-o", "--output", type=Path, required=True)
    sheet.set_defaults(run=_sheet)
    chosen = parser.parse_args(arguments)
    try:
        does_it: Callable[[argparse.Namespace], None] = chosen.run
        does_it(chosen)
    except (ValueError, OSError, KeyError) as error:
        print(f"benchmarks.clips: {error}", file=sys.stderr)
        return 2
    return 0


def _cut(chosen: argparse.Namespace) -> None:
    clip = Clip(chosen.clip.resolve(), chosen.cuts)
    found = list(windows(clip, chosen.apart, chosen.part, chosen.stride or chosen.apart))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    write_windows(chosen.output.resolve(), found)
    print(f"{len(found)} windows")


def _run(chosen: argparse.Namespace) -> None:
    done = {(one.window, one.row) for one in table.read(chosen.output)}
    distance = measures.FeatureDistance() if measures.available() else None
    if distance is None:
        print(f"left out: the distance of features: pip install {measures.PACKAGES}")
    cases = list(_cases(chosen.windows, chosen.kind, chosen.drawings))
    for number, make in enumerate(cases, 1):
        case = make()
        for row in (*chosen.rows, *(folder.name for folder in chosen.elsewhere)):
            if (case.name, row) not in done and (frames := _frames(case, row, chosen)) is not None:
                table.append(chosen.output, _measured(case, row, frames, distance))
        print(f"{number}/{len(cases)} {case.name}", file=sys.stderr)


def _frames(case: Case, row: str, chosen: argparse.Namespace) -> list[Pictures] | None:
    if row not in ROWS:
        folder = next(folder for folder in chosen.elsewhere if folder.name == row)
        return elsewhere(folder, case.name, len(case.times))
    kept = chosen.frames / row if chosen.frames else None
    if kept and (frames := elsewhere(kept, case.name, len(case.times))) is not None:
        return frames
    frames = ROWS[row](case.start, case.end, case.times)
    if kept:
        keep(kept, case.name, frames)
    return frames


def _measured(case: Case, row: str, frames: list[Pictures], distance: measures.FeatureDistance | None) -> Measured:
    pairs = list(zip(frames, case.truth, strict=True))
    middle = len(pairs) // 2
    return Measured(
        case.kind,
        case.name,
        row,
        float(np.mean([measures.psnr(*pair) for pair in pairs])),
        float(np.mean([measures.ssim(*pair) for pair in pairs])),
        float(np.mean([distance(*pair) for pair in pairs])) if distance is not None else float("nan"),
        measures.disturbed(*pairs[middle], case.start, case.end),
    )


def _cases(paths: Sequence[Path], kind: str, drawn: int) -> Iterator[Callable[[], Case]]:
    """Give what makes each case: decoded one after the other, as a clip takes its memory."""
    for path in paths:
        for window in read_windows(path):
            yield lambda window=window: _of_window(window, kind)  # type: ignore[misc]
    for number in range(drawn):
        yield lambda number=number: _of_drawing(number)  # type: ignore[misc]


def _of_window(window: Window, kind: str) -> Case:
    times = tuple(step / window.apart for step in window.hidden())
    return Case(kind, window.name, *window.ends(), times, window.truth())


def _of_drawing(number: int) -> Case:
    scene = drawings.scene(number)
    times = tuple(step / (HIDDEN + 1) for step in range(1, HIDDEN + 1))
    start, *truth, end = (drawings.picture(scene, time) for time in (0.0, *times, 1.0))
    return Case("drawings", f"drawing-{number:03d}", start, end, times, truth)


def _table(chosen: argparse.Namespace) -> None:
    print(table.table(table.read(chosen.measured)))


def _sheet(chosen: argparse.Namespace) -> None:
    found = table.read(chosen.measured)
    plain = {one.window: one.psnr for one in found if one.row == "dissolve"}
    lost = sorted((one.psnr - plain[one.window], one.window) for one in found if one.row == chosen.row)
    worst = {name: gain for gain, name in lost[: chosen.count]}
    lines = []
    for make in _cases(chosen.windows, "", chosen.drawings):
        case = make()
        if case.name in worst:
            middle = len(case.times) // 2
            made = ROWS[chosen.row](case.start, case.end, case.times)[middle]
            line = np.hstack([case.start, made, case.truth[middle], case.end])
            line = np.asarray(cv2.resize(line, (1280, 1280 * line.shape[0] // line.shape[1])), np.uint8)
            cv2.putText(
                line, f"{case.name} {worst[case.name]:+.1f} dB", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 0, 0)
            )
            lines.append(line)
    cv2.imwrite(str(chosen.output), np.vstack(lines)[..., ::-1])
    print(f"{chosen.output}: start, made, truth, end of {len(lines)} windows")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(main())
