"""Scaling rules: how many GPUs there should be, from what Prometheus knows.

The first three answer as Kubernetes' HorizontalPodAutoscaler does with such a metric, its tolerance included. Each
sees samples of `Sight`, the newest last, and never the simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

TOLERANCE = 0.1
"""A ratio of wanted to had that is nearer to 1 than this changes nothing: the autoscaler's default."""


@dataclass(frozen=True)
class Sight:
    """One scrape."""

    at: float
    #: Jobs that wait now.
    queued: int
    #: Jobs that run now.
    running: int
    #: Total since the beginning.
    submitted: int
    #: Total since the beginning.
    finished: int
    #: Total since the beginning.
    gpu_seconds: float
    #: GPUs with a warm model.
    ready: int


class Rule(Protocol):
    """`text`: with its parameter, for a table."""

    @property
    def text(self) -> str: ...

    def wanted(self, seen: Sequence[Sight], replicas: int) -> int:
        """Count the GPUs that there should be."""
        ...


def _per_replica(total: float, target: float, replicas: int) -> int:
    """Count replicas as the autoscaler does for a metric with an average value for a target."""
    if replicas and abs(total / (target * replicas) - 1) <= TOLERANCE:
        return replicas
    return math.ceil(total / target - 1e-9)


@dataclass(frozen=True)
class Fixed:
    """Always as many."""

    replicas: int

    @property
    def text(self) -> str:
        return f"fixed, {self.replicas}"

    def wanted(self, seen: Sequence[Sight], replicas: int) -> int:
        return self.replicas


@dataclass(frozen=True)
class Queued:
    """One GPU for every `target` jobs that wait. It does not see the jobs that are being run."""

    target: float

    @property
    def text(self) -> str:
        return f"queued ÷ {self.target:g}"

    def wanted(self, seen: Sequence[Sight], replicas: int) -> int:
        return _per_replica(seen[-1].queued, self.target, replicas)


@dataclass(frozen=True)
class Unfinished:
    """One GPU for every `target` jobs that wait or are being run."""

    target: float

    @property
    def text(self) -> str:
        return f"(queued + running) ÷ {self.target:g}"

    def wanted(self, seen: Sequence[Sight], replicas: int) -> int:
        return _per_replica(seen[-1].queued + seen[-1].running, self.target, replicas)


@dataclass(frozen=True)
class Utilisation:
    """Keep the GPUs busy for this share of the last `window` seconds."""

    target: float
    window: float = 60.0

    @property
    def text(self) -> str:
        return f"utilisation {self.target:.0%}"

    def wanted(self, seen: Sequence[Sight], replicas: int) -> int:
        before, now = _back(seen, self.window), seen[-1]
        if now.at <= before.at or not now.ready:
            return replicas
        busy = (now.gpu_seconds - before.gpu_seconds) / (now.at - before.at) / now.ready
        return _per_replica(min(1.0, busy) * replicas, self.target, replicas)


@dataclass(frozen=True)
class Predictive:
    """What the arrivals of the last `window` seconds will need `ahead` seconds from now if their trend goes on, at
    this utilisation; and what clears the queue within `clear` seconds."""

    target: float
    window: float = 600.0
    ahead: float = 120.0
    clear: float = 60.0

    @property
    def text(self) -> str:
        return f"predictive, {self.target:.0%} busy"

    def wanted(self, seen: Sequence[Sight], replicas: int) -> int:
        now, middle, before = seen[-1], _back(seen, self.window / 2), _back(seen, self.window)
        if not before.at < middle.at < now.at or not now.finished:
            return replicas
        early = (middle.submitted - before.submitted) / (middle.at - before.at)
        late = (now.submitted - middle.submitted) / (now.at - middle.at)
        # Each rate is that of the middle of its half.
        rate = max(0.0, late + (late - early) * (self.ahead + self.window / 4) / (self.window / 2))
        each = now.gpu_seconds / now.finished
        return math.ceil(rate * each / self.target + now.queued * each / self.clear)


def _back(seen: Sequence[Sight], seconds: float) -> Sight:
    """Give the sample nearest to so long before the newest, or the oldest."""
    spacing = seen[-1].at - seen[-2].at if len(seen) > 1 else 1.0
    return seen[max(0, len(seen) - 1 - round(seconds / spacing))]
