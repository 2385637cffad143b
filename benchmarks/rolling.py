"""Every process of the service restarted, one after another, under a steady stream of callers: what do they notice?

    .venv/bin/python -m benchmarks.rolling --rounds 3 --people 4 --seed 1

Real processes on this machine: two APIs behind a TCP balancer, keepers, a webhook worker, launchers with an engine and
the tiny model, redis-server and an S3 server. Each ends by SIGTERM, as an upgrade ends it, and is started again; the
callers use the Python client with its ordinary retries. Prints a table; ends with 1 when a call failed, a job was lost,
doubled or stuck, or a process ended by itself.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from trials.chaos.rolling import STEPS, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="restarts of each process (default: 1)")
    parser.add_argument("--people", type=int, default=4, help="callers at once (default: 4)")
    parser.add_argument("--seed", type=int, default=1, help="decides what they ask for (default: 1)")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="restart only these, in this order")
    parser.add_argument("--area", type=Path, help="empty folder for logs and data (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="also write the result here (default: AREA/result.json)")
    chosen = parser.parse_args()
    # However it is ended, nothing that it started stays.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    area = chosen.area or Path(tempfile.mkdtemp(prefix="rolling-"))
    area.mkdir(parents=True, exist_ok=True)
    print(f"logs and data: {area}")
    report = run(area, seed=chosen.seed, people=chosen.people, rounds=chosen.rounds, steps=chosen.steps)
    (chosen.json or area / "result.json").write_text(json.dumps(report.to_dict(), indent=2))
    print(report.table())
    if not report.verdict.clean:
        print(report.verdict.told())
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
