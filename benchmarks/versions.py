"""Two versions of the service side by side on one Redis, as during a rolling change, under load: is anything lost?

    python -m benchmarks.versions --before ../inbetween-0.1.0      # a checkout with a .venv of its own

An API, a worker with the tiny model, and a keeper of each version. Callers submit through both APIs, and read through
the other one; half-way the worker and the keeper that were there first are killed. Every job must end, mean the same
seen from both sides, have sent its webhook, and jobs with the same request must have the same frames, whoever ran them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from tqdm import tqdm

from mpd.tiny import build
from service.jobs.stored_options import complete
from trials.pictures import photo
from trials.processes import LONGEST_WAIT, ROOT, Processes
from trials.receiver import Receiver
from trials.servers import RedisProcess, free_port

METHODS: tuple[dict[str, Any], ...] = (
    {"method": "flow", "frames": 5},
    {"method": "mpd", "frames": 4, "steps": 3, "lam": 0.5},
    {"method": "mpd-vibid", "frames": 4, "steps": 3},
    {"method": "svd", "frames": 4, "steps": 2, "guidance": [1.0, 2.0]},
)
OVER = ("succeeded", "failed", "canceled")


@dataclass(frozen=True)
class Side:
    """One version: its processes, the address of its API, and a client of it."""

    name: str
    processes: Processes
    client: httpx.Client
    python: Path
    module: str

    def start(self, part: str, **variables: str) -> psutil.Popen:
        """Start a part of the service of this version."""
        return self.processes.start(f"{self.name}-{part}", [str(self.python), "-m", self.module, part], **variables)


def main() -> int:
    """Run the trial and return 0 where nothing is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="checkout of the other version, with its .venv")
    parser.add_argument("--jobs", type=int, default=80, help="submissions (default: 80)")
    chosen = parser.parse_args()
    failed = 0
    for order in (("before", "now"), ("now", "before")):
        with tempfile.TemporaryDirectory(prefix="versions-") as folder, _both(chosen.before, Path(folder)) as found:
            sides, receiver = found
            faults = _trial([sides[name] for name in order], receiver, chosen.jobs)
        print(f"{order[0]} first, then {order[1]}: {chosen.jobs} jobs, {'; '.join(faults) or 'nothing lost'}")
        failed += len(faults)
    return 1 if failed else 0


@contextmanager
def _both(before: Path, area: Path) -> Iterator[tuple[dict[str, Side], Receiver]]:
    with ExitStack() as opened:
        server = RedisProcess(area, "--appendonly", "yes", "--appendfsync", "always")
        server.start()
        opened.callback(server.kill)
        receiver = opened.enter_context(Receiver.running())
        model = build(area / "model")
        sides = {}
        for name, root in (("before", before.resolve()), ("now", ROOT)):
            port = free_port()
            variables = {
                "REDIS_URL": server.url,
                "STORAGE_URL": str(area / "storage"),
                "PORT": str(port),
                "AUTH": "off",
                "MODEL": str(model),
                "DEVICE": "cpu",
                "OMP_NUM_THREADS": "1",
                "WORKERS_PER_ENGINE": "1",
                "LEASE_TTL": "3",
                "DRAIN_GRACE": "0",
                "MAX_QUEUE": "0",
                "FETCH_ALLOW_HOSTS": "127.0.0.1",
            }
            python = root / ".venv" / "bin" / "python"
            module = "server.cli" if (root / "server" / "cli.py").exists() else "worker.cli"
            processes = opened.enter_context(Processes(area, variables, working=root))
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
            sides[name] = Side(name, processes, opened.enter_context(client), python, module)
        yield sides, receiver


def _trial(sides: Sequence[Side], receiver: Receiver, count: int) -> list[str]:
    """Submit, change over half-way, and reckon. sides: who is there first, then who comes."""
    first, second = sides
    leaving = [first.start("worker"), first.start("keeper")]
    for side in sides:
        side.processes.until_ready(str(side.client.base_url), side.start("api"))
    made: dict[str, dict[str, Any]] = {}
    with tqdm(total=count, unit="job", leave=False) as bar:
        for number, side in zip(range(count), itertools.cycle(sides), strict=False):
            if number == count // 4:
                second.start("worker")
                second.start("keeper")
            if number == count // 2:
                for process in leaving:
                    _kill(process)
            asked = METHODS[number // 2 % len(METHODS)]
            made[_submit(side.client, asked, receiver)] = asked
            bar.update()
        jobs = {name: _ended(sides[(number + 1) % 2].client, name) for number, name in enumerate(made)}
    told = _told(receiver, set(made))
    return [*_faults(jobs, sides), *(f"{name} was not announced" for name in made.keys() - told), *_frames(jobs, made)]


def _faults(jobs: dict[str, dict[str, Any]], sides: Sequence[Side]) -> Iterator[str]:
    for name, job in jobs.items():
        if job["state"] != "succeeded":
            yield f"{name} is {job['state']}: {job.get('error')}"
        for side in sides:
            if _seen(side, name) != _shown(job):
                yield f"{name} is another one seen from {side.name}"


def _submit(client: httpx.Client, asked: dict[str, Any], receiver: Receiver) -> str:
    options = {**asked, "webhook": {"url": f"{receiver.url}/hook"}, "seed": 3}
    files = {"start": photo(colour="navy"), "end": photo(colour="teal")}
    answer = client.post("/inbetween", files=files, data={"options": json.dumps(options)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _ended(client: httpx.Client, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + 5 * LONGEST_WAIT
    while (job := client.get(f"/inbetween/{name}").json())["state"] not in OVER and time.monotonic() < deadline:
        time.sleep(0.2)
    return dict(job)


def _shown(job: dict[str, Any]) -> dict[str, Any]:
    """Pick what both versions must mean alike; links have each API's own address.

    0.1.0 shows options as the record states them, so they are compared as what they stand for.
    """
    files = [(file["name"], file["sha256"]) for file in (job.get("result") or {}).get("files", ())]
    return {
        "state": job["state"],
        "attempt": job["attempt"],
        "options": complete(job["options"], len(job["keyframes"])),
        "files": files,
    }


def _seen(side: Side, name: str) -> dict[str, Any]:
    return _shown(side.client.get(f"/inbetween/{name}").json())


def _told(receiver: Receiver, wanted: set[str]) -> set[str]:
    """List jobs whose event has come, once all have or it was waited for long enough; an event may come twice."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        told = {json.loads(request.body)["data"]["id"] for request in list(receiver.received)}
        if wanted <= told or time.monotonic() > deadline:
            return told
        time.sleep(0.1)


def _frames(jobs: dict[str, dict[str, Any]], made: dict[str, dict[str, Any]]) -> list[str]:
    """Find requests whose jobs have different videos."""
    videos: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, job in jobs.items():
        for file in (job.get("result") or {}).get("files", ()):
            if file["format"] == "mp4":
                videos[json.dumps(made[name])][file["sha256"]] += 1
    return [f"{asked} gave {len(found)} different videos" for asked, found in videos.items() if len(found) > 1]


def _kill(process: psutil.Popen) -> None:
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=10)


if __name__ == "__main__":
    sys.exit(main())
