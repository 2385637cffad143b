"""How long a step takes from its report to a browser: many event streams on one API process.

    python -m benchmarks.streams                       # 100 streams, 10 jobs, 20 steps each at 2 a second
    python -m benchmarks.streams --streams 300 --jobs 300 --rate 0.5

Starts a redis-server and an API process of its own. This process plays the workers: it reports steps, each with a
preview of 12 kB and the time of its report. A second process holds the streams and reads off how old each step is when
it has arrived. Both clocks are the machine's one. Prints latencies in milliseconds, and what the streams cost.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import redis

from server.up import redis_executable
from service.jobs.record import Job, NewJob
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from trials.processes import Processes
from trials.servers import free_port

PREVIEW = "data:image/jpeg;base64," + base64.b64encode(os.urandom(9000)).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=10, help="running at once; the streams are spread over them")
    parser.add_argument("--steps", type=int, default=20, help="of each job")
    parser.add_argument("--rate", type=float, default=2.0, help="steps a second of each job")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as (url, settings, api):
        with redis.Redis.from_url(settings.redis_url) as connection:
            jobs = Jobs(connection, settings)
            running = [begin(jobs, number) for number in range(asked.jobs)]
            watched = [running[number % asked.jobs].id for number in range(asked.streams)]
            here, there = multiprocessing.Pipe()
            audience = multiprocessing.Process(target=listen, args=(url, watched, there))
            audience.start()
            there.close()
            here.recv()  # all streams are open
            waiting = sum("b" in client["flags"] for client in connection.client_list())
            before = api.cpu_times()
            began = time.monotonic()
            report(jobs, running, asked.steps, asked.rate)
            seconds = time.monotonic() - began
            after = api.cpu_times()
            ages = here.recv()
            audience.join()
        used = after.user + after.system - before.user - before.system
        show(ages, asked, waiting, api.memory_info().rss, used / seconds)


@contextmanager
def service(folder: Path) -> Iterator[tuple[str, ServiceSettings, psutil.Process]]:
    """Run a redis-server and one API process: its address, its settings, and the process."""
    port = free_port()
    path = folder / "redis.sock"
    store = subprocess.Popen(
        [redis_executable(), "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    own = {"REDIS_URL": f"unix://{path}", "PORT": str(port), "AUTH": "off", "STORAGE_URL": str(folder / "storage")}
    url = f"http://127.0.0.1:{port}"
    try:
        with Processes(folder, {**own, "LOG_LEVEL": "warning"}) as processes, processes.running("api") as api:
            processes.until_ready(url, api)
            yield url, ServiceSettings(_env_file=None, redis_url=own["REDIS_URL"], auth="off"), api
    finally:
        store.terminate()
        store.wait()


def begin(jobs: Jobs, number: int) -> Job:
    """Begin a job, which then is running."""
    options = {"method": "flow", "seeds": [number]}
    job = jobs.submit(NewJob("local", options, keyframes=[], lane="cpu", result_ttl=3600))
    return jobs.start(job.id, job.attempt, "benchmark")


def report(jobs: Jobs, running: list[Job], steps: int, rate: float) -> None:
    """Report the steps of all jobs, evenly spread over each 1/rate seconds; then all jobs end."""
    began = time.monotonic()
    for step in range(steps):
        for number, job in enumerate(running):
            due = began + (step + number / len(running)) / rate
            time.sleep(max(0.0, due - time.monotonic()))
            progress = {"stage": "sampling", "step": step + 1, "steps": steps, "reported": time.time()}
            jobs.progress(job.id, job.attempt, progress, PREVIEW)
    for job in running:
        jobs.succeed(job.id, job.attempt, {})


def listen(url: str, watched: list[str], results: Connection) -> None:
    async def all_streams() -> list[float]:
        opened = asyncio.Barrier(len(watched) + 1)
        tasks = [asyncio.create_task(read(url, job, opened)) for job in watched]
        await opened.wait()
        results.send("open")
        return [age for ages in await asyncio.gather(*tasks) for age in ages]

    results.send(asyncio.run(all_streams()))


async def read(url: str, job: str, opened: asyncio.Barrier) -> list[float]:
    """Measure the seconds from the report of each step to its arrival here."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /inbetween/{job}/events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b'"running"')
    await opened.wait()
    ages = []
    async for line in reader:
        if line.startswith(b"data: ") and b'"reported"' in line:
            ages.append(time.time() - json.loads(line[6:])["reported"])
    writer.close()
    return ages


def show(ages: list[float], asked: argparse.Namespace, waiting: int, memory: int, share: float) -> None:
    expected = asked.streams * asked.steps
    cuts = statistics.quantiles(ages, n=100)
    print(
        f"{asked.streams} streams, {asked.jobs} jobs of {asked.rate:g} steps a second: {len(ages)} of {expected} came"
    )
    print(f"report to reader: p50 {1e3 * cuts[49]:.0f} ms, p95 {1e3 * cuts[94]:.0f} ms, max {1e3 * max(ages):.0f} ms")
    print(f"the API: {memory / 1e6:.0f} MB, {100 * share:.0f} % of a core, connections that wait for Redis: {waiting}")
    assert len(ages) == expected, "steps were lost"


if __name__ == "__main__":
    main()
