"""One run of a benchmark of forms: each is built, asked, compared with the truth, timed and let go again.

A compiled form runs in processes of its own, two of them one after the other: the first compiles, and the second finds
its code on disk, as a worker does at its second start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.card import clocks, results
from benchmarks.card.models import FULL, SMALL, ModelSize
from mpd.svd.accelerate import compilation

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Make the parser of what all three benchmarks are asked."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--small", action="store_true", help="a small likeness of SVD-XT, for a CPU")
    made.add_argument("--frames", type=int, help="default: 25; 4 with --small")
    made.add_argument("--width", type=int, help="default: 1024; 128 with --small")
    made.add_argument("--height", type=int, help="default: 576; 64 with --small")
    made.add_argument("--device", help="default: cuda where there is one, else cpu")
    made.add_argument("--dtype", choices=list(DTYPES), default="float16", help="default: float16")
    made.add_argument("--repeats", type=int, default=5, help="of every timing, whose median counts (default: 5)")
    made.add_argument("--backend", default="inductor", help="of torch.compile (default: inductor)")
    made.add_argument("--out", type=Path, default=Path("var/benchmark-gpu"), help="folder (default: var/benchmark-gpu)")
    made.add_argument("--publish", action="store_true", help="put the card's results into docs/performance.md")
    return made


def size(asked: argparse.Namespace) -> ModelSize:
    chosen = SMALL if asked.small else FULL
    video = {side: getattr(asked, side) or getattr(chosen, side) for side in ("frames", "width", "height")}
    return ModelSize(chosen.name, {**chosen.unet, "num_frames": video["frames"]}, chosen.vae, chosen.clip, **video)


def device(asked: argparse.Namespace) -> torch.device:
    """Choose the device; exits where SVD-XT would have to run on a CPU."""
    chosen = torch.device(asked.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cpu" and not asked.small:
        sys.exit("there is no CUDA card for SVD-XT at full size here; --small runs on a CPU")
    return chosen


def main(name: str, about: str | None, forms: ModuleType, argv: Sequence[str] | None) -> int:
    """Measure the forms of benchmarks/card/unets.py or decoders.py, and write the results."""
    command = parser(name, about)
    command.add_argument("--forms", nargs="+", choices=list(forms.FORMS), default=list(forms.FORMS), metavar="NAME")
    command.add_argument("--alone", choices=list(forms.COMPILED), help=argparse.SUPPRESS)
    command.add_argument("--truth", type=Path, help=argparse.SUPPRESS)
    command.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    asked = command.parse_args(argv)
    place, dtype, what = device(asked), DTYPES[asked.dtype], size(asked)
    compilation.BACKEND = asked.backend
    with torch.inference_mode():
        if asked.alone:
            compilation.keep_in(asked.cache)
            found = measured(forms.FORMS[asked.alone], what, place, dtype, asked.repeats, torch.load(asked.truth))
            print(json.dumps(found))
            return 0
        truth = known(forms.truth, what, place, dtype)
        rows: dict[str, Any] = {}
        for form in asked.forms:
            if getattr(forms, "there", lambda *_: True)(form, place):
                rows[form] = (
                    in_processes(name, form, asked, truth)
                    if form in forms.COMPILED
                    else measured(forms.FORMS[form], what, place, dtype, asked.repeats, truth)
                )
                print(f"{form}: {json.dumps(rows[form])}", flush=True)
        section = {
            "size": f"{what.frames} frames of {what.width}x{what.height}, {what.name}",
            "dtype": asked.dtype,
            "counted": {key: asdict(value) for key, value in forms.counted(what, dtype).items()},
            "forms": rows,
            **getattr(forms, "more", lambda *_: {})(what, place, dtype, asked.repeats),
        }
        return results.write(asked, place, dtype, name, section)


def known(truth: Callable[..., Tensor], what: ModelSize, place: torch.device, dtype: torch.dtype) -> Tensor | None:
    """Compute the truth; None where it does not fit into the memory, being in float32."""
    try:
        return truth(what, place, dtype)
    except torch.OutOfMemoryError:
        return None
    finally:
        clocks.release(place)


def measured(
    build: Callable[..., Any],
    what: ModelSize,
    place: torch.device,
    dtype: torch.dtype,
    repeats: int,
    truth: Tensor | None,
) -> dict[str, Any]:
    """Measure a form's seconds, bytes, and error: relative, in the sum of squares.

    compile: what the first call took more. A form that does not fit into the memory says so instead.
    """
    try:
        form = build(what, place, dtype)
        with form.warming():
            got, first = clocks.first(form.call, place)
        timing = clocks.timed(form.call, place, repeats)
    except torch.OutOfMemoryError:
        clocks.release(place)
        return {"out_of_memory": True}
    if not torch.isfinite(got).all():
        raise RuntimeError("there are numbers in the result that are none")
    error = None if truth is None else float((got.cpu().double() - truth.double()).norm() / truth.double().norm())
    found = {"seconds": timing.seconds, "peak": timing.peak, "error": error, "compile": first - timing.seconds}
    del form, got
    clocks.release(place)
    return found


def in_processes(name: str, form: str, asked: argparse.Namespace, truth: Tensor | None) -> dict[str, Any]:
    """Measure a compiled form by a process without compiled code on disk, and by another one that finds it there."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(truth, Path(folder) / "truth")
        command = [sys.executable, "-m", f"benchmarks.{name}", "--alone", form]
        command += ["--truth", f"{folder}/truth", "--cache", f"{folder}/cache"]
        for option in ("frames", "width", "height", "device", "dtype", "repeats", "backend"):
            if (value := getattr(asked, option)) is not None:
                command += [f"--{option}", str(value)]
        command += ["--small"] if asked.small else []
        cold, warm = (json.loads(_output(command).splitlines()[-1]) for _ in range(2))
    if "out_of_memory" in cold:
        return dict(cold)
    return {**warm, "compile_cold": cold["compile"], "compile_warm": warm["compile"]}


def _output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
