"""What one job asks of Redis and of storage, on the real processes: commands, bytes, processor time, by part.

    .venv/bin/python -m benchmarks.redis_ops                   # jobs of 45 s, some six minutes
    .venv/bin/python -m benchmarks.redis_ops --generation 4 --jobs 2 --idle 10

A redis-server that writes everything down before it answers, an API, a keeper, and a worker beside an engine that
sleeps; jobs are posted to the API as callers do. Redis itself counts its commands, those of scripts too. What the
processes ask while nothing is to do is measured first, and taken off. Bytes of storage are of optical flow between two
photographs at 1024x576, 25 frames, as MP4. `--docs` puts it into docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks import pages
from benchmarks.scale.engines import STEPS
from benchmarks.scale.site import ScaleSite, info
from benchmarks.serving.work import jpeg
from service.jobs.record import Job, NewJob, State, files_prefix, new_id
from service.jobs.store import Jobs
from service.observe import logs
from service.settings import ServiceSettings
from service.storage import open_storage

TABLE_ROWS = 12
DRAIN_PATIENCE = 600.0
LOOK_SECONDS = 1.0
DAY = 86400
GPUS = (10, 100, 1000, 10_000)


@dataclass(frozen=True)
class Count:
    """What Redis had done by a moment; differences are what it did between two."""

    at: float
    commands: Counter[str]
    processor: float
    received: int
    sent: int
    written: int

    @classmethod
    def now(cls, site: ScaleSite) -> Count:
        stats = info(site.redis, "stats")
        commands = {
            name.removeprefix("cmdstat_"): one["calls"] for name, one in info(site.redis, "commandstats").items()
        }
        return cls(
            time.monotonic(),
            Counter(commands),
            site.processor(),
            stats["total_net_input_bytes"],
            stats["total_net_output_bytes"],
            info(site.redis, "persistence")["aof_current_size"],
        )

    def since(self, before: Count) -> dict[str, Any]:
        commands = Counter({name: count - before.commands[name] for name, count in self.commands.items()})
        del commands["info"]  # which is how we look
        return {
            "seconds": self.at - before.at,
            "commands": Counter({name: count for name, count in commands.items() if count}),
            "processor": self.processor - before.processor,
            "received": self.received - before.received,
            "sent": self.sent - before.sent,
            "written": self.written - before.written,
        }


def each(found: dict[str, Any], idle: dict[str, Any], jobs: int) -> dict[str, Any]:
    """Share what was used among so many jobs, without what would have been asked in that time anyhow."""
    share = found["seconds"] / idle["seconds"]
    names = {*found["commands"], *idle["commands"]}
    commands = {name: (found["commands"][name] - share * idle["commands"][name]) / jobs for name in names}
    rest = {name: (found[name] - share * idle[name]) / jobs for name in ("processor", "received", "sent", "written")}
    return {"commands": {name: round(count, 1) for name, count in commands.items() if count > 0.25}, **rest}


def measure(site: ScaleSite, asked: argparse.Namespace, sockets: Path) -> dict[str, Any]:
    def watched(action: Callable[[], object]) -> dict[str, Any]:
        before = Count.now(site)
        action()
        return Count.now(site).since(before)

    def rest() -> None:
        time.sleep(asked.idle)

    site.processes.start("api")
    site.processes.start("keeper")
    url = f"http://127.0.0.1:{site.variables['PORT']}"
    site.processes.until_ready(url)
    api = httpx.Client(base_url=url, timeout=60, trust_env=False)
    found: dict[str, Any] = {"idle": watched(rest)}

    ids: list[str] = []
    submitted = watched(lambda: ids.extend(_submit(api, "mpd-vibid") for _ in range(asked.jobs)))
    found["submission"] = each(submitted, found["idle"], asked.jobs)
    looked = watched(lambda: [api.get(f"/inbetween/{job}").raise_for_status() for job in ids])
    found["status"] = each(looked, found["idle"], asked.jobs)
    for job in ids:
        api.post(f"/inbetween/{job}/cancel").raise_for_status()

    engine = [sys.executable, "-m", "benchmarks.scale.engines", str(sockets), "1", str(asked.generation)]
    site.processes.start("engines", engine)
    listen = [sys.executable, "-m", "worker.listener"]
    site.processes.start("gpu", [*listen, *site.settings.queues["gpu"]], ENGINE_DIR=str(sockets / "0"))
    site.until(lambda: site.redis.scard("rq:workers") == 1, "no worker starts")
    _run(site, [_submit(api, "mpd-vibid")], 0)  # what a first job alone needs, such as scripts
    found["idle_with_worker"] = watched(rest)
    ran = watched(lambda: _run(site, [_submit(api, "mpd-vibid") for _ in range(asked.jobs)], asked.generation))
    found["job"] = each(ran, found["idle_with_worker"], asked.jobs)

    site.processes.start("cpu", [*listen, *site.settings.queues["cpu"]])
    flow = _submit(api, "flow", frames=25, width=1024, height=576)
    _run(site, [flow], 0)
    found["stored"] = _stored(site, flow)
    found["kept"] = _kept(site, site.jobs.get_many([flow])[0], asked.kept)
    api.close()
    return found


def _submit(api: httpx.Client, method: str, **options: Any) -> str:
    files = {name: (f"{name}.jpg", jpeg(name), "image/jpeg") for name in ("start", "end")}
    wanted = json.dumps({"method": method, "formats": ["mp4"], **options})
    answer = api.post("/inbetween", files=files, data={"options": wanted}).raise_for_status()
    return str(answer.json()["id"])


def _run(site: ScaleSite, ids: list[str], seconds: float) -> None:
    """Wait until all jobs have succeeded, one after the other, which takes so many seconds each.

    Looks seldom, for a look is a command too.
    """
    time.sleep(0.95 * seconds * len(ids))
    deadline = time.monotonic() + DRAIN_PATIENCE
    while site.redis.zscore(site.jobs.keys.expiry, ids[-1]) is None:
        assert time.monotonic() < deadline, (site.area / "log").read_text()[-3000:]
        time.sleep(LOOK_SECONDS)
    ended = site.jobs.get_many(ids)
    assert all(job.state is State.succeeded for job in ended), [job.error for job in ended]


def _stored(site: ScaleSite, job: str) -> dict[str, int]:
    """Count the bytes of a job's files by kind: what it was given, its frames as stills, the video, the rest."""
    storage = open_storage(site.settings, site.redis)
    sizes = dict.fromkeys(("keyframes", "stills", "video", "other"), 0)
    for key in storage.list(files_prefix(job)):
        kind = "keyframes" if "/keyframes/" in key else "stills" if "/frame-" in key else "other"
        sizes["video" if key.endswith(".mp4") else kind] += len(storage.get(key))
    return sizes


