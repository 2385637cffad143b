"""The command `mpd`: keyframes in, a video out, without a service.

Torch is loaded only for methods that need a model.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import mpd
from mpd import calibrate, fetch
from mpd.doubts import doubts
from mpd.lengths import denoiser_calls, segment_frames
from mpd.methods import DEFAULT_METHOD, METHODS, OPTIONS, Settings
from mpd.options import GROUPS, Option
from mpd.output.formats import FORMATS, OutputFormat, any_alpha, sample_bits

if TYPE_CHECKING:
    from mpd.progress import Progress, Take

EXAMPLES = """\
examples:
  mpd a.jpg b.jpg                              optical flow, no model: inbetween.mp4 in a second or two
  mpd a.jpg b.jpg --method rife                the learned interpolator, no model
  mpd a.jpg b.jpg c.jpg --loop -o loop.gif     three keyframes and back to the first, without a seam
  mpd a.jpg b.jpg -o out.mp4 -o frames.zip     two files of the same video
  mpd a.png b.png -o cut-4444.mov              transparent keyframes, ProRes 4444 for the edit
  mpd a.jpg b.jpg --model stabilityai/stable-video-diffusion-img2vid-xt --variant fp16
                                               Motion Prior Distillation (mpd-vibid) on a GPU
  mpd a.jpg b.jpg --model DIR --method mpd --seeds 1,2,3 -o out.mp4
                                               three takes: out-take-1.mp4, out-take-2.mp4, out-take-3.mp4
  mpd fetch --help                             a model's files once from the hub, its licence accepted
  mpd calibrate --help                         how fast a model moves things, for --motion-bucket-id auto

exit status: 0 done, 2 something cannot be used as given (one line says what), 130 interrupted.
An interrupted or failed run leaves no half-written file; a file that is there is replaced.
"""

_SHEETS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


class _BadUsage(Exception):
    """Something on the command line cannot be used; the message is the one line to print."""


class _CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["fetch"]:
            fetch.run(fetch.parser(_CommandParser).parse_args(given[1:]))
        elif given[:1] == ["calibrate"]:
            calibrate.run(calibrate.parser(_CommandParser).parse_args(given[1:]))
        else:
            _run(_parser().parse_args(given))
    except KeyboardInterrupt:
        print("\nmpd: interrupted", file=sys.stderr)
        return 130
    except (
        _BadUsage,
        fetch.CannotFetch,
        calibrate.CannotCalibrate,
        mpd.SettingsError,
        mpd.KeyframeError,
        OSError,
    ) as error:
        print(f"mpd: error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.methods is not None:
        from mpd import registration

        registration.read_file(options.methods)
    if options.list_methods:
        print(_methods())
        return
    if not options.keyframes:
        raise _BadUsage("no keyframes: name at least two pictures (see mpd --help)")
    settings = _settings(options)
    segment_frames(settings, len(options.keyframes), native_frames=2)  # too few or too many, found before any work
    outputs = [_output(Path(name)) for name in options.output or ["inbetween.mp4"]]
    sheet = _sheet(options.contact_sheet, options.keyframes)
    from mpd import photographs

    images = [photographs.load(path) for path in options.keyframes]
    console = _Console(options.quiet)
    model = _model(options, settings, console)
    interpolator = _interpolator(options, settings, console)
    with closing(console), _plain_out_of_memory():
        names = [format.name for _, format in outputs]
        bits, matte = sample_bits(names), any_alpha(names)
        for report in mpd.inbetween(model, images, settings, bits=bits, matte=matte, interpolator=interpolator):
            if isinstance(report, mpd.Progress):
                console.show(report)
                continue
            if report.index == 0:
                for warning in doubts(report.motions, names, images, report.background):
                    console.say(f"warning: {warning}")
            for path, format in outputs:
                name = _of_take(path, report, settings, format.ending)
                _write_video(name, format, report, console)
            if sheet is not None:
                _write_sheet(_of_take(sheet, report, settings, sheet.suffix), report, settings, console)


class _Console:
    """What the person at the terminal sees: a progress bar and lines on stderr, finished files on stdout."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        self._quiet = quiet
        # tqdm's own None: a bar on a terminal, nothing in a log.
        self._bar = tqdm(
            total=1.0,
            disable=quiet or None,
            leave=False,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {remaining} left",
        )

    def say(self, line: str) -> None:
        if not self._quiet:
            self._bar.write(f"mpd: {line}", file=sys.stderr)

    def done(self, line: str) -> None:
        if not self._quiet:
            self._bar.write(line, file=sys.stdout)

    def show(self, progress: Progress) -> None:
        parts = [f"step {progress.step}/{progress.steps}"]
        if progress.segments > 1:
            parts.insert(0, f"segment {progress.segment + 1}/{progress.segments}")
        if progress.takes > 1:
            parts.insert(0, f"take {progress.take + 1}/{progress.takes}")
        self._bar.set_description_str(" ".join(parts), refresh=False)
        self._bar.update(progress.fraction - self._bar.n)

    def writing(self, path: Path, frames: int, done: int) -> None:
        self._bar.set_description_str(f"writing {path.name} {done}/{frames}")

    def close(self) -> None:
        self._bar.close()


