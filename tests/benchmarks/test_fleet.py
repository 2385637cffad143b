"""The simulated fleet against what is known of queues, its autoscaler against what Kubernetes does, and what ships."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import pages
from benchmarks.fleet import answer, report
from benchmarks.fleet.experiments import Conditions, Trial, cheapest, run
from benchmarks.fleet.rules import Fixed, Predictive, Queued, Rule, Sight, Unfinished, Utilisation
from benchmarks.fleet.simulation import FleetPlan, FleetResult, simulate
from benchmarks.fleet.workload import STEADY, Seconds, Weather, WorkItem, arrivals

SERVICE = 10.0
QUIET = FleetPlan(minimum=1, horses=1, around_seconds=0.0, start_seconds=0.0)


def erlang_c(servers: int, load: float) -> float:
    """The probability that a job has to wait; load: jobs that would be served at once if none had to."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


def batches(servers: int, load: float, seconds: str, jobs: int = 4000, runs: int = 25) -> list[FleetResult]:
    """Independent runs of a queue with as many servers, each of whose first jobs are not counted."""
    made = []
    for seed in range(runs):
        rng = np.random.default_rng((7, servers, seed))
        times = np.cumsum(rng.exponential(SERVICE / load, jobs))
        length = rng.exponential(SERVICE, jobs) if seconds == "exponential" else np.full(jobs, SERVICE)
        plan = replace(QUIET, minimum=servers)
        made.append(
            simulate(
                times, length, Fixed(servers), plan, until=float(times[-1]) + 1000 * SERVICE, skip=float(times[400])
            )
        )
    return made


def interval(values: list[float], sigmas: float = 3.0) -> tuple[float, float]:
    """Of their mean, wide enough that a right simulation is outside it once in some hundred seeds."""
    half = sigmas * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


@pytest.mark.parametrize(("servers", "load", "jobs"), [(1, 0.6, 3000), (4, 3.2, 4000), (20, 17.0, 8000)])
def test_waits_are_those_of_erlang_c(servers: int, load: float, jobs: int) -> None:
    """M/M/c: the mean wait, and the share of jobs that wait at all."""
    found = batches(servers, load, "exponential", jobs)
    waits = erlang_c(servers, load)
    low, high = interval([result.mean_wait for result in found])
    expected = waits * SERVICE / (servers - load)
    assert low < expected < high
    assert high - low < 0.5 * expected, "an interval this wide would show nothing"
    low, high = interval([float(np.mean(result.waits > 1e-9)) for result in found])
    assert low < waits < high
    assert high - low < 0.12


def test_waits_of_equal_jobs_are_those_of_pollaczek_and_khinchine() -> None:
    """M/D/1: half the wait of M/M/1. A simulation that drew its own times of service would not know."""
    load = 0.7
    low, high = interval([result.mean_wait for result in batches(1, load, "equal")])
    assert low < load * SERVICE / (2 * (1 - load)) < high
    assert high - low < 0.3 * SERVICE


def test_time_is_paid_for_used_and_wasted() -> None:
    """Two jobs of 10 s on two GPUs for 100 s; and one that a stop without grace gives back after 3 s."""
    times, seconds = np.array([0.0, 5.0]), np.array([10.0, 10.0])
    result = simulate(times, seconds, Fixed(2), replace(QUIET, minimum=2), until=100.0)
    assert (result.gpu_seconds, result.busy_seconds, result.waits.tolist()) == (200.0, 20.0, [0.0, 0.0])
    assert result.idle_share == pytest.approx(0.9)

    # The first GPU is busy until 40, the second one is told to leave at 7.5 and is the newest.
    times, seconds = np.array([0.0, 4.5]), np.array([40.0, 10.0])
    for grace, given_back, wasted, wait in ((0.0, 1, 3.0, 35.5), (600.0, 0, 0.0, 0.0)):
        plan = replace(QUIET, initial=2, grace=grace, window=0.0)
        result = simulate(times, seconds, Fixed(1), plan, until=100.0)
        assert (result.given_back, result.wasted_seconds, result.stops) == (given_back, wasted, 1)
        assert result.waits.tolist() == [0.0, wait]
        assert result.busy_seconds == 50.0


def test_a_second_work_horse_takes_jobs_that_another_gpu_could_sample_at_once() -> None:
    """As Redis serves them, in the order in which they began to wait: the first GPU's two horses come first."""
    times, seconds = np.array([0.0, 1.0]), np.array([10.0, 10.0])
    for horses, reach, wait in ((1, None, 0.0), (2, None, 9.0), (2, 1, 0.0)):
        plan = replace(QUIET, minimum=2, horses=horses, reach=reach)
        result = simulate(times, seconds, Fixed(2), plan, until=100.0)
        assert result.waits.tolist() == [0.0, wait], (horses, reach)


