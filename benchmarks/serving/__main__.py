"""The service around the model, beside LitServe and BentoML: what a video costs that is not sampling.

    .venv/bin/python -m benchmarks.serving                                  # the service alone
    .venv/bin/python -m benchmarks.serving --peers litserve bentoml         # side by side; needs PyPI the first time
    .venv/bin/python -m benchmarks.serving --peers litserve bentoml --docs  # and write it into docs/performance.md

All servers take two JPEGs of 1024x576, decode them, hold the one GPU (a lock and a sleep) for a fixed time, encode the
same frames in the same way and hand the same MP4 back, byte for byte, which is checked. They run one after the other in
real processes on this machine, in every round in another order, and the same load generator sends to all of them.

    overhead     from the first byte sent to the last byte of the video, less the fixed time; one job at a time
    polls        looks at a running job; LitServe has none, its caller waits on the connection
    gaps         between a job's end on the GPU and the next one's beginning, while jobs wait
    results      videos made and handed over, while all connections wait for one
    submissions  answers to a submission: of the service and of BentoML's tasks an accepted job, of the others the video

Prints a table and writes all figures as JSON. Takes about a minute for each server and round.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import pages  # noqa: E402
from benchmarks.serving import environments, report  # noqa: E402
from benchmarks.serving.measures import LoadPlan, measure  # noqa: E402
from benchmarks.serving.systems import SYSTEMS  # noqa: E402

SMALL, FULL = (8, 256, 144), (25, 1024, 576)


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    plan = LoadPlan(asked.generation / 1000, asked.alone, asked.seconds, asked.gaps, asked.connections)
    kinds = [kind for name in ("inbetween", *asked.peers) for kind in SYSTEMS[name]]
    for peer in asked.peers:
        environments.python(peer)
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    bar = tqdm(total=len(asked.shape) * asked.rounds * len(kinds), unit="run", disable=None)
    with tempfile.TemporaryDirectory(prefix="serving-") as folder, bar:
        for shape in asked.shape:
            found = rounds.setdefault("x".join(map(str, shape)), {kind.name: [] for kind in kinds})
            for number in range(asked.rounds):
                turn = number % len(kinds)
                for kind in kinds[turn:] + kinds[:turn]:
                    bar.set_postfix_str(f"{kind.name}, {'x'.join(map(str, shape))}")
                    system = kind(Path(folder) / f"{len(found[kind.name])}-{kind.__name__}", shape)
                    try:
                        system.start()
                        found[kind.name].append(measure(system, plan))
                    except Exception as error:
                        error.add_note(system.log())
                        raise
                    finally:
                        system.stop()
                    bar.update()
    versions = {peer: environments.version(peer) for peer in asked.peers}
    run = {"machine": pages.machine(), "plan": vars(plan), "rounds": asked.rounds, "peers": versions}
    figures = report.figures(run, rounds, {kind.name: kind.durable for kind in kinds})
    text = report.table(figures)
    print(text)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    if asked.docs:
        pages.publish("serving", text, figures)
    return 0


def _shape(text: str) -> tuple[int, int, int]:
    count, width, height = map(int, text.split("x"))
    return count, width, height


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", choices=("litserve", "bentoml"), default=[], help="measured beside it")
    parser.add_argument("--rounds", type=int, default=3, help="of all servers; medians are told (default: 3)")
    parser.add_argument(
        "--shape",
        nargs="+",
        type=_shape,
        default=[SMALL, FULL],
        metavar="FRAMESxWIDTHxHEIGHT",
        help="of the video (default: 8x256x144, where serving is what costs, and 25x1024x576, as SVD-XT makes them)",
    )
    parser.add_argument("--generation", type=float, default=5.0, help="milliseconds with the GPU (default: 5)")
    parser.add_argument("--alone", type=int, default=40, help="videos of which the overhead is measured (default: 40)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default: 5)")
    parser.add_argument("--gaps", type=int, default=12, help="videos between which gaps are measured (default: 12)")
    parser.add_argument("--connections", type=int, default=8, help="of the load generator (default: 8)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and docs/figures/serving.json")
    return parser


if __name__ == "__main__":
    # However it is ended, nothing that it started stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