def _settings(options: argparse.Namespace) -> Settings:
    method = options.method or (DEFAULT_METHOD if options.model else "flow")
    given = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    settings = Settings(**{**given, "method": method})
    if METHODS[method].needs_model and not options.model:
        raise _BadUsage(
            f"{method} needs a model: give --model (a diffusers folder or a hub id), or choose --method flow"
        )
    if options.model and not METHODS[method].needs_model:
        raise _BadUsage(f"{method} uses no model: remove --model, or choose another --method")
    return settings


def _output(path: Path) -> tuple[Path, OutputFormat]:
    for format in sorted(FORMATS.values(), key=lambda format: -len(format.ending)):
        if path.name.lower().endswith(format.ending):
            return _writable(path), format
    raise _BadUsage(f"-o {path}: the name has to end in one of {_endings(FORMATS.values())}")


def _of_take(path: Path, take: Take, settings: Settings, ending: str) -> Path:
    """Name the file of one take: where there are several, its number goes before the ending (`out-take-2.mp4`)."""
    if len(settings.seeds) == 1:
        return path
    return path.with_name(f"{path.name[: -len(ending)]}-take-{take.index + 1}{ending}")


def _sheet(name: str | None, keyframes: Sequence[str]) -> Path | None:
    if name is None:
        return None
    if Path(name).suffix.lower() not in _SHEETS:
        raise _BadUsage(f"--contact-sheet {name}: the name has to end in one of {', '.join(_SHEETS)}")
    if Path(name).resolve() in [Path(keyframe).resolve() for keyframe in keyframes]:
        raise _BadUsage(f"--contact-sheet {name} is a keyframe, which it would replace: choose another name")
    return _writable(Path(name))


