"""One trial: a house, its customers and the faults of one seed; then rest, then the verdict, then a table."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mpd.tiny import build
from service.auth import CALLER, ApiKeys, Scope
from trials.chaos.customers import Account, Customers
from trials.chaos.faults import Faults, Victim
from trials.chaos.house import House
from trials.chaos.receivers import Ill
from trials.chaos.schedule import KINDS, InjectedFault
from trials.chaos.verdict import Excuses, Heard, Judgement, await_rest, judge, taken_over
from trials.receiver import Received, Receiver

REST_SECONDS = 240.0
"""A delivery whose try was killed is taken up a minute later; nothing else takes as long."""

QUIET_SECONDS = 120.0
"""Without a fault, no order takes as long: who still waits after this time has been forgotten."""

SETTINGS = {
    "LEASE_TTL": "5",
    "DRAIN_GRACE": "1",
    "STALL_SECONDS": "8",
    "WORKERS_PER_ENGINE": "2",
    "WEBHOOK_WORKERS": "2",
    "MAX_DEATHS": "5",
}
"""Impatient, so that in the time of one trial every wait runs out many times, but not with a machine that is slow: what
gets no processor for so long looks dead. With as few processes of each kind as may be."""

WELL, ILL = "well", "ill"
"""Two owners: the webhook receivers of one take everything, that of the other falls ill."""
ILL_SHARE = 4
"""One person in so many belongs to the latter."""


@dataclass
class ChaosReport:
    """What came of a trial."""

    seed: int
    verdict: Judgement
    #: By kind.
    faults: Counter[str]
    #: By kind.
    missed: Counter[str]
    #: What customers did.
    counts: Counter[str]
    accepted: int
    restarts: int
    #: Of the trial without the wait for rest.
    seconds: float
    rest_seconds: float
    #: Seconds by kind of fault.
    takeovers: dict[str, list[float]]
    #: `reclaims_total` by cause, as the API tells.
    metrics: dict[str, float]
    #: Sick machines that took no jobs.
    unwell: int
    #: Attempts given back by sick machines, as counted; a restored copy has fewer.
    uncharged: int
    #: What the sick machines ran out of.
    lacking: str
    errors: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        named = {**vars(self)}
        verdict = named.pop("verdict")
        return {**named, "breaches": verdict.breaches, "outcomes": verdict.outcomes}

    def table(self) -> str:
        lines = ["fault              done   missed   take-over p50   max"]
        for kind in KINDS:
            times = sorted(self.takeovers.get(kind, ()))
            took = f"{statistics.median(times):10.1f} s {times[-1]:6.1f} s  ({len(times)})" if times else ""
            lines.append(f"{kind:17} {self.faults[kind]:5} {self.missed[kind]:8} {took}".rstrip())
        lines.append(f"{'all':17} {self.faults.total():5} {self.missed.total():8}")
        counts = {"accepted": self.accepted, **self.verdict.outcomes}
        lines.append("\njobs: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        lines.append(", ".join(f"{sort} {len(told)}" for sort, told in self.verdict.breaches.items()))
        lines.append("customers: " + ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items())))
        lines.append("reclaims_total: " + ", ".join(f"{cause} {n:.0f}" for cause, n in sorted(self.metrics.items())))
        lines.append(
            f"machines without {self.lacking} that took no jobs: {self.unwell}; "
            f"given back by them: {self.uncharged} or more"
        )
        lines.append(
            f"{self.seconds:.0f} s of faults, at rest {self.rest_seconds:.0f} s later, {self.restarts} restarts"
        )
        return "\n".join(lines)


def run(
    area: Path,
    faults: Sequence[InjectedFault],
    *,
    seed: int,
    jobs: int,
    people: int = 8,
    seconds: float = 86_400,
    progress: Callable[[Faults, Customers], None] = lambda *_: None,
) -> ChaosReport:
    """Run a trial until all faults are done and all jobs served, or the time is over. Call it from the main thread.

    area: an empty folder, in which logs and data stay. jobs: at least so many; customers go on while faults do.
    """
    model = build(area / "model")
    with (
        House(area / "house", model, impatient=True, AUTH="keys", **SETTINGS) as house,
        receivers(2) as ears,
        Ill() as ill,
    ):
        hit = Faults(house, ill, ILL)
        began = time.monotonic()
        accounts = _accounts(house, [f"{ear.url}/hook" for ear in ears], ill.url, people)
        with Customers(house.url, accounts, seed=seed, least=jobs) as customers:

            def over() -> bool:
                progress(hit, customers)
                return time.monotonic() - began > seconds

            hit.run(faults, over)
            customers.enough()
            hit.wait(began + seconds, lambda: over() or customers.served() or customers.quiet_seconds() > QUIET_SECONDS)
        hit.restore()
        took = time.monotonic() - began
        house.await_ready()
        rested = await_rest(house.jobs, house.tend, REST_SECONDS, [ILL])
        rest_took = time.monotonic() - began - took
        metrics = reclaims(house.url, _secret(house, WELL, Scope.metrics))
        excuses = Excuses(hit.struck, hit.lost, frozenset([ILL]), hit.wronged)
        verdict = judge(house.jobs, house.storage, customers.ledger, list(heard(ears)), excuses)
        if not rested:
            verdict.breaches["stuck"].append(f"not at rest, and nothing has ended for {REST_SECONDS:g} s")
        takeovers = _takeovers(house, hit.victims)
        uncharged = round(house.jobs.counters().get("machine_faults_total", 0))
        lacking = ", ".join(sorted({machine.lacking for machine in house.machines.values()}))
        verdict.breaches["left running"] = [f"{one.pid} {' '.join(one.cmdline())}" for one in house.shut()]
        return ChaosReport(
            seed, verdict, hit.done, hit.missed, customers.ledger.counts, len(customers.ledger.accepted),
            house.restarts, took, rest_took, takeovers, metrics, hit.met, uncharged, lacking, house.errors(),
        )  # fmt: skip


def _accounts(house: House, well: Sequence[str], ill: str, people: int) -> list[Account]:
    """Make an account for each person."""
    kinds = [Account(_secret(house, ILL, *CALLER), [ill]), Account(_secret(house, WELL, *CALLER), well)]
    return [kinds[min(1, number % ILL_SHARE)] for number in range(people)]


def _secret(house: House, owner: str, *scopes: Scope) -> str:
    """Make a new key without limits, and give its secret."""
    return ApiKeys(house.redis, house.settings).create(owner, scopes, owner, rate=0, active_jobs=0)[1]


@contextmanager
def receivers(count: int) -> Iterator[list[Receiver]]:
    """Run servers that take every webhook, for as long as the context lasts."""
    with ExitStack() as opened:
        yield [opened.enter_context(Receiver.running()) for _ in range(count)]


def reclaims(url: str, secret: str) -> dict[str, float]:
    """Read `reclaims_total` by cause from `/metrics`."""
    headers = {"Authorization": f"Bearer {secret}"}
    text = httpx.get(f"{url}/metrics", headers=headers, timeout=30, trust_env=False).raise_for_status().text
    found = {}
    for line in text.splitlines():
        if line.startswith("inbetween_reclaims_total{"):
            name, _, value = line.rpartition(" ")
            found[name.split('"')[1]] = float(value)
    return found


def heard(ears: Sequence[Receiver]) -> Iterator[Heard]:
    """List every webhook that came."""
    for request in [request for ear in ears for request in ear.received]:
        yield _event(request)


def _event(request: Received) -> Heard:
    body = json.loads(request.body)
    return Heard(request.headers["webhook-id"], body["data"]["id"], body["type"], body["data"]["attempt"])


def _takeovers(house: House, victims: Sequence[Victim]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for victim in victims:
        seconds = taken_over(house.jobs, victim.job, victim.attempt, victim.at)
        if seconds is not None:
            found[victim.kind].append(seconds)
    return dict(found)
