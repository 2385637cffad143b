"""A rolling restart under load: every process of a house ends by SIGTERM and starts again, one after another, while
callers with the client's ordinary retries submit, look and download.

Nothing is killed: this is what an upgrade does. What a caller notices is a call of the client that raises.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import redis
from rq import Worker

from inbetween import Client, InbetweenError, Job
from mpd.tiny import build
from service.fleet.engines import EngineState, live
from trials.chaos.balancer import Balancer
from trials.chaos.customers import CustomerLedger, picture
from trials.chaos.house import HOUSE_PATIENCE, KEEPERS, LAUNCHERS, House, below, has
from trials.chaos.trial import REST_SECONDS, heard, receivers
from trials.chaos.verdict import Judgement, await_rest, judge
from trials.servers import free_port

APIS = ("api-1", "api-2")
STEPS = (*APIS, *KEEPERS, "webhooks", *LAUNCHERS, "redis", "s3")
"""The order of docs/operate.md: whoever is behind the balancer first, what everybody needs last."""
SETTINGS = {"LEASE_TTL": "5", "DRAIN_GRACE": "30", "WEBHOOK_WORKERS": "2"}
PAUSE_SECONDS = 0.4
AT_ONCE = 4
"""Jobs of one caller on their way."""
SETTLE_SECONDS = 1.5
"""At least so long between two restarts, and until every caller has used what was restarted."""


class Estate(House):
    """A house with two APIs behind a balancer, and a process for webhooks alone."""

    services = (*APIS, *KEEPERS, "webhooks", *LAUNCHERS)

    def __init__(self, area: Path, model: Path, **variables: Any) -> None:
        super().__init__(area, model, **variables)
        self._of = {name: free_port() for name in APIS}
        self._balancer = Balancer(self._ports["api"], list(self._of.values()))

    def __enter__(self) -> Estate:
        with ExitStack() as opened:
            opened.enter_context(self._balancer)
            super().__enter__()
            self._balanced = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._balanced.close()

    def await_ready(self) -> None:
        """Wait until every process does its work: one that is still starting would end with Redis."""
        super().await_ready()
        for name in self.services:
            self._await(name)

    def roll(self, name: str) -> None:
        """Restart one process, and return once it does its work again."""
        self.restart(name)
        self._await(name)

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + HOUSE_PATIENCE
        while not self._works(name):
            assert time.monotonic() < deadline, f"{name} does not come back; its log is in {self.area}"
            time.sleep(0.05)

    @property
    def _redis_port(self) -> int | None:
        return urlsplit(self.settings.redis_url).port

    def _works(self, name: str) -> bool:
        try:
            if name in APIS:
                return _answers(f"http://127.0.0.1:{self._of[name]}/readyz")
            if name == "s3":
                return _answers(f"http://127.0.0.1:{self._ports['s3']}/healthcheck")
            if name == "redis":
                return bool(self.redis.ping())
            process = self.process(name)
            if process is None:
                return False
            if name in KEEPERS:
                # One that only waits for the other's lock says nothing in Redis.
                return any(one.raddr and one.raddr.port == self._redis_port for one in process.net_connections("tcp"))
            listeners = {one.pid for one in below(process) if has(one, "worker.listener")}
            ready = any(engine.state is EngineState.ready for engine in live(self.redis, self.settings))
            at_work = {one.pid for one in Worker.all(connection=self.redis)}
            return bool(listeners) and listeners <= at_work and (ready or name != "launcher-gpu")
        except (httpx.TransportError, redis.RedisError, psutil.NoSuchProcess):
            return False

    def _command(self, name: str) -> tuple[Sequence[str], Any]:
        if name in APIS:
            command, variables = super()._command("api")
            return command, {**variables, "PORT": str(self._of[name])}
        return super()._command(name)


@dataclass
class StepRow:
    """One restart."""

    name: str
    #: From SIGTERM until it worked again.
    seconds: float = 0.0
    #: Calls that ended meanwhile or while it settled.
    calls: int = 0
    #: Requests that the client sent once more, for a broken connection or an answer that asked for it.
    again: int = 0
    failed: list[str] = field(default_factory=list)
    #: By which callers a call ended.
    used_by: set[int] = field(default_factory=set)


class Callers:
    """A context manager: inside it, so many callers use the service, and what they meet is counted into `row`."""

    def __init__(self, url: str, hooks: Sequence[str], *, seed: int, people: int, area: Path) -> None:
        self.ledger = CustomerLedger()
        self.row = StepRow("before")
        self.people = people
        self._url, self._hooks, self._seed, self._area = url, hooks, seed, area
        self._pictures = [picture(number) for number in range(6)]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,), name=f"caller-{n}") for n in range(people)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self, caller: int) -> None:
        """Keep a few jobs on their way: each is looked at again and again, and followed by another when it ends."""
        random = Random(f"{self._seed}-{caller}")
        under_way: dict[str, Job] = {}
        number = 0
        with (
            httpx.Client(transport=_Counting(self), trust_env=False) as http,
            Client(self._url, http=http, timeout=30) as client,
        ):
            while not self._over.wait(PAUSE_SECONDS):
                if len(under_way) < AT_ONCE:
                    number += 1
                    name = f"{self._seed}-{caller}-{number}"
                    job = self._submit(caller, client, name, random)
                    if job is not None:
                        under_way[name] = job
                for name, job in list(under_way.items()):
                    self._try(caller, "look", job.refresh)
                    if job.over:
                        del under_way[name]
                        self._take(caller, job, name)

    def _submit(self, caller: int, client: Client, name: str, random: Random) -> Job | None:
        images = random.sample(self._pictures, 2)
        options: dict[str, Any] = {"method": "flow", "frames": 3, "reference": name}
        if random.random() < 0.3:
            options |= {"method": "svd", "steps": 2, "width": 64, "height": 64}
        if random.random() < 0.7:
            options["webhook"] = {"url": random.choice(self._hooks)}
        job: Job | None = self._try(caller, "submit", lambda: client.inbetween(*images, **options))
        if job is not None:
            with self.ledger.lock:
                self.ledger.accepted[name] = job.id
        return job

    def _take(self, caller: int, job: Job, name: str) -> None:
        with self.ledger.lock:
            self.ledger.ended[job.id] = job.state
        if job.state == "succeeded":
            self._try(caller, "download", lambda: job.save(self._area / f"{name}.mp4"))

    def _try(self, caller: int, what: str, call: Callable[[], Any]) -> Any:
        """Give what the call does; None when it raised, which is what a caller notices."""
        try:
            found = call()
        except (InbetweenError, httpx.HTTPError) as error:
            with self.ledger.lock:
                self.row.failed.append(f"{what}: {type(error).__name__}: {error}")
                self.row.used_by.add(caller)
            return None
        with self.ledger.lock:
            self.row.calls += 1
            self.row.used_by.add(caller)
        return found


class _Counting(httpx.HTTPTransport):
    """Counts what makes the client try again."""

    def __init__(self, callers: Callers) -> None:
        super().__init__()
        self._callers = callers

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = super().handle_request(request)
        except httpx.TransportError:
            self._count()
            raise
        if response.status_code >= 500:
            self._count()
        return response

    def _count(self) -> None:
        with self._callers.ledger.lock:
            self._callers.row.again += 1


@dataclass
class RollingReport:
    rows: list[StepRow]
    verdict: Judgement
    accepted: int
    restarts: int

    @property
    def clean(self) -> bool:
        return self.verdict.clean and not self.restarts and not any(row.failed for row in self.rows)

    def table(self) -> str:
        lines = ["restarted         seconds   calls   sent again   failed"]
        for row in self.rows:
            lines.append(f"{row.name:15} {row.seconds:9.1f} {row.calls:7} {row.again:12} {len(row.failed):8}")
        lines += [f"    {line}" for row in self.rows for line in row.failed[:5]]
        lines.append(
            f"\njobs: accepted {self.accepted}, " + ", ".join(f"{k} {n}" for k, n in self.verdict.outcomes.items())
        )
        lines.append(", ".join(f"{sort} {len(told)}" for sort, told in self.verdict.breaches.items()))
        lines.append(f"processes that ended without being told to: {self.restarts}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        rows = [{k: v for k, v in vars(row).items() if k != "used_by"} for row in self.rows]
        return {
            "rows": rows,
            "accepted": self.accepted,
            "outcomes": self.verdict.outcomes,
            "breaches": self.verdict.breaches,
        }


def run(area: Path, *, seed: int, people: int = 4, rounds: int = 1, steps: Sequence[str] = STEPS) -> RollingReport:
    """Restart each of `steps` in turn, so many times. Call it from the main thread. area: an empty folder."""
    model = build(area / "model")
    films = area / "films"
    films.mkdir()
    with Estate(area / "house", model, **SETTINGS) as house, receivers(2) as ears:
        rows: list[StepRow] = []
        hooks = [f"{ear.url}/hook" for ear in ears]
        with Callers(house.url, hooks, seed=seed, people=people, area=films) as callers:
            _settle(house, callers)
            for name in [name for _ in range(rounds) for name in steps]:
                callers.row = row = StepRow(name)
                began = time.monotonic()
                house.roll(name)
                row.seconds = time.monotonic() - began
                _settle(house, callers)
                rows.append(row)
            callers.row = StepRow("after")
        rows.append(callers.row)
        rested = await_rest(house.jobs, house.tend, REST_SECONDS)
        verdict = judge(house.jobs, house.storage, callers.ledger, list(heard(ears)))
        if not rested:
            verdict.breaches["stuck"].append(f"not at rest, and nothing has ended for {REST_SECONDS:g} s")
        return RollingReport(rows, verdict, len(callers.ledger.accepted), house.restarts)


def _settle(house: House, callers: Callers) -> None:
    began = time.monotonic()
    while (since := time.monotonic() - began) < SETTLE_SECONDS or len(callers.row.used_by) < callers.people:
        assert since < HOUSE_PATIENCE, f"no call of some caller ends: {callers.row}"
        house.tend()
        time.sleep(0.1)


def _answers(url: str) -> bool:
    return httpx.get(url, timeout=5, trust_env=False).is_success
