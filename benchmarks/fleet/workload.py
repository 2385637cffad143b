"""What is asked of a fleet: when jobs come, and how many seconds of a GPU each takes.

Jobs come from several sources, each of which is calm or bursts (a Markov-modulated Poisson process), by day and night.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpd.lengths import denoiser_calls
from mpd.methods import Settings

Seconds = NDArray[np.float64]

CALL_TFLOP = 159.9
"""Of one denoiser call of SVD-XT, conditional and unconditional, on 25 frames of 1024x576; counted by tracing."""
REST_TFLOP = 173.6 + 2 * (2.6 + 0.33)
"""Of decoding 25 frames and encoding two keyframes."""
TFLOP_PER_SECOND = 330.0
"""Assumed of an H100-class card without any rewrite of the network; its peak is about 790."""

GRID = 5.0
"""Seconds for which the rate of arrivals is constant."""


def floors(tflop_per_second: float = TFLOP_PER_SECOND) -> dict[str, float]:
    """Estimate the seconds of one take by method, from the arithmetic that each needs. A model, not a measurement."""
    methods = ("svd", "mpd", "vibid", "trf", "mpd-vibid", "mpd-trf")
    return {
        name: (denoiser_calls(Settings(method=name, steps=25)) * CALL_TFLOP + REST_TFLOP) / tflop_per_second
        for name in methods
    }


def measured(path: Path, name: str = "exact") -> dict[str, float]:
    """Read the seconds of one take by method from a card's figures, as `python -m benchmarks.job` writes them.

    name: the row of each method. It measures some methods; the time of the others lies on a straight line through
    those by number of denoiser calls, as the same network does nearly all of each. Raises OSError and ValueError.
    """
    rows = json.loads(path.read_text()).get("job", {}).get("rows", [])
    found = {row["method"]: float(row["seconds"]) for row in rows if row["name"] == name}
    if len(found) < 2:
        raise ValueError(f"{path} does not have two methods measured as {name!r}")
    calls = {method: denoiser_calls(Settings(method=method, steps=25)) for method in floors()}
    slope, rest = np.polyfit([calls[method] for method in found], list(found.values()), 1)
    return {method: found.get(method, float(rest + slope * count)) for method, count in calls.items()}


MIX = {"mpd-vibid": 0.5, "mpd": 0.15, "vibid": 0.1, "mpd-trf": 0.1, "trf": 0.05, "svd": 0.1}
"""Share of each method among the jobs; assumed."""
TAKES = {1: 0.7, 2: 0.15, 4: 0.12, 8: 0.03}
"""Share of jobs with so many takes or segments; assumed."""


@dataclass(frozen=True)
class WorkItem:
    """Seconds of sampling of a job: of one take of a method, times its takes."""

    take_seconds: Mapping[str, float] = field(default_factory=floors)
    mix: Mapping[str, float] = field(default_factory=lambda: MIX)
    takes: Mapping[int, float] = field(default_factory=lambda: TAKES)

    def _parts(self) -> tuple[Seconds, Seconds, Seconds, Seconds]:
        names = [name for name in self.mix if name in self.take_seconds]
        shares = np.array([self.mix[name] for name in names])
        counts = np.array(list(self.takes), float)
        often = np.array(list(self.takes.values()))
        seconds = np.array([self.take_seconds[name] for name in names])
        return seconds, shares / shares.sum(), counts, often / often.sum()

    @property
    def mean(self) -> float:
        seconds, shares, counts, often = self._parts()
        return float(seconds @ shares * (counts @ often))

    def draw(self, rng: np.random.Generator, jobs: int) -> Seconds:
        """Draw the seconds of sampling, shape (jobs,)."""
        seconds, shares, counts, often = self._parts()
        drawn: Seconds = rng.choice(seconds, jobs, p=shares) * rng.choice(counts, jobs, p=often)
        return drawn


@dataclass(frozen=True)
class Weather:
    """How arrivals swing around their mean."""

    #: The day's peak is 1 + daily times the mean, its trough 1 - daily.
    daily: float = 0.6
    #: How many times its calm rate a source sends while it bursts.
    burst: float = 4.0
    #: Mean length of a calm.
    calm_seconds: float = 1800.0
    #: Mean length of a burst.
    burst_seconds: float = 300.0

    def rates(self, rng: np.random.Generator, hours: float, sources: int, first_hour: float) -> Seconds:
        """Give the rate over its mean, for each `GRID` seconds. The day's peak is at 15:00."""
        cells = round(hours * 3600 / GRID)
        at = first_hour * 3600 + GRID * np.arange(cells)
        day = 1 + self.daily * np.cos(2 * np.pi * (at / 3600 - 15) / 24)
        levels = np.zeros(cells)
        for _ in range(sources):
            levels += self._level(rng, cells)
        relative: Seconds = day * levels / sources
        return relative

    def _level(self, rng: np.random.Generator, cells: int) -> Seconds:
        both = self.calm_seconds + self.burst_seconds
        calm = both / (self.calm_seconds + self.burst * self.burst_seconds)
        level = np.empty(cells)
        bursting = rng.random() < self.burst_seconds / both
        cell = 0
        while cell < cells:
            length = rng.exponential(self.burst_seconds if bursting else self.calm_seconds)
            until = cell + max(1, round(length / GRID))
            level[cell:until] = calm * (self.burst if bursting else 1.0)
            cell, bursting = until, not bursting
        return level


STEADY = Weather(daily=0.0, burst=1.0)
"""A plain Poisson process."""


def arrivals(
    rng: np.random.Generator, per_second: float, hours: float, weather: Weather, sources: int, first_hour: float = 0.0
) -> Seconds:
    """Draw times of arrival from 0 up, in order."""
    counts = rng.poisson(per_second * GRID * weather.rates(rng, hours, sources, first_hour))
    cells = np.repeat(np.arange(len(counts)), counts)
    return np.sort((cells + rng.random(len(cells))) * GRID)
