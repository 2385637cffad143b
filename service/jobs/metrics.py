"""Every metric by its name: what it counts, its labels, its buckets. The reference is made from here.

Running totals live in the hash `{namespace}:counters`, so that they are right however many processes count and
however those end. A field is named as its metric with its labels, `jobs_total{outcome="failed",method="flow"}`. A
histogram has a field for each bucket, `job_seconds_le{…,le="5"}`, that holds what fell between the bound below and this
one, so that an observation is two increments, and its `_sum`. Whatever else stands in the hash, such as what an
older version counted with other labels, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mpd.methods import METHODS
from service.fleet.engines import WorkerState
from service.jobs.record import LANES, PRIORITIES, SIZES, State

METRIC_PREFIX = "inbetween_"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Metric:
    """One metric.

    A counter whose labels' values are all known begins at zero for each of them, so that the first of a kind is seen as
    an increase.
    """

    #: Without the prefix.
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    #: The values each may have, none where they are not known before.
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Upper bounds of a histogram, in seconds.
    buckets: tuple[float, ...] = ()


_ENDS = (State.succeeded.value, State.failed.value, State.canceled.value)
_UNKNOWN = "unknown"
"""Of a job that a version wrote down which did not keep this."""

SWEEP_NAMES = ("reclaim", "requeue", "expire", "forget", "announce", "erase", "uploads", "deliveries", "whole")
"""What the keeper goes through, in its order."""

_WAITS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)
_WORK = (0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 3600)
_STAGE = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200)
_ANSWER_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_ALL = (
    Metric("jobs_submitted_total", "counter", "Jobs accepted."),
    Metric(
        "jobs_total",
        "counter",
        "Jobs ended, by outcome and method.",
        {"outcome": _ENDS, "method": (*METHODS, _UNKNOWN)},
    ),
    Metric(
        "job_seconds",
        "histogram",
        "Seconds from a job's last start to its end. Size is that of a frame, in pixels: `small` up to 300,000, "
        "`medium` up to 1,000,000, `large` above.",
        {"method": (*METHODS, _UNKNOWN), "size": (*SIZES, _UNKNOWN), "outcome": _ENDS},
        _WORK,
    ),
    Metric(
        "queue_wait_seconds",
        "histogram",
        "Seconds from being queued to being started.",
        {"lane": LANES, "priority": PRIORITIES},
        _WAITS,
    ),
    Metric(
        "stage_seconds",
        "histogram",
        "Seconds that jobs which made a video spent in each stage.",
        {"stage": ("starting", "fetching", "waiting", "sampling", "encoding", "uploading")},
        _STAGE,
    ),
    Metric("gpu_seconds_total", "counter", "Seconds of sampling on engines, of jobs which made a video."),
    Metric("retries_total", "counter", "Jobs queued again after an application error."),
    Metric("releases_total", "counter", "Jobs given back by a worker that shut down, or that waited in vain."),
    Metric("machine_faults_total", "counter", "Jobs given back because the worker's machine failed or ran out."),
    Metric("redrives_total", "counter", "Failed jobs set going again by an operator."),
    Metric("quarantines_total", "counter", "Jobs set aside because their workers kept dying."),
    Metric(
        "reclaims_total",
        "counter",
        "Jobs taken back: from a dead engine, work-horse or machine (its lease ran out), or lost by the queue.",
        {"cause": ("engine", "work-horse", "lease", "lost")},
    ),
    Metric(
        "webhook_deliveries_total",
        "counter",
        "Tries of webhook deliveries, by what came of them.",
        {"result": ("delivered", "retried", "failed", "disabled")},
    ),
    Metric(
        "sweep_faults_total",
        "counter",
        "Items that a sweep of the keeper could not deal with and put last. Whole: the sweep itself ended early.",
        {"sweep": SWEEP_NAMES},
    ),
    Metric(
        "http_requests_total",
        "counter",
        "Requests answered by the API. Route is the path's template, `none` where there is no such path.",
        {"route": (), "method": (), "status": ()},
    ),
    Metric(
        "http_request_seconds",
        "histogram",
        "Seconds from a request's headers to the first byte of its answer.",
        {"route": (), "method": ()},
        _ANSWER_BOUNDS,
    ),
    Metric("queue_depth", "gauge", "Queued jobs.", {"lane": LANES, "priority": PRIORITIES}),
    Metric("jobs_running", "gauge", "Jobs being run.", {"lane": LANES}),
    Metric("oldest_queued_age_seconds", "gauge", "Longest wait of a queued job; 0 when none waits."),
    Metric("dead_letters", "gauge", "Quarantined jobs that nobody has set going again or erased."),
    Metric(
        "workers",
        "gauge",
        "Engines of a model by state: `idle` and `busy` ones are ready, `failed` ones ended and are started again.",
        {"state": tuple(WorkerState)},
    ),
    Metric(
        "interpolators",
        "gauge",
        "Engines that hold the learned interpolator alone, of workers without MODEL, by the same states.",
        {"state": tuple(WorkerState)},
    ),
    Metric("workers_unwell", "gauge", "Workers that take no jobs, because their machine is not well."),
    Metric("keepers", "gauge", "1 while a keeper is at work, else 0."),
    Metric(
        "database_known",
        "gauge",
        "1 when Redis is the database that was there before, 0 when it came up empty, older or as another.",
    ),
    Metric("storage_up", "gauge", "1 when storage answered and could be written, else 0."),
    Metric(
        "erasures_oldest_due_seconds",
        "gauge",
        "How long the files that are due to be erased have been so at most; 0 when none are.",
    ),
    Metric("webhooks_pending", "gauge", "Events that have not reached their receiver yet, and are still tried."),
    Metric(
        "webhooks_oldest_due_seconds",
        "gauge",
        "How long the try of an event that is due has waited for somebody to make it; 0 when none waits.",
    ),
    Metric("gpu_memory_used_bytes", "gauge", "Memory in use on an engine's GPU, by whomever.", {"engine": ()}),
    Metric("gpu_memory_total_bytes", "gauge", "Memory of an engine's GPU.", {"engine": ()}),
    Metric("gpu_utilization_ratio", "gauge", "Share of the last moments in which the GPU computed.", {"engine": ()}),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def counted(name: str, amount: float = 1, **labels: str) -> dict[str, float]:
    """Return what to add to the running totals for a counter. Raises KeyError for a metric that is not in `METRICS`."""
    return {name + _braced(_ordered(name, labels)): amount}


def observed(name: str, seconds: float, **labels: str) -> dict[str, float]:
    """Return what to add to the running totals for one observation of a histogram.

    Raises KeyError as `counted` does.
    """
    ordered = _ordered(name, labels)
    bound = next((text for text in bounds(name) if seconds <= float(text)), "+Inf")
    return {f"{name}_le{_braced((*ordered, ('le', bound)))}": 1, f"{name}_sum{_braced(ordered)}": seconds}


def bounds(name: str) -> list[str]:
    """Return the upper bounds of a histogram as its fields have them, without the last, which has none."""
    return [f"{bound:g}" for bound in METRICS[name].buckets]


def lua() -> str:
    """Write the bounds for the scripts that count too: `BOUNDS[name]`, texts in order."""
    tables = (
        f"['{name}'] = {{{', '.join(repr(bound) for bound in bounds(name))}}}"
        for name, metric in METRICS.items()
        if metric.kind == "histogram"
    )
    return f"local BOUNDS = {{{', '.join(tables)}}}\n"


def _ordered(name: str, labels: Mapping[str, str]) -> Labels:
    known = METRICS[name].labels
    if labels.keys() != known.keys():
        raise KeyError(f"{name} has the labels {list(known)}")
    return tuple((label, labels[label]) for label in known)


def _braced(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
