"""What Prometheus reads, counted in Redis, so that every API process answers the same.

Running totals live in the hash `{namespace}:counters`, a field each, written by whatever does the work
(`jobs.lua`, `Jobs.count`). A field is named as its metric: `jobs_total{outcome="succeeded"}`. The suffix says what it
is: `_total` a counter; `_bucket{le="…"}` with `_sum` a histogram, whose count is the bucket `+Inf`; `_sum` and
`_count` without buckets a summary. Fields known now:

    jobs_submitted_total · jobs_total{outcome} · retries_total · releases_total · redrives_total · quarantines_total
    reclaims_total{cause} · queue_wait_seconds_bucket{le} and _sum · stage_seconds_sum{stage} and _count{stage}
    gpu_seconds_total · webhook_deliveries_total{result}

Everything else is looked up when asked: queue lengths, running jobs, the oldest wait, the engines.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from service import engines
from service.engines import EngineState
from service.jobs import Jobs

PREFIX = "inbetween_"
DESCRIPTIONS = {
    "jobs_submitted": "Jobs accepted.",
    "jobs": "Jobs ended, by outcome.",
    "retries": "Jobs queued again after an application error.",
    "releases": "Jobs given back by a worker that shut down.",
    "redrives": "Failed jobs set going again by an operator.",
    "quarantines": "Jobs set aside because their workers kept dying.",
    "reclaims": "Jobs taken back from a dead worker or a queue that lost them, by cause.",
    "queue_wait_seconds": "Seconds from being queued to being started.",
    "stage_seconds": "Seconds spent in each stage of a job.",
    "gpu_seconds": "Seconds of sampling.",
    "webhook_deliveries": "Webhook attempts, by result.",
}

_FIELD = re.compile(r"([a-z_]+)(?:\{([a-z_]+)=\"([^\"]*)\"\})?")
_Samples = dict[tuple[str, str], dict[str, float]]


def render(jobs: Jobs) -> bytes:
    """The exposition text. Raises redis' errors."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Read(jobs))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(self._jobs)
        yield from _totals(self._jobs.counters())

    def describe(self) -> Iterator[Metric]:
        # Registering would otherwise collect once more just to learn the names.
        return iter(())


def _gauges(jobs: Jobs) -> Iterator[Metric]:
    depth = GaugeMetricFamily(PREFIX + "queue_depth", "Queued jobs.", labels=["lane", "priority"])
    for lane, lengths in jobs.queue_lengths().items():
        for priority, length in lengths.items():
            depth.add_metric([lane, priority], length)
    yield depth
    yield GaugeMetricFamily(PREFIX + "jobs_running", "Jobs being run.", value=jobs.running_count())
    yield GaugeMetricFamily(
        PREFIX + "oldest_queued_age_seconds", "Longest wait of a queued job.", value=jobs.oldest_queued_age()
    )
    live = engines.live(jobs.redis, jobs.settings)
    workers = GaugeMetricFamily(PREFIX + "workers", "Engines by state.", labels=["state"])
    for state in EngineState:
        workers.add_metric([state], sum(engine.state is state for engine in live))
    yield workers


def _totals(counters: dict[str, float]) -> Iterator[Metric]:
    """From fields to metrics. Samples are kept by (name, label), then by the label's value."""
    samples: _Samples = defaultdict(dict)
    for field, value in counters.items():
        match = _FIELD.fullmatch(field)
        if match is not None:
            name, label, labelled = match.groups(default="")
            samples[name, label][labelled] = value
    for (name, label), values in sorted(samples.items()):
        if name.endswith("_total"):
            yield _counter(name.removesuffix("_total"), label, values)
        elif name.endswith("_bucket"):
            yield _histogram(name.removesuffix("_bucket"), values, samples)
        elif name.endswith("_sum") and (name.removesuffix("_sum") + "_bucket", "le") not in samples:
            yield _summary(name.removesuffix("_sum"), label, values, samples)


def _counter(name: str, label: str, values: dict[str, float]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, _description(name), labels=[label] if label else [])
    for labelled, value in sorted(values.items()):
        family.add_metric([labelled] if label else [], value)
    return family


def _histogram(name: str, buckets: dict[str, float], samples: _Samples) -> Metric:
    ordered = sorted(buckets.items(), key=lambda bucket: float(bucket[0]))
    # Bounds below the smallest value seen have no field yet; a bucket left out is as good as an empty one.
    total = samples.get((name + "_sum", ""), {}).get("", 0.0)
    family = HistogramMetricFamily(PREFIX + name, _description(name))
    family.add_metric([], buckets=ordered, sum_value=total)
    return family


def _summary(name: str, label: str, sums: dict[str, float], samples: _Samples) -> Metric:
    family = SummaryMetricFamily(PREFIX + name, _description(name), labels=[label] if label else [])
    counts = samples.get((name + "_count", label), {})
    for labelled, total in sorted(sums.items()):
        family.add_metric([labelled] if label else [], count_value=int(counts.get(labelled, 0)), sum_value=total)
    return family


def _description(name: str) -> str:
    return DESCRIPTIONS.get(name, name.replace("_", " "))
