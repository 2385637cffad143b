"""Frames between real frames, and between drawings, against the truth: rows of methods, a line for every window.

python -m benchmarks.clips cut CLIP [--cuts 30,76] --apart 24 -o windows.csv    # windows of a clip, as a CSV
python -m benchmarks.clips run windows.csv --kind "24 apart" -o measured.jsonl  # every row over them
python -m benchmarks.clips run --drawings 48 -o measured.jsonl
python -m benchmarks.clips table measured.jsonl                                 # means with intervals, in Markdown
python -m benchmarks.clips sheet measured.jsonl windows.csv --row rife -o worst.png
python -m benchmarks.clips speed                                                # seconds for a video, side by side
python -m benchmarks.clips paper --table davis.csv pexels.csv --tool lpips=PYTHON   # the paper's measures, its Table 1

A run that was broken off goes on where it was. docs/clips.md says what is measured and what came out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from benchmarks import pages
from benchmarks.clips import commands, drawings, table
from benchmarks.clips.paper.tools import MEASURES, ToolError
from benchmarks.clips.rows import ROWS
from mpd.base import ModelError
from mpd.methods import SettingsError
from mpd.rife.weights import WeightsError


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    does_it: Callable[[argparse.Namespace], None] = chosen.run
    try:
        does_it(chosen)
    except (ValueError, OSError, KeyError, ModelError, SettingsError, WeightsError, ToolError) as error:
        told = error.args[0] if isinstance(error, KeyError) else error
        print(f"benchmarks.clips: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbenchmarks.clips: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="python -m benchmarks.clips", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    does = whole.add_subparsers(required=True, metavar="COMMAND")
    _cut(does.add_parser("cut", help="cut a clip into windows"))
    _run(does.add_parser("run", help="make and measure the frames of windows"))
    show = does.add_parser("table", help="print the means with their intervals")
    show.add_argument("measured", type=Path, nargs="+", help="what `run` has written")
    show.add_argument("--against", metavar="ROW", help=f"gains are over this row (default: {table.AGAINST})")
    show.add_argument("--rival", metavar="ROW", help=f"wins are over this row (default: {table.RIVAL})")
    _published(show)
    show.set_defaults(run=commands.show)
    speed = does.add_parser("speed", help="how long the methods without a base model take on this machine")
    speed.add_argument("--frames", type=int, default=25, help="keyframes included (default: %(default)s)")
    speed.add_argument("--size", type=_size, default=(1024, 576), help="(default: 1024x576)")
    _published(speed)
    speed.set_defaults(run=commands.time_it)
    _sheet(does.add_parser("sheet", help="draw the windows in which a row lost most against the dissolve"))
    _paper(does.add_parser("paper", help="LPIPS, FID, FVD and VBench by their own tools, as the paper's Table 1"))
    return whole


def _cut(cut: argparse.ArgumentParser) -> None:
    cut.add_argument("clip", type=Path, help="a video, or a folder of numbered frames")
    cut.add_argument("--cuts", type=_numbers, default=(), help="frames before which the clip is cut, such as 30,76")
    cut.add_argument("--apart", type=int, required=True, help="frames from one end of a window to the other")
    cut.add_argument("--stride", type=int, help="frames from one start to the next (default: as far as the ends)")
    cut.add_argument("--part", choices=("tuning", "judging"), default="judging", help="(default: %(default)s)")
    cut.add_argument("-o", "--output", type=Path, required=True, help="the CSV to write")
    cut.set_defaults(run=commands.cut)


def _run(run: argparse.ArgumentParser) -> None:
    run.add_argument("windows", type=Path, nargs="*", help="CSVs of clip,start,apart")
    run.add_argument("--kind", default="windows", help="what the table calls these windows (default: %(default)s)")
    _drawings(run)
    _rows(run)
    run.add_argument(
        "--frames", type=Path, metavar="FOLDER",
        help="keep the frames as FOLDER/ROW/WINDOW/1.png and on; what lies there is measured and not made again",
    )  # fmt: skip
    run.add_argument(
        "--frames-alone", action="store_true",
        help="measure each frame by itself, and leave out VMAF, warping error and smoothness: twice as fast",
    )  # fmt: skip
    run.add_argument("-o", "--output", type=Path, required=True, help="JSON lines; what stands there is not made again")
    run.set_defaults(run=commands.run)


def _drawings(part: argparse.ArgumentParser) -> None:
    """Add what decides which drawings there are."""
    part.add_argument("--drawings", type=int, default=0, metavar="N", help="N drawings too (default: none)")
    part.add_argument(
        "--drawings-from", type=int, default=0, metavar="N",
        help=f"the first one's number; those from {drawings.TUNING} on are for tuning (default: %(default)s)",
    )  # fmt: skip


def _rows(part: argparse.ArgumentParser) -> None:
    """Add what decides which rows there are."""
    part.add_argument("--rows", type=_names, help=f"of truth, {', '.join(ROWS)} and those below (default: all)")
    _sources(part)


def _sources(part: argparse.ArgumentParser) -> None:
    """Add what brings rows beside those that are always there."""
    part.add_argument("--film", type=Path, metavar="FILE", help="a TorchScript f(x0, x1, t): the row `film`")
    part.add_argument("--model", help="a base model, by folder or name: a row for each of its methods")
    part.add_argument("--variant", help="of its weights, such as fp16")
    part.add_argument("--methods", type=_names, help="the methods of --model (default: all that know both ends)")
    part.add_argument("--seed", type=int, default=0, help="of sampled rows (default: %(default)s)")
    part.add_argument(
        "--elsewhere", type=Path, action="append", default=[], metavar="FOLDER",
        help="frames made elsewhere: FOLDER/WINDOW/1.png and on, and 0.png and the one behind the last where they are"
        " not the keyframes themselves; the row has the folder's name",
    )  # fmt: skip


def _sheet(sheet: argparse.ArgumentParser) -> None:
    sheet.add_argument("measured", type=Path)
    sheet.add_argument("windows", type=Path, nargs="*", help="the CSVs that were run")
    _drawings(sheet)
    sheet.add_argument("--row", default="rife", help=f"one of {', '.join(ROWS)} and those below (default: %(default)s)")
    sheet.add_argument("--count", type=int, default=10, help="of windows, the worst first (default: %(default)s)")
    _sources(sheet)
    sheet.add_argument("--frames", type=Path, metavar="FOLDER", help="where the run has kept its frames")
    sheet.add_argument("-o", "--output", type=Path, required=True)
    sheet.set_defaults(run=commands.sheet)


def _paper(paper: argparse.ArgumentParser) -> None:
    paper.add_argument(
        "--table", type=Path, nargs=2, required=True, metavar=("DAVIS", "PEXELS"),
        help="the CSVs of windows of both sets; the paper's own lists were never published",
    )  # fmt: skip
    _rows(paper)
    paper.add_argument(
        "--tool", type=_pair, action=_Pairs, default={}, metavar="TOOL=PYTHON",
        help=f"the Python of an environment that has the tool, one of {', '.join(MEASURES)}; may be given for each",
    )  # fmt: skip
    paper.add_argument(
        "--tool-arguments", type=_pair, action=_Pairs, default={}, metavar="TOOL=WORDS",
        help="more for its program, such as fvd='--weights i3d_pretrained_400.pt --device cuda'",
    )  # fmt: skip
    paper.add_argument("--frames", type=Path, metavar="FOLDER", help="keep the frames here, and make none twice")
    paper.add_argument("-o", "--output", type=Path, help="the values as JSON too")
    paper.set_defaults(run=commands.paper)


class _Pairs(argparse.Action):
    """Collects NAME=VALUE into a dict."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: object = None) -> None:
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), **dict([cast(tuple[str, str], values)])})


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or name not in MEASURES:
        raise argparse.ArgumentTypeError(f"{text!r} is not TOOL=…, with a tool of {', '.join(MEASURES)}")
    return name, value


def _published(part: argparse.ArgumentParser) -> None:
    part.add_argument("--publish", action="store_true", help="put them into clips.md")
    part.add_argument("--docs", type=Path, default=pages.DOCS, metavar="FOLDER", help="which has the page")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(main())
