"""What Prometheus reads, the same from every API process: totals counted in Redis, and gauges looked up when asked.

What each metric is stands in `service.jobs.metrics`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, product

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector

from service.fleet import engines, unwell
from service.fleet.engines import Engine, WorkerState
from service.jobs.metrics import METRIC_PREFIX, METRICS, Metric, bounds
from service.jobs.store import Jobs
from service.webhooks.deliveries import Webhooks

_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_Series = dict[tuple[str, ...], float]
"""Values by their labels' values, in the metric's order of labels."""


def render(jobs: Jobs, webhooks: Webhooks, storage_up: bool) -> bytes:
    """Write the exposition text. Raises redis' errors."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Read(jobs, webhooks, storage_up))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, jobs: Jobs, webhooks: Webhooks, storage_up: bool) -> None:
        self._jobs = jobs
        self._webhooks = webhooks
        self._storage_up = storage_up

    def collect(self) -> Iterator[MetricFamily]:
        looked_up = _gauges(self._jobs, self._webhooks) | {"storage_up": {(): float(self._storage_up)}}
        totals = _totals(self._jobs.counters())
        for metric in METRICS.values():
            match metric.kind:
                case "gauge":
                    yield _gauge(metric, looked_up[metric.name])
                case "counter":
                    yield _counter(metric, totals[metric.name])
                case "histogram":
                    yield _histogram(metric, totals)

    def describe(self) -> Iterator[MetricFamily]:
        # Registering would otherwise collect once more just to learn the names.
        return iter(())


def _gauges(jobs: Jobs, webhooks: Webhooks) -> dict[str, _Series]:
    live = engines.live(jobs.redis, jobs.settings)
    with jobs.redis.pipeline(transaction=False) as pipe:
        pipe.zcard(jobs.keys.dead)
        pipe.exists(jobs.keys.keeper)
        dead, keepers = pipe.execute()
    pending, oldest_due = webhooks.backlog()
    lengths = jobs.queue_lengths()
    return {
        "queue_depth": {(lane, name): count for lane, counts in lengths.items() for name, count in counts.items()},
        "jobs_running": {(lane,): count for lane, count in jobs.running_counts().items()},
        "oldest_queued_age_seconds": {(): jobs.oldest_queued_age()},
        "dead_letters": {(): dead},
        "keepers": {(): keepers},
        "database_known": {(): float(jobs.database is None or jobs.database.known)},
        "workers_unwell": {(): unwell.count(jobs.redis, jobs.settings.namespace)},
        "workers": _by_state(engine for engine in live if engine.holds_model),
        "interpolators": _by_state(engine for engine in live if not engine.holds_model),
        "erasures_oldest_due_seconds": {(): jobs.oldest_due_erasure()},
        "webhooks_pending": {(): pending + int(jobs.redis.zcard(jobs.keys.undelivered))},
        "webhooks_oldest_due_seconds": {(): oldest_due},
        "gpu_memory_used_bytes": {(one.id,): one.gpu_memory_used for one in live if one.gpu_memory_used is not None},
        "gpu_memory_total_bytes": {(one.id,): one.gpu_memory_total for one in live if one.gpu_memory_total is not None},
        "gpu_utilization_ratio": {(one.id,): one.gpu_utilization for one in live if one.gpu_utilization is not None},
    }


def _by_state(found: Iterable[Engine]) -> _Series:
    states = Counter(engine.worker_state for engine in found)
    return {(state,): float(states[state]) for state in WorkerState}


def _totals(counters: dict[str, float]) -> defaultdict[str, _Series]:
    """Sort the running totals by name; those of a histogram by the names of its fields.

    What is no metric of this version is left out.
    """
    totals: defaultdict[str, _Series] = defaultdict(dict)
    for field, value in counters.items():
        name, _, labels = field.partition("{")
        found = dict(_LABEL.findall(labels))
        known = METRICS.get(name.removesuffix("_le").removesuffix("_sum"))
        expected = [*known.labels, *(["le"] if name.endswith("_le") else [])] if known else []
        if known is not None and list(found) == expected:
            totals[name][tuple(found.values())] = value
    return totals


def _gauge(metric: Metric, values: _Series) -> MetricFamily:
    family = GaugeMetricFamily(METRIC_PREFIX + metric.name, metric.help, labels=list(metric.labels))
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _counter(metric: Metric, values: _Series) -> MetricFamily:
    family = CounterMetricFamily(METRIC_PREFIX + metric.name, metric.help, labels=list(metric.labels))
    # Unknown values make an empty product: such a counter appears with its first count.
    nothing = dict.fromkeys(product(*metric.labels.values()), 0.0)
    for labels, value in sorted((nothing | values).items()):
        family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, totals: defaultdict[str, _Series]) -> MetricFamily:
    family = HistogramMetricFamily(METRIC_PREFIX + metric.name, metric.help, labels=list(metric.labels))
    within = totals[metric.name + "_le"]
    every = [*bounds(metric.name), "+Inf"]
    for labels in sorted({labels[:-1] for labels in within}):
        counts = accumulate(within.get((*labels, bound), 0.0) for bound in every)
        seconds = totals[metric.name + "_sum"].get(labels, 0.0)
        family.add_metric(labels, buckets=list(zip(every, counts, strict=True)), sum_value=seconds)
    return family
