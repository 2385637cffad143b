"""What the command line may say."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from inbetween.connection import API_KEY, DEFAULT_URL, URL, __version__
from inbetween.options import FLAGS, SUFFIXES, Flag
from inbetween.records import STATES

EXAMPLES = f"""\
examples:
  inbetween submit a.png b.png -o out.mp4                    wait, with a progress bar, and bring the video
  inbetween submit a.png b.png c.png --at 0,12,48 -m vibid -o shot.mov -o shot.gif
  inbetween submit a.png b.png --seed 1 --seed 2 -o out.mp4  two takes: out-take-1.mp4, out-take-2.mp4
  id=$(inbetween submit a.png b.png --lam 0.3)               without waiting: prints the job's id
  inbetween watch $id                                        its progress; Ctrl-C leaves it running
  inbetween get $id -o out.mp4
  inbetween list --state running
  inbetween status $id --json | jq .progress

environment:
  {URL}      the server (default: {DEFAULT_URL})
  {API_KEY}  the API key; there is no flag for it, since others can see a command's arguments

exit status:
  0 done · 1 the job failed or was canceled · 2 the request or the arguments cannot be used, or the key may not ·
  3 the server cannot be reached or is at fault · 4 not over in time (--timeout) · 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Make the parser: every command has its arguments, and `command`, its name."""
    top = _Parser(
        prog="inbetween",
        description="Videos between keyframes, made by an inbetweening service.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"inbetween {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, *more: _Parser, job: str | None = "ID") -> argparse.ArgumentParser:
        described = f"{help[0].upper()}{help[1:]}."
        made = commands.add_parser(name, help=help, description=described, parents=[_common(), *more])
        if job is not None:
            made.add_argument("job", metavar="ID", nargs="+" if job == "IDS" else None, help="of a job")
        return made

    _submit(command("submit", "ask for a video; with --wait or -o, wait for it", _waiting(), _saving(), job=None))
    command("status", "show one job")
    command("watch", "follow a job to its end; with --json, its events as they come, one a line", _waiting(), _saving())
    command("cancel", "stop jobs", job="IDS")
    command("delete", "erase jobs with their files", job="IDS")
    get = command("get", "download from a finished job", _saving())
    get.add_argument("--take", type=int, help="only this take, from 1 (default: all)")
    get.add_argument(
        "--file", action="append", metavar="NAME", help="a file by its name, such as metadata.json; repeat"
    )
    get.add_argument("--all", type=Path, metavar="FOLDER", help="every file of the result")
    listing = command("list", "your jobs, newest first", job=None)
    listing.add_argument("--state", choices=STATES)
    listing.add_argument("-n", "--limit", type=int, default=20, help="how many at most (default: 20)")
    return top


def options(chosen: argparse.Namespace) -> dict[str, Any]:
    """Collect the job's options: the named flags, then what `--set` says."""
    named: dict[str, Any] = {flag.name: getattr(chosen, flag.name) for flag in FLAGS}
    named["seeds"] = [*(named["seeds"] or ()), *(named.pop("seed") or ())] or None
    if chosen.size is not None:
        named["width"], named["height"] = chosen.size
    if chosen.webhook is not None:
        named["webhook"] = {"url": chosen.webhook}
    asked = list(chosen.formats or ())
    for path in chosen.output or ():
        wanted = SUFFIXES[path.suffix.lower()]
        # A finer format of the same suffix, such as prores4444, will do.
        asked += [] if any(name.startswith(wanted) for name in asked) else [wanted]
    named["formats"] = asked or None
    return {name: value for name, value in named.items() if value is not None} | dict(chosen.set or ())