def sight(**values: float) -> Sight:
    fields = {"at": 0, "queued": 0, "running": 0, "submitted": 0, "finished": 0, "gpu_seconds": 0.0, "ready": 0}
    return Sight(**{**fields, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "seen", "replicas", "wanted"),
    [
        (Queued(2.0), [sight(queued=5, running=40)], 10, 3),
        (Unfinished(0.8), [sight(queued=4, running=8)], 10, 15),
        (Unfinished(0.8), [sight(running=8)], 10, 10),
        (Unfinished(1.0), [sight(running=91)], 100, 100),
        (Unfinished(1.0), [sight(running=89)], 100, 89),
        (Utilisation(0.5), [sight(ready=10), sight(at=60, gpu_seconds=540, ready=10)], 10, 18),
        (Predictive(0.5), [sight(queued=9)], 7, 7),
        (
            # A job a second at first, two a second after that; each needs 10 s: three a second in 4.5 minutes.
            Predictive(0.5, window=600, ahead=150, clear=60),
            [
                sight(at=at, submitted=at if at <= 300 else 2 * at - 300, finished=1, gpu_seconds=10.0)
                for at in range(0, 601, 15)
            ],
            7,
            60,
        ),
    ],
)
def test_a_rule_wants(rule: Rule, seen: list[Sight], replicas: int, wanted: int) -> None:
    assert rule.wanted(seen, replicas) == wanted


def peaks(times: Seconds, plan: FleetPlan, until: float) -> FleetResult:
    return simulate(times, np.full(len(times), 1000.0), Unfinished(1.0), plan, until=until)


def test_growth_is_limited_and_shrinking_waits_for_its_window() -> None:
    """100 jobs at once on 2 GPUs: 6, 12, 24, 48, 96 at one look each, and then it is within the tolerance."""
    times = np.zeros(100)
    plan = replace(QUIET, minimum=2, initial=2)
    for looks, size in ((1, 6), (2, 12), (3, 24), (4, 48), (5, 96), (6, 96)):
        assert peaks(times, plan, 7.5 + 15 * (looks - 1) + 1).peak == size
    brief = np.full(100, 200.0)
    paid = {
        window: simulate(times, brief, Unfinished(1.0), replace(plan, window=window), until=2000.0).gpu_seconds
        for window in (0.0, 300.0)
    }
    # The hundred stay for the window, and no longer.
    assert paid[300.0] - paid[0.0] == pytest.approx(94 * 300, rel=0.1)


def test_bursts_and_days_leave_the_mean_as_it_is() -> None:
    rng = np.random.default_rng(3)
    weather = Weather()
    rates = weather.rates(rng, 24, 400, 0.0)
    assert rates.mean() == pytest.approx(1.0, rel=0.03)
    hourly = rates.reshape(24, -1).mean(axis=1)
    assert (hourly.argmax() in (14, 15), hourly.argmin() in (2, 3)) == (True, True)
    assert hourly.max() / hourly.min() == pytest.approx(1.6 / 0.4, rel=0.25)
    one, many = (Weather(daily=0).rates(rng, 240, sources, 0.0).std() for sources in (1, 100))
    assert one / many == pytest.approx(10, rel=0.2), "one source bursts, a hundred do so in turn"
    times = arrivals(rng, 2.0, 10.0, STEADY, 1)
    assert len(times) == pytest.approx(72_000, abs=4 * math.sqrt(72_000))
    assert (np.diff(times) >= 0).all()
    work = WorkItem()
    assert work.draw(rng, 200_000).mean() == pytest.approx(work.mean, rel=0.02)


def test_what_ships_holds_the_objective_and_the_queue_alone_does_not() -> None:
    """Ten GPUs' worth of jobs, the hours from midnight of one day."""
    world = Conditions(10, WorkItem(), seed=1)
    shipped = run(Trial("shipped", answer.RULE, answer.PLAN, world))
    queued = run(Trial("queued", Queued(1.0), answer.PLAN, world))
    assert shipped["p95"] < 60 < queued["p95"]
    assert shipped["given_back"] == 0, "a job that ends within the grace is never given back"


def test_the_page_says_what_ships_and_that_it_is_the_cheapest() -> None:
    """At ten GPUs, where bursts are hardest; at every size it holds the objective."""
    found = json.loads((pages.DOCS / "figures" / "fleet.json").read_text())
    assert found["answer"] == report.shipped()
    summed = [row for row in found["rows"] if row["kind"] == "queued + running" and row["size"] == 10]
    best = cheapest(summed, found["objective"])
    assert best is not None
    assert (best["rule"], best["plan"]["window"]) == (answer.RULE.text, answer.PLAN.window)
    shipped = {row["size"]: row["p95"] for row in found["rows"] if row["kind"] == "shipped"}
    assert sorted(shipped) == [1, 10, 100, 1000, 10000]
    assert max(shipped.values()) < found["objective"]
    text = (pages.DOCS / "scaling.md").read_text()
    assert report.comparison(found["rows"], found["objective"], None) in text