def _kept(site: ScaleSite, like: Job, count: int) -> dict[str, int]:
    """Count the bytes that Redis holds of an ended job, and of an expired one.

    The first for as long as its result is kept, the second after that.
    like: one that succeeded. Its events, which go five minutes after its end, do not count.
    """
    # In a namespace of its own, where no worker takes them.
    jobs = Jobs(site.redis, site.settings.model_copy(update={"namespace": "kept"}))
    new = NewJob("local", like.options, like.keyframes, like.lane, result_ttl=1)
    before = info(site.redis, "memory")["used_memory"]
    made = [jobs.submit(replace(new, id=new_id())) for _ in range(count)]
    for job in made:
        jobs.start(job.id, job.attempt, "horse")
        jobs.succeed(job.id, job.attempt, like.result or {})
    jobs.tickets.queue(like.lane, made[0].priority).empty()
    site.redis.delete(*(jobs.keys.events(job.id) for job in made))
    ended = info(site.redis, "memory")["used_memory"]
    time.sleep(max(0.0, (jobs.get_many([made[-1].id])[0].expires_at or 0.0) - time.time()) + 0.1)
    for job in made:
        jobs.expire(job.id)
    site.redis.delete(*(jobs.keys.events(job.id) for job in made))
    expired = info(site.redis, "memory")["used_memory"]
    return {"ended": round((ended - before) / count), "expired": round((expired - before) / count)}


