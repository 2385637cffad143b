"""The whole service under load while everything in it is killed, stopped, cut and slowed; then the reckoning.

    .venv/bin/python benchmarks/chaos.py --jobs 2000 --rounds 20 --seed 1

Real processes on this machine: redis-server, an S3 server behind a proxy, API, two keepers, two launchers, an engine
with the tiny model, webhook receivers, customers. The seed decides which fault comes when and what customers ask for.
Prints a table and writes it as JSON; ends with 1 when a single job is lost, doubled, stuck, torn, forged, unannounced,
orphaned, or charged for what was a machine's or a storage's fault. As root, launchers' temporary folders are small
file systems that fill up; else workers run out of descriptors. `--takeover` measures instead how long a job waits after
a kill -9, beside stock RQ.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mpd.tiny import build  # noqa: E402
from trials.chaos import takeover  # noqa: E402
from trials.chaos.customers import Customers  # noqa: E402
from trials.chaos.faults import Faults  # noqa: E402
from trials.chaos.house import House  # noqa: E402
from trials.chaos.schedule import KINDS, schedule  # noqa: E402
from trials.chaos.trial import run  # noqa: E402


def main() -> int:
    chosen = _parser().parse_args()
    # However it is ended, nothing that it started stays.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    area = chosen.area or Path(tempfile.mkdtemp(prefix="chaos-"))
    area.mkdir(parents=True, exist_ok=True)
    print(f"logs and data: {area}")
    return _takeover(chosen, area) if chosen.takeover else _trial(chosen, area)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--jobs", type=int, default=2000, help="least submissions; they go on while faults do (default: 2000)"
    )
    parser.add_argument("--people", type=int, default=8, help="customers at once (default: 8)")
    parser.add_argument("--rounds", type=int, default=20, help=f"each of {len(KINDS)} faults so often (default: 20)")
    parser.add_argument("--gap", type=float, default=3.0, help="seconds between faults, on average (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="decides the faults and the requests (default: 1)")
    parser.add_argument("--minutes", type=float, default=240, help="end the faults after this time (default: 240)")
    parser.add_argument("--area", type=Path, help="empty folder for logs and data (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="also write the result here (default: AREA/result.json)")
    parser.add_argument("--takeover", action="store_true", help="measure take-over times, also of stock RQ")
    parser.add_argument("--times", type=int, default=5, help="kills of each kind with --takeover (default: 5)")
    parser.add_argument("--patience", type=float, default=180, help="seconds to wait for stock RQ (default: 180)")
    return parser


def _trial(chosen: argparse.Namespace, area: Path) -> int:
    faults = schedule(chosen.seed, chosen.rounds, chosen.gap)
    with tqdm(total=chosen.jobs, unit="job", smoothing=0.05, mininterval=1) as bar:

        def progress(hit: Faults, customers: Customers) -> None:
            bar.n = len(customers.ledger.accepted)
            done = hit.done.total() + hit.missed.total()
            bar.set_postfix_str(f"{done}/{len(faults)} faults, {len(customers.ledger.broken)} broken", refresh=False)
            bar.update(0)

        report = run(
            area,
            faults,
            seed=chosen.seed,
            jobs=chosen.jobs,
            people=chosen.people,
            seconds=60 * chosen.minutes,
            progress=progress,
        )
    (chosen.json or area / "result.json").write_text(json.dumps(report.to_dict(), indent=2))
    print(report.table())
    if not report.verdict.clean:
        print(report.verdict.told())
    return 0 if report.verdict.clean else 1


def _takeover(chosen: argparse.Namespace, area: Path) -> int:
    found: dict[str, list[float | None]] = {}
    with House(area / "house", build(area / "model")) as house:
        for whom in ("horse", "worker"):
            found[f"inbetween, {whom} killed"] = [
                takeover.ours(house, whom) for _ in tqdm(range(chosen.times), desc=whom, leave=False)
            ]
        for whom in ("horse", "worker", "both"):
            found[f"stock RQ, {whom} killed"] = [takeover.stock(house, area, whom, chosen.patience)]
    (chosen.json or area / "takeover.json").write_text(json.dumps(found, indent=2))
    print("seconds from kill -9 to the start of the next attempt     p50     max     n")
    for name, times in found.items():
        known = [seconds for seconds in times if seconds is not None]
        if known:
            print(f"{name:52} {statistics.median(known):8.1f}{max(known):8.1f}{len(known):6}")
        else:
            print(f"{name:52} not within {chosen.patience:g} s")
    slow = [times for name, times in found.items() if name.startswith("inbetween") and max(map(float, times)) >= 15]  # type: ignore[arg-type]
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
