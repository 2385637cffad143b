"""Many workers on one Redis, and very long queues: what stays the same as the service grows.

    .venv/bin/python -m benchmarks.scale                    # all of it, some ten minutes
    .venv/bin/python -m benchmarks.scale --workers 1 8 --depths 0 1000

Workers: each is a sleeping engine behind its real socket and one RQ worker of its own, all on this machine and on one
redis-server that writes everything down before it answers. Each job is the whole story (fetch, 25 steps, encode, store,
commit). Told are the jobs a second, the share of the time in which the engines slept, and Redis' commands and processor
time for each job, heartbeats and all.

Queues: at each depth the milliseconds of a submission (two JPEGs of 1024x576 to a real API), a look at the queue's last
job with its position, the position alone, a cancellation of a job at the queue's end, and a sweep of the keeper, which
looks for jobs that RQ has lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import pages  # noqa: E402
from benchmarks.scale import queues, workers  # noqa: E402
from benchmarks.scale.engines import STEPS  # noqa: E402
from benchmarks.scale.site import ScaleSite  # noqa: E402
from service.observe import logs  # noqa: E402
from service.settings import ServiceSettings  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    logs.configure(ServiceSettings.model_validate({"log_level": "warning"}))
    found: dict[str, Any] = {"run": {"machine": pages.machine(), "generation": asked.generation}}
    found["run"]["load_before"] = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        found["workers"] = []
        for count in tqdm(asked.workers, desc="workers", disable=None):
            with ScaleSite(Path(folder) / f"workers-{count}") as site:
                found["workers"].append(workers.measure(site, count, asked.generation, asked.each))
        with ScaleSite(Path(folder) / "queue") as site:
            found["queues"] = list(queues.measure(site, sorted(asked.depths), asked.times))
    text = table(found)
    print(text)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if asked.docs:
        pages.publish("scale", text, found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8, 32], help="(default: 1 2 4 8 32)")
    parser.add_argument("--generation", type=float, default=4.0, help="seconds that an engine sleeps (default: 4)")
    parser.add_argument("--each", type=int, default=5, help="jobs for each worker (default: 5)")
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 1000, 100_000], help="(default: 0 1000 100000)")
    parser.add_argument("--times", type=int, default=200, help="each question so often (default: 200)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and docs/figures/scale.json")
    return parser


def table(found: dict[str, Any]) -> str:
    """Write two tables in Markdown."""
    run = found["run"]
    lines = [f"{run['machine']}; load average of the machine before: {run['load_before']}.", ""]
    if found["workers"]:
        lines += [
            f"Engines that sleep {run['generation']:g} s in {STEPS} steps:",
            "",
            "| workers | jobs | jobs/s | engines at work | Redis commands a job | Redis' processor time a job |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {one['workers']} | {one['jobs']} | {one['per_second']:.2f} | {100 * one['engines_busy']:.0f} % "
            f"| {one['redis_commands_each']:.0f} | {one['redis_milliseconds_each']:.1f} ms |"
            for one in found["workers"]
        ]
        lines.append("")
    lines += [
        "| jobs queued | submit p50 / p99 | status | position | cancel | sweep, slowest | Redis' memory a job |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found["queues"]:
        times = " | ".join(f"{one[name]['p50_ms']:.1f} / {one[name]['p99_ms']:.1f} ms" for name in queues.QUESTIONS)
        memory = f"{one['bytes_each'] / 1000:.1f} kB" if one["bytes_each"] else "–"
        lines.append(f"| {one['queued']:,} | {times} | {one['sweep_seconds']:.2f} s | {memory} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    # However it is ended, nothing that it started stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
