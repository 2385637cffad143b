"""Which rule holds the objective at which size, and at what cost: runs of the simulation, several at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.fleet import answer
from benchmarks.fleet.rules import Fixed, Predictive, Queued, Rule, Unfinished, Utilisation
from benchmarks.fleet.simulation import FleetPlan, FleetResult, simulate
from benchmarks.fleet.workload import Seconds, Weather, WorkItem, arrivals

HOURS = {1: (0.0, 48.0), 10: (0.0, 24.0), 100: (6.0, 12.0), 1000: (7.0, 4.0), 10000: (9.0, 1.0)}
"""First hour of the day and length of a run, by the size of the fleet: larger ones have the morning's rise alone."""
WARM_UP = 900.0
"""Seconds at the beginning of a run that are not counted."""
WINDOWS = (300.0, 900.0)
GRIDS: dict[str, tuple[Rule, ...]] = {
    "queued": tuple(Queued(target) for target in (0.25, 0.5, 1.0, 2.0)),
    "queued + running": tuple(Unfinished(target) for target in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)),
    "utilisation": tuple(Utilisation(target) for target in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
    "predictive": tuple(Predictive(target) for target in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
}
FIXED = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
"""A fleet that is never scaled, as multiples of the mean demand."""


@dataclass(frozen=True)
class Conditions:
    """What is given."""

    #: GPUs that the jobs keep busy on average.
    size: int
    work: WorkItem
    weather: Weather = field(default_factory=Weather)
    seed: int = 1

    @property
    def sources(self) -> int:
        return max(1, min(100, self.size // 10))

    def jobs(self) -> tuple[Seconds, Seconds]:
        """Draw arrivals and seconds of sampling: the same ones for every rule."""
        first, hours = HOURS[self.size]
        rng = np.random.default_rng((self.seed, zlib.crc32(repr((self.size, self.weather)).encode())))
        times = arrivals(rng, self.size / self.work.mean, hours, self.weather, self.sources, first)
        return times, self.work.draw(rng, len(times))


@dataclass(frozen=True)
class Trial:
    kind: str
    rule: Rule
    plan: FleetPlan
    world: Conditions


def run(trial: Trial) -> dict[str, Any]:
    """Simulate one trial and give its row: what was tried, and what came of it."""
    times, seconds = trial.world.jobs()
    size = trial.world.size
    plan = replace(trial.plan, initial=trial.plan.initial or round(1.5 * size) + 1, maximum=8 * size + 8)
    result = simulate(times, seconds, trial.rule, plan, until=float(times[-1]), skip=WARM_UP)
    return {
        "kind": trial.kind,
        "rule": trial.rule.text,
        "size": size,
        "seed": trial.world.seed,
        "plan": asdict(trial.plan),
        "weather": asdict(trial.world.weather),
        **figures(result),
    }


def figures(result: FleetResult) -> dict[str, Any]:
    """Give a run's numbers for a table; seconds."""
    return {
        "jobs": len(result.waits),
        "p50": round(result.quantile(0.5), 1),
        "p95": round(result.quantile(0.95), 1),
        "p99": round(result.quantile(0.99), 1),
        "paid_over_used": round(result.gpu_seconds / result.busy_seconds, 3),
        "idle_share": round(result.idle_share, 3),
        "gpu_seconds_per_job": round(result.gpu_seconds / len(result.waits), 1),
        "peak": result.peak,
        "given_back": result.given_back,
        "wasted_share": round(result.wasted_seconds / result.gpu_seconds, 5),
        "stopped_at_work": result.stops,
    }


def grid(world: Conditions, plan: FleetPlan, windows: Iterable[float] = WINDOWS) -> list[Trial]:
    """List every rule with every parameter."""
    scaled = [
        Trial(kind, rule, replace(plan, window=window), world)
        for kind, rules in GRIDS.items()
        for rule in rules
        for window in windows
    ]
    sizes = {max(1, round(factor * world.size)) for factor in FIXED}
    fixed = [Trial("fixed", Fixed(n), replace(plan, minimum=n, initial=n), world) for n in sorted(sizes)]
    return scaled + fixed


def variations(world: Conditions, plan: FleetPlan) -> list[Trial]:
    """List the shipped setting in other circumstances, one change each."""
    changes: dict[str, tuple[FleetPlan, Weather]] = {
        "as shipped": (plan, world.weather),
        "2 work-horses for each GPU": (replace(plan, horses=2), world.weather),
        "2, of which one waits until the GPU is free": (replace(plan, horses=2, reach=1), world.weather),
        "a start takes 30 s": (replace(plan, start_seconds=30), world.weather),
        "a start takes 300 s": (replace(plan, start_seconds=300), world.weather),
        "a start takes 600 s": (replace(plan, start_seconds=600), world.weather),
        "DRAIN_GRACE=60": (replace(plan, grace=60), world.weather),
        "DRAIN_GRACE=0": (replace(plan, grace=0), world.weather),
        "idle GPUs leave first": (replace(plan, idle_first=True), world.weather),
        "bursts of 8 times": (plan, replace(world.weather, burst=8.0)),
        "no bursts": (plan, replace(world.weather, burst=1.0)),
    }
    return [Trial(name, answer.RULE, one, replace(world, weather=sky)) for name, (one, sky) in changes.items()]


def run_all(trials: Sequence[Trial], processes: int) -> list[dict[str, Any]]:
    """Run all trials, and give the rows in their order."""
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(run, trials))


def pooled(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pool runs that differ in their seed alone to one row: the worst wait, the mean cost."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr((row["kind"], row["rule"], row["size"], row["plan"], row["weather"])), []).append(row)
    made = []
    for group in groups.values():
        worst = {name: max(row[name] for row in group) for name in ("p50", "p95", "p99", "peak", "wasted_share")}
        mean = {
            name: round(float(np.mean([row[name] for row in group])), 3)
            for name in ("paid_over_used", "idle_share", "gpu_seconds_per_job", "given_back", "stopped_at_work")
        }
        made.append({**group[0], **worst, **mean, "seeds": len(group)})
    return made


def cheapest(rows: Sequence[dict[str, Any]], objective: float) -> dict[str, Any] | None:
    """Choose of those that hold the objective the one that pays least."""
    holding = [row for row in rows if row["p95"] < objective]
    return min(holding, key=lambda row: float(row["paid_over_used"])) if holding else None
