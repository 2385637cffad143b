"""The command `inbetween`: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inbetween import arguments
from inbetween.bar import Bar, text
from inbetween.client import Client, Job
from inbetween.errors import (
    InbetweenError,
    JobCanceled,
    JobFailed,
    ProblemError,
    ServerFault,
    TooMuch,
    Unreachable,
    WaitTimeout,
)

_EXIT: tuple[tuple[type[Exception], int], ...] = (
    (JobFailed, 1),
    (JobCanceled, 1),
    (WaitTimeout, 4),
    (Unreachable, 3),
    (ServerFault, 3),
    (TooMuch, 3),
    (ProblemError, 2),
)
_OTHER_ERROR = 2


def main(given: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = arguments.parser().parse_args(given)
    bar = Bar(chosen.quiet)
    try:
        with Client(chosen.url) as client:
            _COMMANDS[chosen.command](client, chosen, bar)
    except KeyboardInterrupt:
        bar.clear()
        print("inbetween: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough, such as head; at its end Python would say so once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InbetweenError, OSError, ValueError) as error:
        bar.clear()
        print(f"inbetween: {_explained(error)}", file=sys.stderr)
        return next((code for kind, code in _EXIT if isinstance(error, kind)), _OTHER_ERROR)
    return 0


def _submit(client: Client, chosen: Namespace, bar: Bar) -> None:
    options = arguments.options(chosen)
    if chosen.at is not None and len(chosen.at) != len(chosen.keyframes):
        raise ValueError(f"--at has {len(chosen.at)} numbers for {len(chosen.keyframes)} keyframes")
    keyframes = zip(chosen.keyframes, chosen.at or [None] * len(chosen.keyframes), strict=True)
    job = client.inbetween(*keyframes, idempotency_key=chosen.idempotency_key, **options)
    if not (chosen.wait or chosen.output):
        print(_json(job.data) if chosen.json else job.id)
        return
    bar.say(f"{job.id} submitted")
    _wait(job, chosen, bar, cancel=True)
    _deliver(job, chosen, bar)


def _status(client: Client, chosen: Namespace, bar: Bar) -> None:
    job = client.job(chosen.job)
    if chosen.json:
        print(_json(job.data))
        return
    lines = {
        "job": job.id,
        "state": text(job),
        "created": f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
        "method": job.data["options"].get("method"),
        "reference": job.reference,
        "error": job.error,
        "files": "  ".join(file.name for file in job.files),
    }
    if (result := job.result) is not None:
        lines["video"] = f"{result.frames} frames of {result.width}x{result.height}, {result.fps} per second"
        lines["warning"] = "\n          ".join(result.warnings)
    for name, value in lines.items():
        if value:
            print(f"{name:<9} {value}")


def _watch(client: Client, chosen: Namespace, bar: Bar) -> None:
    job = client.job(chosen.job)
    if chosen.json:
        for event in job.events():
            print(json.dumps({"event": event.type, "id": event.id, **event.data}), flush=True)
        job.check()
    else:
        _wait(job, chosen, bar, cancel=False)
    if not chosen.json or chosen.output:
        _deliver(job, chosen, bar)


def _cancel(client: Client, chosen: Namespace, bar: Bar) -> None:
    for job_id in chosen.job:
        job = client.job(job_id).cancel()
        asked = "" if job.over else ", asked to stop"
        print(_json(job.data) if chosen.json else f"{job.id} {job.state}{asked}")


def _delete(client: Client, chosen: Namespace, bar: Bar) -> None:
    for job_id in chosen.job:
        client.job(job_id).delete()
        print(json.dumps({"id": job_id, "deleted": True}) if chosen.json else f"{job_id} deleted")


def _get(client: Client, chosen: Namespace, bar: Bar) -> None:
    job = client.job(chosen.job)
    saved: list[Path] = []
    if chosen.all is not None:
        saved += job.save_all(chosen.all)
    for name in chosen.file or ():
        saved.append(job.save_file(name, Path(name).name))
    if chosen.output or not saved:
        saved += _videos(job, chosen.output or [_first(job)], chosen.take)
    _print(job, saved, chosen, bar)


def _list(client: Client, chosen: Namespace, bar: Bar) -> None:
    jobs = client.jobs(chosen.state, chosen.limit)
    if chosen.json:
        print(_json([job.data for job in jobs]))
        return
    for job in jobs:
        when = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}"
        print(job.id, when, job.data["options"].get("method", ""), text(job), job.reference or "", sep="  ")


_COMMANDS = {
    "submit": _submit,
    "status": _status,
    "watch": _watch,
    "cancel": _cancel,
    "delete": _delete,
    "get": _get,
    "list": _list,
}


def _wait(job: Job, chosen: Namespace, bar: Bar, cancel: bool) -> None:
    job.wait(bar.show, timeout=chosen.timeout, cancel_on_interrupt=cancel)
    bar.clear()


def _deliver(job: Job, chosen: Namespace, bar: Bar) -> None:
    """Save what a finished job leaves: the files that were asked for."""
    _print(job, _videos(job, chosen.output or (), None), chosen, bar)
    if not chosen.output and not chosen.json:
        print(text(job))


def _print(job: Job, saved: Iterable[Path], chosen: Namespace, bar: Bar) -> None:
    for warning in job.result.warnings if job.result is not None else ():
        bar.say(f"warning: {warning}")
    if chosen.json:
        print(_json(job.data))
        return
    for path in saved:
        print(path)


def _videos(job: Job, outputs: Iterable[Path], take: int | None) -> list[Path]:
    """Save each take to each path; where there are several takes, the path says which."""
    takes = range(1, len(job.found().seeds) + 1)
    wanted = takes if take is None else [take]
    return [
        job.save(path.with_stem(f"{path.stem}-take-{number}") if len(wanted) > 1 else path, number)
        for path in outputs
        for number in wanted
    ]


def _first(job: Job) -> Path:
    """Say where a video goes when nobody does: the job's id, in its first format."""
    job.found()
    first = next(file for file in job.files if file.name.startswith("take-1"))
    return Path(job.id + Path(first.name).suffix)


def _explained(error: Exception) -> str:
    """Explain a problem on one line, or on one for each field at fault."""
    if isinstance(error, Unreachable):
        return f"{error}. Is it up? Another server is named by --url or INBETWEEN_URL."
    if isinstance(error, ProblemError) and error.problem.errors:
        return "\n           ".join(f"{each.field}: {each.detail} {each.remedy}" for each in error.problem.errors)
    return str(error)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
