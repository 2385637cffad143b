"""So many jobs in the queue: what a submission, a look, a cancellation and the keeper's sweep take then."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from tqdm import tqdm

from benchmarks.scale.site import ScaleSite, info, keyframes_of, submit
from benchmarks.serving.caller import LoadCaller, form
from benchmarks.serving.report import quantile
from benchmarks.serving.work import jpeg
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import open_storage
from worker.keeper import Keeper

SWEEPS = 5
QUESTIONS = ("submit", "status", "position", "cancel")


def measure(site: ScaleSite, depths: list[int], times: int) -> Iterator[dict[str, Any]]:
    """Measure what each question takes while so many jobs wait for an engine that is not there."""
    site.processes.start("api")
    port = site.settings.port

    def answers() -> bool:
        try:
            with LoadCaller(port) as caller:
                return bool(caller.ask("GET", "/readyz", 200))
        except OSError:
            return False

    site.until(answers, "the API does not answer")
    keyframes = keyframes_of(site)
    empty = int(info(site.redis, "memory")["used_memory"])
    filled = 0
    for depth in depths:
        with _unsynced(site.redis):
            _fill(site, keyframes, depth - filled)
        filled = max(filled, depth)
        memory = int(info(site.redis, "memory")["used_memory"]) - empty
        yield {
            "queued": depth,
            **_questions(site, port, times),
            "sweep_seconds": _sweep(site),
            "bytes_each": round(memory / depth) if depth else None,
        }


def _questions(site: ScaleSite, port: int, times: int) -> dict[str, dict[str, float]]:
    body, headers = form({name: jpeg(name) for name in ("start", "end")}, {"method": "mpd-vibid"})
    took: dict[str, list[float]] = {name: [] for name in QUESTIONS}

    def ask(name: str, question: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = question()
        took[name].append(time.perf_counter() - began)
        return answer

    with LoadCaller(port) as caller:
        for number in range(-10, times):
            accepted = ask("submit", lambda: caller.ask("POST", "/inbetween", 202, body, headers))[0]
            path = f"/inbetween/{json.loads(accepted)['id']}"
            ask("status", partial(caller.ask, "GET", path, 200))
            job = site.jobs.get(path.rpartition("/")[2])
            assert job is not None
            assert ask("position", partial(site.jobs.position, job)) is not None
            ask("cancel", partial(caller.ask, "POST", f"{path}/cancel", 200))
            if number == -1:
                for values in took.values():
                    values.clear()
    return {name: {f"p{q}_ms": round(1000 * quantile(v, q / 100), 2) for q in (50, 99)} for name, v in took.items()}


def _sweep(site: ScaleSite) -> float:
    """Measure the seconds of the keeper's slowest sweep."""
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
    """Stop syncing writes while the queue is filled; what is measured is measured with every write synced."""
    connection.config_set("appendfsync", "no")
    yield
    connection.config_set("appendfsync", "always")


def _fill(site: ScaleSite, keyframes: list[dict[str, Any]], count: int) -> None:
    pieces = [(site.settings.redis_url, keyframes, min(500, count - at)) for at in range(0, count, 500)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for _ in tqdm(pool.imap_unordered(_submit_many, pieces), "filling", len(pieces), disable=None, leave=False):
            pass


def _submit_many(piece: tuple[str, list[dict[str, Any]], int]) -> None:
    url, keyframes, count = piece
    with redis.Redis.from_url(url) as connection:
        jobs = Jobs(connection, ServiceSettings.model_validate({"redis_url": url}))
        for _ in range(count):
            submit(jobs, keyframes)
