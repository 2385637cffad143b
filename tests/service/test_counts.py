"""Every running total is made where its event happens: once, with its labels, and with nothing else beside it.

The catalogue is walked: a counter that no event here makes fails, whoever adds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from service.api.edge.request_metrics import RequestMetrics
from service.jobs import metrics
from service.jobs.metrics import METRICS
from service.jobs.record import Job, NewJob, StateConflict, Superseded
from service.jobs.store import Jobs
from service.outbound.client import Outbound
from service.settings import ServiceSettings
from service.webhooks.deliveries import Webhooks, announce
from service.webhooks.schedule import SCHEDULE
from trials.receiver import Receiver
from worker.task.engine_client import EngineReport
from worker.task.lease import Lease
from worker.task.reporter import Reporter

WORKER = "this-1"
PROBLEM = {"type": "/problems/generation-failed"}


class World:
    """A Redis of jobs, and a receiver of webhooks."""

    def __init__(self, connection: redis.Redis, receiver: Receiver) -> None:
        self.receiver = receiver
        # With one error a job may be tried again, and its second death is its last.
        self.settings = ServiceSettings(_env_file=None, namespace="counts", max_errors=2, max_deaths=2)
        self.jobs = Jobs(connection, self.settings)
        self.hooks = Webhooks(connection, self.settings)
        self.outbound = Outbound(["127.0.0.1"])

    def queued(self, **more: Any) -> Job:
        values: dict[str, Any] = {"options": {"method": "svd"}, "keyframes": [], "lane": "gpu", "priority": "low"}
        return self.jobs.submit(NewJob("ann", result_ttl=600, size=(640, 480), **(values | more)))

    def running(self, **more: Any) -> Job:
        job = self.queued(**more)
        return self.jobs.start(job.id, job.attempt, WORKER)

    def announced(self) -> str:
        """The id of a delivery whose first try is due."""
        job = self.running(webhook={"url": f"{self.receiver.url}/hook", "events": ["inbetween.succeeded"]})
        delivery = announce(self.jobs, self.settings, self.jobs.succeed(job.id, job.attempt, {}))
        assert delivery is not None
        return delivery

    def tried(self, delivery: str, status: int) -> None:
        self.receiver.answers = [(status, {}, b"")]
        self.hooks.attempt(delivery, 1, self.outbound)

    def ended(self, outcome: str) -> list[str]:
        """What the end of a running job counts."""
        labels = f'method="svd",size="medium",outcome="{outcome}"'
        return [f'jobs_total{{outcome="{outcome}",method="svd"}}', f"job_seconds{{{labels}}}"]

    def totals(self) -> dict[str, float]:
        """By metric with its labels; of a histogram how many observations there were."""
        found: dict[str, float] = {}
        for field, amount in self.jobs.counters().items():
            name, _, labels = field.partition("{")
            if name.endswith("_sum"):
                continue
            labels = ",".join(
                part for part in labels.removesuffix("}").split(",") if part and not part.startswith("le=")
            )
            key = name.removesuffix("_le") + (f"{{{labels}}}" if labels else "")
            found[key] = found.get(key, 0) + amount
        return found


@pytest.fixture
def world(redis_url: str, receiver: Receiver) -> Iterator[World]:
    with redis.Redis.from_url(redis_url) as connection:
        yield World(connection, receiver)


Act = Callable[[World], Callable[[], Any]]
"""Makes what goes before, and gives the event itself."""


def _running(verb: Callable[[World, Job], Any], **more: Any) -> Act:
    def act(world: World) -> Callable[[], Any]:
        job = world.running(**more)
        return lambda: verb(world, job)

    return act


def _died(cause: str, world: World, job: Job) -> Any:
    return world.jobs.died(job.id, job.attempt, cause)


def _stopped(world: World) -> Callable[[], Any]:
    job = world.running()
    world.jobs.cancel(job.id)
    return lambda: world.jobs.stopped(job.id, job.attempt)


def _failed(world: World) -> Job:
    job = world.running()
    return world.jobs.fail(job.id, job.attempt, PROBLEM, retry=False)


def _redriven(world: World) -> Callable[[], Any]:
    job = _failed(world)
    return lambda: world.jobs.redrive(job.id)


def _last_death(world: World) -> Callable[[], Any]:
    job = world.running()
    again = world.jobs.died(job.id, job.attempt, "engine")
    world.jobs.start(again.id, again.attempt, WORKER)
    return lambda: world.jobs.died(again.id, again.attempt, "engine")


def _last_error(world: World) -> Callable[[], Any]:
    job = world.running()
    again = world.jobs.fail(job.id, job.attempt, PROBLEM, retry=True)
    world.jobs.start(again.id, again.attempt, WORKER)
    return lambda: world.jobs.fail(again.id, again.attempt, PROBLEM, retry=True)


def _started(world: World) -> Callable[[], Any]:
    job = world.queued()
    return lambda: world.jobs.start(job.id, job.attempt, WORKER)


def _canceled(world: World) -> Callable[[], Any]:
    job = world.queued()
    return lambda: world.jobs.cancel(job.id)


def _lost(world: World) -> Callable[[], Any]:
    job = world.queued()
    return lambda: world.jobs.requeue(job.id, job.attempt)


def _told(status: int, spent: int = 0) -> Act:
    def act(world: World) -> Callable[[], Any]:
        delivery = world.announced()
        world.jobs.redis.hset(f"counts:delivery:{delivery}", "spent", spent)
        return lambda: world.tried(delivery, status)

    return act


def _answered(world: World) -> Callable[[], Any]:
    traffic = RequestMetrics(world.jobs)

    def answer() -> None:
        traffic.count("/inbetween", "POST", 202, 0.02)
        traffic.flush()

    return answer


def _reported(world: World) -> Callable[[], Any]:
    job = world.running()
    report = Reporter(job, world.jobs, Lease(world.jobs, job.id, job.attempt))
    report._seconds = dict.fromkeys(METRICS["stage_seconds"].labels["stage"], 0.5)
    report._stage = "uploading"
    report.heard(EngineReport("sampled", {"seconds": 1.0}))
    return report.count


def _faulty(sweep: str) -> Act:
    """One of three items is poison, and all three are done with."""

    def act(world: World) -> Callable[[], Any]:
        def work(item: int) -> None:
            if item == 2:
                raise RuntimeError("poison")

        return lambda: world.jobs.sweeps.each(sweep, (1, 2, 3), work, lambda item: None)

    return act


DEAD = {"engine", "work-horse", "lease"}
EVENTS: dict[str, tuple[Act, list[str] | Callable[[World], list[str]]]] = {
    "a job is accepted": (lambda world: world.queued, ["jobs_submitted_total"]),
    "a job is started": (_started, ['queue_wait_seconds{lane="gpu",priority="low"}']),
    "a job succeeds": (
        _running(lambda world, job: world.jobs.succeed(job.id, job.attempt, {})),
        lambda world: world.ended("succeeded"),
    ),
    "a job fails": (
        _running(lambda world, job: world.jobs.fail(job.id, job.attempt, PROBLEM, retry=False)),
        lambda world: world.ended("failed"),
    ),
    "a job fails once more": (_last_error, lambda world: world.ended("failed")),
    "a job stops": (_stopped, lambda world: world.ended("canceled")),
    "a queued job is canceled": (_canceled, ['jobs_total{outcome="canceled",method="svd"}']),
    "a job is tried again": (
        _running(lambda world, job: world.jobs.fail(job.id, job.attempt, PROBLEM, retry=True)),
        ["retries_total"],
    ),
    "a job is given back": (_running(lambda world, job: world.jobs.release(job.id, job.attempt)), ["releases_total"]),
    "a job's machine fails": (
        _running(lambda world, job: world.jobs.ran_out(job.id, job.attempt, WORKER, "No space left", False, True)),
        ["machine_faults_total"],
    ),
    "a job is redriven": (_redriven, ["redrives_total"]),
    "a job is set aside": (
        _last_death,
        lambda world: [*world.ended("failed"), "quarantines_total", 'reclaims_total{cause="engine"}'],
    ),
    "a job is lost by its queue": (_lost, ['reclaims_total{cause="lost"}']),
    **{
        f"a job loses its {cause}": (
            _running(partial(_died, cause)),
            [f'reclaims_total{{cause="{cause}"}}'],
        )
        for cause in sorted(DEAD)
    },
    **{
        f"a webhook is {result}": (_told(status, spent), [f'webhook_deliveries_total{{result="{result}"}}'])
        for result, status, spent in (
            ("delivered", 200, 0),
            ("retried", 500, 0),
            ("failed", 500, len(SCHEDULE) - 1),
            ("disabled", 410, 0),
        )
    },
    **{
        f"a sweep goes on, {sweep}": (_faulty(sweep), [f'sweep_faults_total{{sweep="{sweep}"}}'])
        for sweep in metrics.SWEEP_NAMES
    },
    "a request is answered": (
        _answered,
        [
            'http_requests_total{route="/inbetween",method="POST",status="202"}',
            'http_request_seconds{route="/inbetween",method="POST"}',
        ],
    ),
    "a video was made": (
        _reported,
        [
            "gpu_seconds_total",
            *(f'stage_seconds{{stage="{stage}"}}' for stage in METRICS["stage_seconds"].labels["stage"]),
        ],
    ),
}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_counts_once_what_it_is_and_nothing_else(world: World, event: str) -> None:
    act, expected = EVENTS[event]
    happen = act(world)
    before = world.totals()
    happen()
    after = world.totals()
    made = {name: amount - before.get(name, 0) for name, amount in after.items() if amount != before.get(name, 0)}
    assert made == dict.fromkeys(expected(world) if callable(expected) else expected, 1)


REPEATABLE = {"a job is accepted", "a request is answered", "a video was made", "a webhook is retried"}
"""What happens again when it is done again."""


@pytest.mark.parametrize(
    "event", [name for name in EVENTS if name not in REPEATABLE and not name.startswith("a sweep goes on")]
)
def test_an_event_told_twice_counts_once(world: World, event: str) -> None:
    """A verb whose answer was lost is called again."""
    happen = EVENTS[event][0](world)
    happen()
    once = world.totals()
    with suppress(Superseded, StateConflict):
        happen()
    assert world.totals() == once


def test_every_total_of_the_catalogue_is_made_by_an_event_here() -> None:
    nothing: Any = SimpleNamespace()
    nothing.ended = partial(World.ended, nothing)
    made = [name for _, expected in EVENTS.values() for name in (expected(nothing) if callable(expected) else expected)]
    assert {name.partition("{")[0] for name in made} == {
        name for name, measure in METRICS.items() if measure.kind != "gauge"
    }
    for label, values in (
        ("cause", METRICS["reclaims_total"].labels["cause"]),
        ("result", METRICS["webhook_deliveries_total"].labels["result"]),
        ("outcome", METRICS["jobs_total"].labels["outcome"]),
    ):
        for value in values:
            assert any(f'{label}="{value}"' in name for name in made), (label, value)


def test_what_is_counted_adds_up(world: World) -> None:
    """The sum of a histogram is what was observed, and a bucket holds what fell into it alone."""
    world.jobs.count(metrics.observed("stage_seconds", 0.3, stage="encoding"))
    world.jobs.count(metrics.observed("stage_seconds", 7.0, stage="encoding"))
    assert {name: amount for name, amount in world.jobs.counters().items() if "encoding" in name} == {
        'stage_seconds_le{stage="encoding",le="0.5"}': 1,
        'stage_seconds_le{stage="encoding",le="10"}': 1,
        'stage_seconds_sum{stage="encoding"}': 7.3,
    }
