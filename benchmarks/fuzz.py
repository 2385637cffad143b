"""Everything that a stranger might send, at the running service; then whether it ever answered what it should not.

    .venv/bin/python benchmarks/fuzz.py --requests 20000 --pictures 5000 --options 3000 --seed 1

Real processes on this machine: redis-server, the API with keys on, a worker for the jobs that ids lead to. Requests
made by Schemathesis from the service's own OpenAPI document with every check on, for keys of each scope and for
nobody; damaged pictures of every format; options that Hypothesis made up; bodies that cost more than they say. The seed
decides what is sent. Prints a table and writes it as JSON; ends with 1 for a single 5xx, undocumented answer, refusal
without type, field or remedy, failed check, crash or logged error, when the API's memory at rest is not flat within
10 %, when a request takes more memory than 4 of its bodies and what one of its pictures is decoded to, or many at once
more than MAX_BODIES_BYTES, and when `/livez` was silent for more than a second.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trials.fuzz.trial import FuzzPlan, run  # noqa: E402

AMOUNTS = {
    "requests": "requests generated from the OpenAPI document, at least",
    "pictures": "damaged pictures",
    "options": "generated options",
    "bodies": "bodies that cost more than they say",
    "seed": "decides everything that is sent",
    "examples": "random requests of each operation in one campaign",
    "rounds": "parts the trial is cut into, each with another caller",
    "warm_up": "rounds before the memory is expected to be flat",
}


def main() -> int:
    chosen = _parser().parse_args()
    # However it is ended, nothing that it started stays.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    area = chosen.area or Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"logs and data: {area}")
    plan = FuzzPlan(**{name: getattr(chosen, name) for name in AMOUNTS})
    total = plan.requests + plan.pictures + plan.options
    variables = dict(pair.split("=", 1) for pair in chosen.set)
    # Odd data makes odd warnings in what generates it; they say nothing of the service.
    warnings.simplefilter("ignore")
    with tqdm(total=total, unit="request", smoothing=0.02, mininterval=1) as bar:

        def progress(part: str, count: int) -> None:
            bar.set_postfix_str(part, refresh=False)
            bar.update(count)

        report = run(area, plan, progress, **variables)
    (chosen.json or area / "result.json").write_text(json.dumps(report.to_dict(), indent=2))
    print(report.table())
    if not report.clean:
        print(report.told())
    return 0 if report.clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = FuzzPlan()
    for name, what in AMOUNTS.items():
        value, flag = getattr(usual, name), f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=value, metavar="N", help=f"{what} (default: {value})")
    parser.add_argument("--area", type=Path, help="empty folder for logs and data (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="also write the result here (default: AREA/result.json)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the service; may be repeated"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
