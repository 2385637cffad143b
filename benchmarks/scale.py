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
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import redis
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import pages  # noqa: E402
from benchmarks.serving.caller import Caller, form  # noqa: E402
from benchmarks.serving.report import quantile  # noqa: E402
from benchmarks.serving.work import jpeg  # noqa: E402
from mpd.methods import Settings as Options  # noqa: E402
from mpd.progress import Pictures, Progress, Take  # noqa: E402
from service import logs  # noqa: E402
from service.jobs import Job, Jobs, NewJob, State, new_id  # noqa: E402
from service.settings import Settings  # noqa: E402
from service.storage import open_storage  # noqa: E402
from tests.conftest import RedisProcess, free_port  # noqa: E402
from worker import protocol  # noqa: E402
from worker.keeper import Keeper  # noqa: E402
from worker.server import Server  # noqa: E402

STEPS = 25
SIDE, FRAMES = 64, 8
PATIENCE = 600.0
SWEEPS = 5
LOOK_SECONDS = 0.1
QUESTIONS = ("submit", "status", "position", "cancel")


class Site:
    """A redis-server, a folder, and the settings of processes that use them. A context manager."""

    def __init__(self, area: Path) -> None:
        self.area = area
        (area / "redis").mkdir(parents=True)
        self._server = RedisProcess(area / "redis", "--appendonly", "yes", "--appendfsync", "always")
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Site:
        self._server.start()
        self.variables = {
            "REDIS_URL": self._server.url,
            "STORAGE_URL": str(self.area / "storage"),
            "AUTH": "off",
            "MAX_QUEUE": "0",
            "LOG_LEVEL": "warning",
            "OMP_NUM_THREADS": "1",
            "PORT": str(free_port()),
        }
        self.settings = Settings.model_validate({name.lower(): value for name, value in self.variables.items()})
        self.redis = redis.Redis.from_url(self._server.url)
        self.jobs = Jobs(self.redis, self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        self.redis.close()
        self._server.kill()

    def run(self, command: list[str], **variables: str) -> None:
        environment = {**os.environ, **self.variables, **variables}
        with (self.area / "log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self._processes.append(process)

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            time.sleep(LOOK_SECONDS)
            assert time.monotonic() < deadline, f"{what}:\n{(self.area / 'log').read_text()[-3000:]}"

    def commands(self) -> int:
        """How many Redis has carried out, those of scripts too."""
        return sum(one["calls"] for one in _info(self.redis, "commandstats").values())

    def processor(self) -> float:
        """Seconds of it that Redis has used."""
        used = _info(self.redis, "cpu")
        return float(used["used_cpu_sys"] + used["used_cpu_user"])


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    if asked.engines:
        _sleep_as_engines(Path(asked.engines[0]), int(asked.engines[1]), float(asked.engines[2]))
        return 0
    logs.configure(Settings.model_validate({"log_level": "warning"}))
    found: dict[str, Any] = {"run": {"machine": pages.machine(), "generation": asked.generation}}
    found["run"]["load_before"] = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        found["workers"] = []
        for count in tqdm(asked.workers, desc="workers", disable=None):
            with Site(Path(folder) / f"workers-{count}") as site:
                found["workers"].append(_workers(site, count, asked.generation, asked.each))
        with Site(Path(folder) / "queue") as site:
            found["queues"] = list(_queues(site, sorted(asked.depths), asked.times))
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
    parser.add_argument("--engines", nargs=3, help=argparse.SUPPRESS)
    return parser


def _workers(site: Site, count: int, seconds: float, each: int) -> dict[str, Any]:
    """So many workers, each with so many jobs to do."""
    with tempfile.TemporaryDirectory(prefix="engines-") as sockets:
        site.run([sys.executable, "-m", "benchmarks.scale", "--engines", sockets, str(count), str(seconds)])
        for number in range(count):
            folder = Path(sockets) / str(number)
            site.run([sys.executable, "-m", "worker.listener", *site.settings.queues["gpu"]], ENGINE_DIR=str(folder))
        site.until(lambda: site.redis.scard("rq:workers") == count, "the workers do not start")
        keyframes = _keyframes(site)
        _ended(site, [_submit(site.jobs, keyframes) for _ in range(count)])
        before, used, cpu = site.commands(), time.monotonic(), site.processor()
        jobs = _ended(site, [_submit(site.jobs, keyframes) for _ in range(count * each)])
        took, calls, busy = time.monotonic() - used, site.commands() - before, site.processor() - cpu
        assert all(job.state is State.succeeded for job in jobs), [job.error for job in jobs]
        return {
            "workers": count,
            "jobs": len(jobs),
            "per_second": round(len(jobs) / took, 3),
            "engines_busy": round(len(jobs) * seconds / (took * count), 3),
            "redis_commands_each": round(calls / len(jobs), 1),
            "redis_milliseconds_each": round(1000 * busy / len(jobs), 2),
        }


def _queues(site: Site, depths: list[int], times: int) -> Iterator[dict[str, Any]]:
    """What each question takes while so many jobs wait for an engine that is not there."""
    site.run([sys.executable, "-m", "worker.cli", "api"])
    port = site.settings.port

    def answers() -> bool:
        try:
            with Caller(port) as caller:
                return bool(caller.ask("GET", "/readyz", 200))
        except OSError:
            return False

    site.until(answers, "the API does not answer")
    keyframes = _keyframes(site)
    empty = int(_info(site.redis, "memory")["used_memory"])
    filled = 0
    for depth in depths:
        with _unsynced(site.redis):
            _fill(site, keyframes, depth - filled)
        filled = max(filled, depth)
        memory = int(_info(site.redis, "memory")["used_memory"]) - empty
        yield {
            "queued": depth,
            **_questions(site, port, times),
            "sweep_seconds": _sweep(site),
            "bytes_each": round(memory / depth) if depth else None,
        }


def _questions(site: Site, port: int, times: int) -> dict[str, dict[str, float]]:
    body, headers = form({name: jpeg(name) for name in ("start", "end")}, {"method": "mpd-vibid"})
    took: dict[str, list[float]] = {name: [] for name in QUESTIONS}

    def ask(name: str, question: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = question()
        took[name].append(time.perf_counter() - began)
        return answer

    with Caller(port) as caller:
        for number in range(-10, times):
            accepted = ask("submit", lambda: caller.ask("POST", "/inbetween", 202, body, headers))[0]
            path = f"/inbetween/{json.loads(accepted)['id']}"
            ask("status", lambda path=path: caller.ask("GET", path, 200))
            job = site.jobs.get(path.rpartition("/")[2])
            assert job is not None
            assert ask("position", lambda job=job: site.jobs.position(job)) is not None
            ask("cancel", lambda path=path: caller.ask("POST", f"{path}/cancel", 200))
            if number == -1:
                for values in took.values():
                    values.clear()
    return {name: {f"p{q}_ms": round(1000 * quantile(v, q / 100), 2) for q in (50, 99)} for name, v in took.items()}


def _sweep(site: Site) -> float:
    """Seconds of the keeper's slowest sweep."""
    keeper = Keeper(site.jobs, open_storage(site.settings, site.redis))
    took = []
    for _ in range(SWEEPS):
        began = time.perf_counter()
        assert keeper.sweep()
        took.append(time.perf_counter() - began)
    keeper.wait(60)
    keeper.close()
    return round(max(took), 3)


@contextmanager
def _unsynced(connection: redis.Redis) -> Iterator[None]:
    """While the queue is filled; what is measured is measured with every write synced."""
    connection.config_set("appendfsync", "no")
    yield
    connection.config_set("appendfsync", "always")


def _fill(site: Site, keyframes: list[dict[str, Any]], count: int) -> None:
    pieces = [(site.settings.redis_url, keyframes, min(500, count - at)) for at in range(0, count, 500)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for _ in tqdm(pool.imap_unordered(_submit_many, pieces), "filling", len(pieces), disable=None, leave=False):
            pass


def _submit_many(piece: tuple[str, list[dict[str, Any]], int]) -> None:
    url, keyframes, count = piece
    with redis.Redis.from_url(url) as connection:
        jobs = Jobs(connection, Settings.model_validate({"redis_url": url}))
        for _ in range(count):
            _submit(jobs, keyframes)


def _submit(jobs: Jobs, keyframes: list[dict[str, Any]]) -> Job:
    options = {"method": "mpd-vibid", "formats": ["mp4"]}
    return jobs.submit(NewJob("local", options, keyframes, "gpu", result_ttl=3600, id=new_id()))


def _keyframes(site: Site) -> list[dict[str, Any]]:
    storage, found = open_storage(site.settings, site.redis), []
    for number, name in enumerate(("start", "end")):
        data, key = jpeg(name), f"keyframes/{number}.jpg"
        storage.put(key, data, "image/jpeg")
        found.append({"key": key, "content_type": "image/jpeg", "sha256": "0" * 64, "size": len(data)})
    return found


def _ended(site: Site, jobs: list[Job]) -> list[Job]:
    """The records once all of them have ended. Waiting costs Redis one command a look, which counts with the others."""
    ids = [job.id for job in jobs]
    before = site.redis.zcard(site.jobs.keys.expiry) - sum(job.state.is_terminal for job in site.jobs.get_many(ids))
    site.until(lambda: site.redis.zcard(site.jobs.keys.expiry) >= before + len(jobs), "the jobs do not end")
    return site.jobs.get_many(ids)


def _sleep_as_engines(folder: Path, count: int, seconds: float) -> None:
    """So many engines in one process: they only sleep, each behind a socket of its own."""
    frames = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)

    def generate(pictures: list[Pictures], options: Options, bits: int) -> Iterator[Progress | Take]:
        for step in range(STEPS):
            time.sleep(seconds / STEPS)
            yield Progress(0, 1, 0, 1, step + 1, STEPS, (step + 1) / STEPS, None, lambda: None)
        yield Take(0, options.seeds[0], frames, options.fps)

    threads = []
    for number in range(count):
        (folder / str(number)).mkdir(mode=0o700)
        server = Server(protocol.socket_path(folder / str(number)))
        facts = {"revision": None, "license": None, "device": "cpu", "native_frames": FRAMES, "size_multiple": 8}
        server.model = {**facts, "name": "sleep", "dtype": "float32", "native_size": (SIDE, SIDE)}
        threads.append(threading.Thread(target=server.run, args=(generate,)))
    for thread in threads:
        thread.start()


def _info(connection: redis.Redis, section: str) -> dict[str, Any]:
    found: Any = connection.info(section)
    return dict(found)


def table(found: dict[str, Any]) -> str:
    """Two tables in Markdown."""
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
        times = " | ".join(f"{one[name]['p50_ms']:.1f} / {one[name]['p99_ms']:.1f} ms" for name in QUESTIONS)
        memory = f"{one['bytes_each'] / 1000:.1f} kB" if one["bytes_each"] else "–"
        lines.append(f"| {one['queued']:,} | {times} | {one['sweep_seconds']:.2f} s | {memory} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    # However it is ended, nothing that it started stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
