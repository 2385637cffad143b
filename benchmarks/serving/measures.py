"""What is measured of one started server, in one round. Knows nothing of which server it is."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.caller import LoadCaller, crowd
from benchmarks.serving.systems import System

LONG = 0.5
"""Seconds with the GPU while gaps are measured: long enough for the next job to be ready, as real jobs are."""


@dataclass(frozen=True)
class LoadPlan:
    """How much of each is measured."""

    #: Seconds with the GPU.
    generation: float
    #: Videos one after the other.
    alone: int
    #: Of each load.
    seconds: float
    #: Videos of which the gaps are measured.
    gaps: int
    #: Of a load.
    connections: int


def measure(system: System, plan: LoadPlan) -> dict[str, Any]:
    """Measure all of it, in this order, on a server that has been started and has nothing to do.

    Raises where a video is not byte for byte the one that was expected.
    """
    expected = system.work.digest()
    system.work.take(plan.generation)
    with LoadCaller(system.port) as caller:
        for _ in range(5):
            found = hashlib.sha256(system.result(caller)).hexdigest()
            assert found == expected, f"{system.name} made another video"
    load = os.getloadavg()[0]
    figures: dict[str, Any] = {
        "overhead": _alone(system, plan),
        "polls": _polls(system, plan) if system.polls else None,
        "gaps": _gaps(system, plan),
        "results": _results(system, plan),
    }
    figures["submissions"] = figures["results"] if system.answers_with_video else _submissions(system, plan)
    figures["load_before"] = round(load, 2)
    return figures


def _alone(system: System, plan: LoadPlan) -> list[float]:
    """Time jobs one at a time: seconds from the first byte sent to the last byte of the video, less the generation."""
    took = []
    with LoadCaller(system.port) as caller:
        for _ in range(plan.alone):
            began = time.perf_counter()
            system.result(caller)
            took.append(time.perf_counter() - began - plan.generation)
    return took


def _polls(system: System, plan: LoadPlan) -> dict[str, Any]:
    """Time looks at a job that is being generated."""
    system.work.take(plan.seconds + 1.0)
    with LoadCaller(system.port) as caller:
        job = system.submit(caller)
        time.sleep(0.5)
        took, whole = crowd(system.port, plan.connections, plan.seconds, lambda one: system.poll(one, job))
    system.work.take(plan.generation)
    return _rate(took, whole)


def _gaps(system: System, plan: LoadPlan) -> list[float]:
    """Measure the seconds that the GPU is free between a job and the next, all there from the beginning."""
    system.work.take(LONG)
    system.work.held()
    if system.answers_with_video:
        crowd(system.port, plan.connections, plan.gaps * LONG, system.submit)
    else:
        with LoadCaller(system.port) as caller:
            for _ in range(plan.gaps):
                system.submit(caller)
        deadline = time.monotonic() + plan.gaps * (LONG + 5)
        held: list[Any] = []
        while len(held) < plan.gaps:
            held += system.work.held()
            assert time.monotonic() < deadline, f"{system.name} made {len(held)} of {plan.gaps} videos"
            time.sleep(0.05)
    system.work.take(plan.generation)
    held = system.work.held() if system.answers_with_video else held
    return [after[0] - before[1] for before, after in itertools.pairwise(sorted(held)[: plan.gaps])]


def _results(system: System, plan: LoadPlan) -> dict[str, Any]:
    """Time videos made and fetched while all connections always wait for one."""
    time.sleep(1.0)
    before = system.processor()
    took, whole = crowd(system.port, plan.connections, plan.seconds, system.result)
    used = system.processor() - before
    return {**_rate(took, whole), "cpu_seconds_each": used / len(took), "memory": system.memory()}


def _submissions(system: System, plan: LoadPlan) -> dict[str, Any]:
    """Time jobs taken while all connections always send one, and the workers work on them. They stay queued."""
    took, whole = crowd(system.port, plan.connections, plan.seconds, system.submit)
    return _rate(took, whole)


def _rate(took: list[float], whole: float) -> dict[str, Any]:
    return {"per_second": len(took) / whole, "seconds": took}
