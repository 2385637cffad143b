"""What one key's flood costs another key: its latency while nobody else asks, and while the other sends all it can.

    .venv/bin/python benchmarks/flood.py --what submissions --connections 16 --rounds 6

Real processes on this machine: redis-server that writes everything down, one API process, and floods one after the
other, each with a key of its own, with quiet between them. Each of a flood's connections sends its next request as soon
as the last is answered. The other key looks at a job some forty times a second. Prints milliseconds at three quantiles
of the quiet times together, of the first ten seconds of the floods (in which they use up what their keys may have at
once), of the rest of them, and of all of them; and how many times the quiet each is.

On a machine that is not its own, processor time is stolen: it comes and goes within minutes, and so do the quiet and
the floods here. Ends with 1 when anything but 200 came to the other key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis
from tenacity import retry, stop_after_delay, wait_fixed
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from service.auth import CALLER, ApiKeys  # noqa: E402
from service.settings import ServiceSettings  # noqa: E402
from trials.pictures import photo  # noqa: E402
from trials.processes import Processes  # noqa: E402
from trials.servers import RedisProcess, free_port  # noqa: E402

WARM_SECONDS = 2.0
BURST_SECONDS = 10.0
PAUSE_SECONDS = 0.02
QUANTILES = (0.5, 0.9, 0.99)


def main() -> int:
    chosen = _parser().parse_args()
    if chosen.flood:
        print("ready", flush=True)
        sys.stdin.readline()
        url, key = chosen.flood
        asyncio.run(_flood(url, key, chosen.what, chosen.connections, chosen.seconds))
        return 0
    with tempfile.TemporaryDirectory(prefix="flood-") as folder:
        server = RedisProcess(Path(folder), "--appendonly", "yes", "--appendfsync", "always")
        server.start()
        try:
            before = _processor_time()
            code = _measure(chosen, server.url, Path(folder))
            stolen, all_of_it = (after - first for after, first in zip(_processor_time(), before, strict=True))
            print(f"stolen from this machine: {100 * stolen / all_of_it:.1f} % of the processor time that it asked for")
            return code
        finally:
            server.kill()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("submissions", "lists"), default="submissions", help="what the flood sends")
    parser.add_argument("--connections", type=int, default=16, help="of the flood (default: 16)")
    parser.add_argument("--seconds", type=float, default=10, help="of quiet, and of a flood's rest (default: 10)")
    parser.add_argument("--rounds", type=int, default=6, help="of quiet and flood (default: 6)")
    parser.add_argument("--flood", nargs=2, metavar=("URL", "KEY"), help=argparse.SUPPRESS)
    return parser


def _measure(chosen: argparse.Namespace, redis_url: str, folder: Path) -> int:
    environment = {
        "REDIS_URL": redis_url,
        "STORAGE_URL": str(folder / "storage"),
        "PORT": str(free_port()),
        "AUTH": "keys",
        "LOG_LEVEL": "error",
    }
    url = f"http://127.0.0.1:{environment['PORT']}"
    with redis.Redis.from_url(redis_url) as connection:
        keys = ApiKeys(connection, ServiceSettings(_env_file=None, redis_url=redis_url))
        _, other = keys.create("other", CALLER, rate=0)
        flooding = [keys.create("flooding", CALLER)[1] for _ in range(chosen.rounds)]
    processes = Processes(folder, environment)
    caller = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {other}"}, timeout=60)
    with processes, processes.running("api"), caller as client:
        _up(client)
        path = f"/inbetween/{_submit(client).json()['id']}"
        LoadPart().watch(client, path, WARM_SECONDS)
        parts = {name: LoadPart() for name in ("quiet", "first ten seconds", "the rest")}
        for key in tqdm(flooding, unit="flood", disable=None):
            parts["quiet"].watch(client, path, chosen.seconds)
            with _flooding(chosen, BURST_SECONDS + chosen.seconds, url, key):
                parts["first ten seconds"].watch(client, path, BURST_SECONDS)
                parts["the rest"].watch(client, path, chosen.seconds - 1)
    return _report(parts)


def _processor_time() -> tuple[int, int]:
    """Read the machine's ticks that its host gave to others, and those together with what it used (proc_stat(5))."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return steal, user + nice + system + irq + softirq + steal


@dataclass
class LoadPart:
    """Looks at a job."""

    #: Seconds of each.
    took: list[float] = field(default_factory=list)
    #: How often each came.
    statuses: Counter[int] = field(default_factory=Counter)

    def watch(self, client: httpx.Client, path: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            self.statuses[client.get(path).status_code] += 1
            self.took.append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)

    def milliseconds(self) -> list[float]:
        """Give the milliseconds of a look at each of `QUANTILES`."""
        ordered = sorted(self.took)
        return [1000 * ordered[int(quantile * (len(ordered) - 1))] for quantile in QUANTILES]


@contextmanager
def _flooding(chosen: argparse.Namespace, seconds: float, url: str, key: str) -> Iterator[None]:
    """Run a flood that begins as the block does.

    Its process has started by then: what that takes is none of its cost.
    """
    command = [sys.executable, __file__, "--what", chosen.what, "--connections", str(chosen.connections)]
    command += ["--seconds", str(seconds), "--flood", url, key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flood:
        assert flood.stdin is not None
        assert flood.stdout is not None
        flood.stdout.readline()
        print("go", file=flood.stdin, flush=True)
        yield
        tqdm.write(flood.stdout.read().strip())


def _report(parts: dict[str, LoadPart]) -> int:
    print(f"{'':20}{'requests':>10}" + "".join(f"{f'p{round(100 * q)} ms':>16}" for q in QUANTILES))
    quiet, floods = parts["quiet"].milliseconds(), list(parts.values())[1:]
    parts["all of the flood"] = LoadPart([one for part in floods for one in part.took])
    for name, part in parts.items():
        values = (f"{value:.1f} ({value / own:.1f}x)" for value, own in zip(part.milliseconds(), quiet, strict=True))
        print(f"{name:20}{len(part.took):10}" + "".join(f"{value:>16}" for value in values))
    others = {name: dict(part.statuses) for name, part in parts.items() if set(part.statuses) - {200}}
    if others:
        print(f"not 200: {others}")
    return 1 if others else 0


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.1), reraise=True)
def _up(client: httpx.Client) -> None:
    client.get("/livez").raise_for_status()


def _submit(client: httpx.Client) -> httpx.Response:
    files = {"start": photo(), "end": photo(colour="teal")}
    return client.post("/inbetween", files=files, data={"options": '{"method": "flow"}'}).raise_for_status()


async def _flood(url: str, key: str, what: str, connections: int, seconds: float) -> None:
    answers, end = Counter[str](), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    files = {"start": photo(), "end": photo()}
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=60) as client:

        async def one() -> None:
            while time.monotonic() < end:
                try:
                    if what == "lists":
                        answer = await client.get("/inbetween")
                    else:
                        answer = await client.post("/inbetween", files=files, data={"options": '{"method": "flow"}'})
                    answers[str(answer.status_code)] += 1
                except httpx.HTTPError as error:
                    answers[type(error).__name__] += 1

        await asyncio.gather(*(one() for _ in range(connections)))
    print(f"the flood was answered {json.dumps(answers)}")


if __name__ == "__main__":
    sys.exit(main())
