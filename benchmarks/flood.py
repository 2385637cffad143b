"""What one key's flood costs another key: its latency while nobody else asks, and while the other sends all it can.

    .venv/bin/python benchmarks/flood.py --what submissions --connections 16 --seconds 60

Real processes on this machine: redis-server that writes everything down, one API process, and the flood, each of whose
connections sends its next request as soon as the last is answered. The other key looks at a job fifty times a second.
Prints milliseconds at three quantiles for the time before the flood, its first ten seconds (in which it uses up what
its key may send in a minute), the rest of it, and the time after. Ends with 1 when anything but 200 came to the other
key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import redis
from tenacity import retry, stop_after_delay, wait_fixed

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from service.auth import CALLER, Keys  # noqa: E402
from service.settings import Settings  # noqa: E402
from tests.conftest import RedisProcess, free_port  # noqa: E402
from tests.service.conftest import photo  # noqa: E402

BURST_SECONDS = 10.0
PAUSE_SECONDS = 0.02
QUANTILES = (0.5, 0.9, 0.99)


def main() -> int:
    chosen = _parser().parse_args()
    if chosen.flood:
        asyncio.run(_flood(*chosen.flood, chosen.what, chosen.connections, chosen.seconds))
        return 0
    with tempfile.TemporaryDirectory(prefix="flood-") as folder:
        server = RedisProcess(Path(folder), "--appendonly", "yes", "--appendfsync", "always")
        server.start()
        try:
            return _measure(chosen, server.url, Path(folder))
        finally:
            server.kill()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("submissions", "lists"), default="submissions", help="what the flood sends")
    parser.add_argument("--connections", type=int, default=16, help="of the flood (default: 16)")
    parser.add_argument("--seconds", type=float, default=60, help="of each part (default: 60)")
    parser.add_argument("--flood", nargs=2, metavar=("URL", "KEY"), help=argparse.SUPPRESS)
    return parser


def _measure(chosen: argparse.Namespace, redis_url: str, folder: Path) -> int:
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "STORAGE_URL": str(folder / "storage"),
        "PORT": str(free_port()),
        "AUTH": "keys",
        "LOG_LEVEL": "error",
    }
    url = f"http://127.0.0.1:{environment['PORT']}"
    with redis.Redis.from_url(redis_url) as connection:
        keys = Keys(connection, Settings(_env_file=None, redis_url=redis_url))
        (_, flooding), (_, other) = keys.create("flooding", CALLER), keys.create("other", CALLER, rate=0)
    api = subprocess.Popen([sys.executable, "-m", "worker.cli", "api"], cwd=ROOT, env=environment)
    try:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {other}"}, timeout=60) as client:
            _up(client)
            path = f"/inbetween/{_submit(client).json()['id']}"
            _watch(client, path, 2)
            parts = {"before": _watch(client, path, chosen.seconds)}
            command = [sys.executable, __file__, "--what", chosen.what, "--connections", str(chosen.connections)]
            length = BURST_SECONDS + chosen.seconds
            flood = subprocess.Popen([*command, "--seconds", str(length), "--flood", url, flooding])
            parts["first ten seconds"] = _watch(client, path, BURST_SECONDS)
            parts["flood"] = _watch(client, path, chosen.seconds - 1)
            flood.wait()
            parts["after"] = _watch(client, path, chosen.seconds)
    finally:
        api.terminate()
        api.wait()
    return _report(parts)


def _report(parts: dict[str, tuple[list[float], Counter[int]]]) -> int:
    print(f"{'':20}{'requests':>10}" + "".join(f"{f'p{round(100 * q)} ms':>10}" for q in QUANTILES))
    for name, (took, _) in parts.items():
        ordered = sorted(took)
        values = [1000 * ordered[int(q * (len(ordered) - 1))] for q in QUANTILES]
        print(f"{name:20}{len(took):10}" + "".join(f"{value:10.1f}" for value in values))
    others = {name: dict(statuses) for name, (_, statuses) in parts.items() if set(statuses) != {200}}
    if others:
        print(f"not 200: {others}")
    return 1 if others else 0


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.1), reraise=True)
def _up(client: httpx.Client) -> None:
    client.get("/livez").raise_for_status()


def _submit(client: httpx.Client) -> httpx.Response:
    files = {"start": photo(), "end": photo(colour="teal")}
    return client.post("/inbetween", files=files, data={"options": '{"method": "flow"}'}).raise_for_status()


def _watch(client: httpx.Client, path: str, seconds: float) -> tuple[list[float], Counter[int]]:
    """Seconds that each look took, and the statuses."""
    took, statuses, end = list[float](), Counter[int](), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        statuses[client.get(path).status_code] += 1
        took.append(time.perf_counter() - began)
        time.sleep(PAUSE_SECONDS)
    return took, statuses


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