def _writable(path: Path) -> Path:
    """Refuse a path that cannot be written to, before the work and not after it."""
    if not path.parent.is_dir():
        raise _BadUsage(f"{path}: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise _BadUsage(f"{path} cannot be written")
    return path


def _model(options: argparse.Namespace, settings: Settings, console: _Console) -> Any:
    """Load the model that the command line names; None for a method that needs none."""
    if not METHODS[settings.method].needs_model:
        console.say(
            f"{settings.method}, no model" + ("" if options.method else " (--model makes mpd-vibid the default)")
        )
        return None
    console.say(f"{settings.method}; loading {options.model}")
    names = ("revision", "variant", "device", "dtype", "accelerate")
    try:
        model = mpd.load(options.model, **{name: getattr(options, name) for name in names})
    except mpd.ModelError as error:
        raise _BadUsage(str(error)) from error
    licence = f", licence {model.license}" if model.license else ""
    console.say(f"on {model.device}{licence}; {denoiser_calls(settings, model.schedule)} denoiser calls a segment")
    return model


def _interpolator(options: argparse.Namespace, settings: Settings, console: _Console) -> Any:
    """Load the learned interpolator; None for what needs none."""
    method = METHODS[settings.method]
    if method.interpolator is None and not (method.needs_model and settings.retimed):
        return None
    with_film = method.interpolator == "film" or (method.interpolator is None and options.film is not None)
    if with_film and options.film is None:
        raise _BadUsage("film needs --film FILE, a TorchScript interpolator f(x0, x1, t); --method rife needs no file")
    from mpd import film, rife
    from mpd.rife.weights import WeightsError

    interpolator: Any
    try:
        if with_film:
            interpolator = film.Film(options.film, options.device)
        else:
            interpolator = rife.load(options.rife_weights, options.device)
    except WeightsError as error:
        raise _BadUsage(str(error)) from error
    facts = interpolator.facts
    console.say(f"{facts['name']} on {interpolator.device}, licence {facts['license'] or 'not known'}")
    return interpolator


def _write_video(path: Path, format: OutputFormat, take: Take, console: _Console) -> None:
    from mpd.output import clip
    from mpd.output.video import encode

    encode(clip.of(take), format.name, path, partial(console.writing, path, len(take.frames)))
    count, height, width = take.frames.shape[:3]
    console.done(f"{path}: {count} frames, {width}x{height}, {take.fps} fps, {count / take.fps:.1f} s")


def _write_sheet(path: Path, take: Take, settings: Settings, console: _Console) -> None:
    from mpd.output.stills import contact_sheet
    from mpd.output.video import whole_file

    count, height, width = take.frames.shape[:3]
    label = f"{settings.method} · seed {take.seed} · {count} frames · {width}x{height} · {take.fps} fps"
    with whole_file(path) as unfinished:
        unfinished.write_bytes(contact_sheet(take.frames, label=label, format=_SHEETS[path.suffix.lower()]))
    console.done(f"{path}: contact sheet")


@contextmanager
def _plain_out_of_memory() -> Iterator[None]:
    """Say in one line that the GPU is out of memory, for that is a matter of the settings."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which must not be imported for flow
            raise
        raise _BadUsage("out of GPU memory: use a smaller --width and --height, or fewer --frames") from error


def _methods() -> str:
    lines = ["method      title                    denoiser calls at 25 steps, and what it does", ""]
    for method in METHODS.values():
        calls = denoiser_calls(Settings(method=method.name)) or "-"
        lines.append(f"{method.name:<11} {method.title:<24} {calls!s:>3}  {method.description}")
    return "\n".join(lines)


def _list_of(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def parse(text: str) -> tuple[Any, ...]:
        return tuple(kind(part) for part in text.split(","))

    parse.__name__ = f"comma-separated {kind.__name__}"
    return parse


def _whole_or(words: Sequence[str], text: str) -> int | str:
    try:
        return text if text in words else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor {' or '.join(words)}") from None


def _parser() -> argparse.ArgumentParser:
    parser = _CommandParser(
        prog="mpd",
        usage="mpd KEYFRAME KEYFRAME [KEYFRAME ...] [-o FILE] [options]",
        description="Make the video between two or more keyframes.",
        epilog=EXAMPLES,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=26, width=100),
    )
    parser.add_argument(
        "keyframes", nargs="*", metavar="KEYFRAME", help="pictures in order: JPEG, PNG, WebP, AVIF or HEIC, of any size"
    )
    _add_output_options(parser.add_argument_group("output"))
    _add_model_options(parser.add_argument_group("the model (torch)"))
    for group, title in GROUPS.items():
        of_group = [option for option in OPTIONS.values() if option.group == group]
        if of_group:
            section = parser.add_argument_group(title)
            for option in of_group:
                section.add_argument(f"--{option.name.replace('_', '-')}", help=_help(option), **_flag(option))
    return parser


def _endings(formats: Iterable[OutputFormat]) -> str:
    return ", ".join(format.ending for format in formats)


def _add_output_options(group: Any) -> None:
    keeping = [format for format in FORMATS.values() if format.alpha]
    group.add_argument(
        "-o",
        "--output",
        action="append",
        metavar="FILE",
        help=f"where to, by the ending: {_endings(FORMATS.values())}; {_endings(keeping)} keep transparency; "
        "repeat for several (default: inbetween.mp4)",
    )
    group.add_argument("--contact-sheet", metavar="FILE", help="also all frames on one picture, .png or .jpg")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    group.add_argument("--methods", metavar="FILE", help="a Python file that adds methods with mpd.register")
    group.add_argument("--list-methods", action="store_true", help="list the methods and exit")
    group.add_argument("--version", action="version", version=f"mpd {mpd.__version__}")


def _add_model_options(group: Any) -> None:
    add = group.add_argument
    add(
        "--model",
        metavar="DIR|HUBID",
        help="a diffusers folder of SVD's architecture, or its id on the Hugging Face hub",
    )
    add("--revision", metavar="COMMIT", help="of the hub id: a commit, tag or branch")
    add("--variant", metavar="NAME", help="of the weight files, such as fp16")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add(
        "--accelerate",
        default="auto",
        metavar="LEVEL",
        help="auto, off, exact or max, which approximates; auto is exact on CUDA (default: %(default)s)",
    )
    add(
        "--rife-weights",
        default="auto",
        metavar="FILE",
        help="of RIFE 4.0, for --method rife and, without --film, for --output-fps beside a model; auto are those that "
        "weights.txt installs (default: %(default)s)",
    )
    add(
        "--film",
        metavar="FILE",
        help="an interpolator f(x0, x1, t) as TorchScript: for --method film, and for --output-fps beside a model",
    )
    add("--dtype", default="auto", metavar="NAME", help="auto, float16, bfloat16 or float32 (default: %(default)s)")


_FLAGS: dict[str, dict[str, Any]] = {
    "boolean": {"action": "store_true", "default": None},
    "integer": {"type": int, "metavar": "N"},
    "number": {"type": float, "metavar": "X"},
    "integers": {"type": _list_of(int), "metavar": "N,N,..."},
    "numbers": {"type": _list_of(float), "metavar": "X,X,..."},
    "colour": {"metavar": "#RRGGBB"},
    "text": {"metavar": "TEXT"},
}
"""What argparse is told of a flag, by the option's kind."""


def _flag(option: Option) -> dict[str, Any]:
    if option.kind == "choice":
        # The library refuses an unknown method in its own words.
        return {"metavar": "NAME"} if option.name == "method" else {"choices": option.choices}
    if option.kind == "integer" and option.choices:
        return {"type": partial(_whole_or, option.choices), "metavar": f"N|{'|'.join(option.choices)}"}
    return _FLAGS[option.kind]


def _help(option: Option) -> str:
    """Write an option's line, its limits and what holds without it, as argparse reads a help text."""
    facts = [f"{option.limit.low:g} to {option.limit.high:g}"] if option.limit and option.name != "seeds" else []
    if option.name == "method":
        facts = [", ".join(option.choices), f"default: flow, with --model {DEFAULT_METHOD}"]
    elif option.unset:
        facts.append(f"default: {option.unset}")
    elif option.kind != "boolean":
        facts.append(f"default: {_written(option.default)}")
    return " ".join([option.hint, *([f"({'; '.join(facts)})"] if facts else [])]).replace("%", "%%")


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    sys.exit(main())