def _submit(submit: argparse.ArgumentParser) -> None:
    submit.add_argument("keyframes", nargs="+", metavar="KEYFRAME", help="a picture's path or URL, two or more")
    submit.add_argument("--at", type=_numbers, metavar="N,N,…", help="the frame at which each keyframe stands, from 0")
    submit.add_argument("--size", type=_size, metavar="WxH", help="--width and --height in one word")
    options = submit.add_argument_group("options", "What is not said has the server's default.")
    for flag in FLAGS:
        kind = _flag_kind(flag)
        help = flag.help + ("; repeat for several" if kind.get("action") == "append" else "")
        options.add_argument(*_flag_names(flag), dest=flag.name, help=help.replace("%", "%%"), **kind)
    submit.add_argument(
        "--set",
        action="append",
        type=_setting,
        metavar="NAME=VALUE",
        help="an option as JSON, such as seeds=[1,2]; repeat",
    )
    submit.add_argument(
        "--idempotency-key", metavar="TEXT", help="the same request with the same text is one job, for a day"
    )
    submit.add_argument("-w", "--wait", action="store_true", help="return when the job is over; Ctrl-C cancels it")


_SHORT = {"method": "-m", "frames": "-n", "formats": "-f"}
_KINDS: dict[str, dict[str, Any]] = {
    "boolean": {"action": "store_true", "default": None},
    "integer": {"type": int, "metavar": "N"},
    "number": {"type": float, "metavar": "X"},
    "colour": {"metavar": "#RRGGBB"},
    "text": {"metavar": "TEXT"},
    "webhook": {"metavar": "URL"},
}
"""What argparse is told of a flag, by the kind of its option."""


def _flag_names(flag: Flag) -> list[str]:
    """Spell a flag: `--exact-keyframes`. What may be said several times is said by its singular, such as `--format`."""
    name = "format" if flag.name == "formats" else flag.name.replace("_", "-")
    return [*([_SHORT[flag.name]] if flag.name in _SHORT else []), f"--{name}"]


def _flag_kind(flag: Flag) -> dict[str, Any]:
    if flag.name == "seed":
        return {"type": int, "action": "append", "metavar": "N"}
    if flag.kind in ("integers", "numbers"):
        return {"type": _numbers if flag.kind == "integers" else _fractions, "metavar": "N,N,…"}
    if flag.kind == "choices":
        return {"action": "append", "metavar": "NAME"}
    if flag.kind == "choice":
        # The server may know methods that this version does not.
        return {"metavar": "NAME"} if flag.name == "method" else {"choices": flag.choices}
    if flag.kind == "integer" and flag.choices:
        return {"type": partial(_whole_or, flag.choices), "metavar": f"N|{'|'.join(flag.choices)}"}
    return _KINDS[flag.kind]


def _whole_or(words: Sequence[str], text: str) -> int | str:
    try:
        return text if text in words else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor {' or '.join(words)}") from None


def _common() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument("--url", help=f"the server (default: ${URL}, else {DEFAULT_URL})")
    common.add_argument("--json", action="store_true", help="the server's own JSON on standard output")
    common.add_argument("-q", "--quiet", action="store_true", help="nothing on standard error but errors")
    return common


def _waiting() -> _Parser:
    waiting = _Parser(add_help=False)
    waiting.add_argument("--timeout", type=float, metavar="SECONDS", help="stop waiting then; the job goes on")
    return waiting


def _saving() -> _Parser:
    saving = _Parser(add_help=False)
    saving.add_argument(
        "-o",
        "--output",
        action="append",
        type=_output,
        metavar="FILE",
        help=f"where the video goes, and its format: {', '.join(SUFFIXES)}; repeat for several",
    )
    return saving


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text!r} ends in none of {', '.join(SUFFIXES)}")
    return path


def _numbers(text: str) -> Sequence[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not whole numbers with commas between, such as 0,12,48"
        ) from None


def _fractions(text: str) -> Sequence[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, such as 1,2.5") from None


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1024x576")
    return int(match[1]), int(match[2])


def _setting(text: str) -> tuple[str, Any]:
    """Read a value as JSON where it is some, else as text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