def table(found: dict[str, Any]) -> str:
    """Write two tables in Markdown."""
    run, stored = found["run"], found["stored"]

    def line(name: str, part: dict[str, Any]) -> str:
        count, kilobytes = sum(part["commands"].values()), (part["received"] + part["sent"]) / 1000
        milliseconds, written = 1000 * part["processor"], max(0.0, part["written"]) / 1000
        return f"| {name} | {count:.0f} | {milliseconds:.2f} ms | {kilobytes:.0f} kB | {written:.1f} kB |"

    def second(name: str, part: dict[str, Any]) -> str:
        scaled = {key: value / part["seconds"] for key, value in part.items() if key not in ("commands", "seconds")}
        return line(name, {**scaled, "commands": {"": sum(part["commands"].values()) / part["seconds"]}})

    top = sorted(found["job"]["commands"].items(), key=lambda item: -item[1])[:TABLE_ROWS]
    lines = [
        f"{run['machine']}; load average of the machine before: {run['load_before']}. "
        f"{run['jobs']} jobs of {run['generation']:g} s in {STEPS} steps.",
        "",
        "| | commands | Redis' processor time | over the network | into the append-only file |",
        "|---|---|---|---|---|",
        line("a whole job", found["job"]),
        line("of that, its submission", found["submission"]),
        line("a look at its status", found["status"]),
        second("nothing to do, a second: API and keeper", found["idle"]),
        second("the same with a worker", found["idle_with_worker"]),
        "",
        "Of a whole job: " + ", ".join(f"{name.upper()} {count:.0f}" for name, count in top) + ".",
        "",
        "| of a job of 25 frames of 1024×576 | bytes |",
        "|---|---|",
        *(f"| {kind}, in storage | {size:,} |" for kind, size in stored.items()),
        f"| its record in Redis, while its result is kept (`RESULT_TTL`) | {found['kept']['ended']:,} |",
        f"| its tombstone in Redis, for 90 days after that | {found['kept']['expired']:,} |",
    ]
    return "\n".join(lines) + "\n"


def limits(found: dict[str, Any]) -> str:
    """Reckon what so many GPUs, all of them busy with such jobs, ask each second, and what is kept."""
    job, stored, kept = found["job"], sum(found["stored"].values()), found["kept"]
    lines = [
        "| GPUs | jobs/s | Redis commands/s | Redis' one thread | its file | records in Redis, 7 days "
        "| tombstones, 90 days | into storage | in storage, 7 days |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        rate = gpus / found["run"]["generation"]
        lines.append(
            f"| {gpus:,} | {rate:.1f} | {rate * sum(job['commands'].values()):,.0f} | {rate * job['processor']:.1%} "
            f"| {rate * job['written'] / 1e6:.2f} MB/s | {rate * 7 * DAY * kept['ended'] / 1e9:,.1f} GB "
            f"| {rate * 90 * DAY * kept['expired'] / 1e9:,.1f} GB | {rate * stored / 1e6:,.1f} MB/s "
            f"| {rate * 7 * DAY * stored / 1e12:,.1f} TB |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(argv)
    logs.configure(ServiceSettings.model_validate({"log_level": "warning"}))
    run = {"machine": pages.machine(), "generation": asked.generation, "jobs": asked.jobs}
    run["load_before"] = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="redis-ops-") as folder, ScaleSite(Path(folder) / "site") as site:
        found = {"run": run, **measure(site, asked, Path(folder))}
    text = f"{table(found)}\n{limits(found)}"
    print(text)
    if asked.docs:
        pages.publish("redis-ops", text, found, page="scaling.md")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.redis_ops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generation", type=float, default=45.0, help="seconds of sampling of a job (default: 45)")
    parser.add_argument("--jobs", type=int, default=4, help="of each measurement (default: 4)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which nothing is to do (default: 60)")
    parser.add_argument("--kept", type=int, default=1000, help="jobs whose records are weighed (default: 1000)")
    parser.add_argument("--docs", action="store_true", help="write docs/scaling.md and docs/figures/redis-ops.json")
    return parser


if __name__ == "__main__":
    # However it is ended, nothing that it started stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
