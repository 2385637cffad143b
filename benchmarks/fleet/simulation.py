"""The service, simulated: one line of jobs, GPUs with work-horses beside them, and an autoscaler.

What it takes from the code: work-horses that wait for a job are served in the order in which they began to wait
(Redis' blocking pop), each engine samples one job at a time, SIGTERM lets a job end within the grace and gives it back
to the front of the line after that. From Kubernetes: the autoscaler's stabilization and its limits of growth, and that
a Deployment shrinks by its newest pods, those not ready first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from benchmarks.fleet.rules import Rule, Sight
from benchmarks.fleet.workload import Seconds

Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class FleetPlan:
    """How a fleet of GPUs is run and scaled. Times in seconds."""

    minimum: int = 2
    maximum: int = 1_000_000
    initial: int | None = None
    #: Work-horses beside each GPU.
    horses: int = 1
    #: Of the work-horses, how many may have a job that is not sampled yet; all of them in the service as it is, for
    #: they take jobs without asking the engine.
    reach: int | None = None
    #: From a pod's creation to a warm model.
    start_seconds: float = 120.0
    #: Of a job before and after its sampling.
    around_seconds: float = 1.5
    #: The service's DRAIN_GRACE.
    grace: float = 600.0
    #: From one look of Prometheus to the next.
    scrape: float = 15.0
    #: From one look of the autoscaler to the next.
    sync: float = 15.0
    #: No fewer GPUs than the most that were wanted within it.
    window: float = 300.0
    #: The larger of this and `grow_pods` limits growth from one look to the next.
    grow_factor: float = 2.0
    grow_pods: int = 4
    #: Scaling in takes GPUs without a job first, as Kubernetes does not by itself.
    idle_first: bool = False


@dataclass
class FleetResult:
    """What came of a simulated run."""

    #: Seconds from a job's arrival to its sampling, by job, NaN for one that never began.
    waits: Seconds
    #: Paid for.
    gpu_seconds: float = 0.0
    #: Of sampling that led to a result.
    busy_seconds: float = 0.0
    #: Of sampling that was given back.
    wasted_seconds: float = 0.0
    given_back: int = 0
    peak: int = 0
    #: GPUs that were told to leave while they had a job.
    stops: int = 0

    def quantile(self, share: float) -> float:
        """Give a quantile of the wait in seconds; jobs that never began have waited for ever."""
        return float(np.quantile(np.nan_to_num(self.waits, nan=np.inf), share, method="higher"))

    @property
    def mean_wait(self) -> float:
        return float(np.mean(self.waits))

    @property
    def idle_share(self) -> float:
        return 1 - self.busy_seconds / self.gpu_seconds


@dataclass(eq=False)
class _Gpu:
    engine: simpy.Resource
    #: One for each job that is not sampled yet.
    places: simpy.Resource
    created: float
    ready: bool = False
    leaving: bool = False
    #: Work-horses with a job.
    busy: int = 0
    #: Those with a job.
    horses: list[simpy.Process] = field(default_factory=list)


def simulate(
    arrivals: Seconds, seconds: Seconds, rule: Rule, plan: FleetPlan, until: float | None = None, skip: float = 0.0
) -> FleetResult:
    """Run jobs that arrive at `arrivals` and sample for `seconds`; both of shape (jobs,).

    until: when to stop, by default when the last job has come. skip: jobs that come, and GPU time that is spent,
    before then are not counted.
    """
    return _Fleet(arrivals, seconds, rule, plan, skip).run(float(arrivals[-1]) if until is None else until)


class _Fleet:
    def __init__(self, arrivals: Seconds, seconds: Seconds, rule: Rule, plan: FleetPlan, skip: float) -> None:
        self._env = simpy.Environment()
        self._arrivals, self._seconds = arrivals, seconds
        self._rule, self._plan, self._skip = rule, plan, skip
        self._line: deque[int] = deque()
        self._idle: deque[tuple[simpy.Event, _Gpu]] = deque()
        self._gpus: list[_Gpu] = []
        self._paying: set[_Gpu] = set()
        self._running = self._submitted = self._finished = self._sampling = 0
        self._sampled, self._sampled_at = 0.0, 0.0
        self._seen: deque[Sight] = deque(maxlen=600)
        self._wanted: deque[tuple[float, int]] = deque()
        self._result = FleetResult(np.full(len(arrivals), np.nan))

    def run(self, until: float) -> FleetResult:
        env, result = self._env, self._result
        initial = self._plan.minimum if self._plan.initial is None else self._plan.initial
        for _ in range(initial):
            self._add(started=True)
        env.process(self._feed())
        env.process(self._scraping())
        env.process(self._scaling())
        env.run(until)
        for gpu in self._paying:
            self._pay(gpu)
        counted = self._arrivals >= self._skip
        result.waits = result.waits[counted & (self._arrivals <= until)]
        return result

    def _feed(self) -> Process:
        now = 0.0
        for job, at in enumerate(self._arrivals.tolist()):
            if at > now:
                yield self._env.timeout(at - now)
                now = at
            self._submitted += 1
            self._offer(job)

    def _offer(self, job: int, front: bool = False) -> None:
        """Give a job to the work-horse that has waited longest, else put it into the line."""
        while self._idle:
            waiting, gpu = self._idle.popleft()
            if not gpu.leaving:
                self._took(gpu)
                waiting.succeed(job)
                return
        (self._line.appendleft if front else self._line.append)(job)

    def _took(self, gpu: _Gpu) -> None:
        """Count a GPU's job at the same moment as it leaves the line: no count misses it."""
        gpu.busy += 1
        self._running += 1

    def _add(self, started: bool = False) -> None:
        gpu = _Gpu(
            simpy.Resource(self._env, 1),
            simpy.Resource(self._env, self._plan.reach or self._plan.horses),
            self._env.now,
        )
        self._gpus.append(gpu)
        self._paying.add(gpu)
        self._result.peak = max(self._result.peak, len(self._gpus))
        self._env.process(self._life(gpu, 0.0 if started else self._plan.start_seconds))

    def _life(self, gpu: _Gpu, start_seconds: float) -> Process:
        yield self._env.timeout(start_seconds)
        if gpu.leaving:
            return
        gpu.ready = True
        for _ in range(self._plan.horses):
            self._env.process(self._horse(gpu))

    def _horse(self, gpu: _Gpu) -> Process:
        env, plan = self._env, self._plan
        me = env.active_process
        assert me is not None
        while not gpu.leaving:
            place = gpu.places.request()
            yield place
            if gpu.leaving:
                break
            if self._line:
                job = self._line.popleft()
                self._took(gpu)
            else:
                waiting = env.event()
                self._idle.append((waiting, gpu))
                job = yield waiting
            gpu.horses.append(me)
            try:
                yield env.timeout(plan.around_seconds / 2)
                with gpu.engine.request() as turn:
                    yield turn
                    yield from self._sample(job)
                gpu.places.release(place)
                yield env.timeout(plan.around_seconds / 2)
                self._finished += 1
            except simpy.Interrupt:
                self._result.given_back += 1
                gpu.places.release(place)
                self._offer(job, front=True)
            gpu.horses.remove(me)
            gpu.busy -= 1
            self._running -= 1
        if not gpu.busy:
            self._gone(gpu)

    def _sample(self, job: int) -> Process:
        result, began, wanted = self._result, self._env.now, float(self._seconds[job])
        result.waits[job] = began - self._arrivals[job]
        self._count(+1)
        try:
            yield self._env.timeout(wanted)
            result.busy_seconds += max(0.0, self._env.now - max(began, self._skip))
        except simpy.Interrupt:
            result.wasted_seconds += self._env.now - began
            raise
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        """Keep the total of seconds sampled."""
        now = self._env.now
        self._sampled += self._sampling * (now - self._sampled_at)
        self._sampled_at = now
        self._sampling += change

    def _remove(self, gpu: _Gpu) -> None:
        """Send a GPU SIGTERM."""
        self._gpus.remove(gpu)
        gpu.leaving = True
        if gpu.busy:
            self._result.stops += 1
            self._env.process(self._end_of_grace(gpu))
        else:
            self._gone(gpu)

    def _end_of_grace(self, gpu: _Gpu) -> Process:
        yield self._env.timeout(self._plan.grace)
        for horse in list(gpu.horses):
            horse.interrupt()

    def _gone(self, gpu: _Gpu) -> None:
        if gpu in self._paying:
            self._paying.remove(gpu)
            self._pay(gpu)

    def _pay(self, gpu: _Gpu) -> None:
        self._result.gpu_seconds += max(0.0, self._env.now - max(gpu.created, self._skip))

    def _scraping(self) -> Process:
        while True:
            self._count(0)
            ready = sum(gpu.ready for gpu in self._gpus)
            self._seen.append(
                Sight(
                    self._env.now,
                    len(self._line),
                    self._running,
                    self._submitted,
                    self._finished,
                    self._sampled,
                    ready,
                )
            )
            yield self._env.timeout(self._plan.scrape)

    def _scaling(self) -> Process:
        plan = self._plan
        # Scrapes and decisions are not in step.
        yield self._env.timeout(plan.sync / 2)
        while True:
            have = len(self._gpus)
            want = min(plan.maximum, max(plan.minimum, self._rule.wanted(list(self._seen), have)))
            now = self._env.now
            self._wanted.append((now, want))
            while self._wanted[0][0] < now - plan.window:
                self._wanted.popleft()
            if want < have:
                want = min(have, max(wanted for _, wanted in self._wanted))
            else:
                want = min(want, max(round(have * plan.grow_factor), have + plan.grow_pods))
            for _ in range(want - have):
                self._add()
            if want < have:
                for gpu in self._leavers(have - want):
                    self._remove(gpu)
            yield self._env.timeout(plan.sync)

    def _leavers(self, count: int) -> list[_Gpu]:
        newest_first = self._gpus[::-1]
        if self._plan.idle_first:
            ordered = sorted(newest_first, key=lambda gpu: (gpu.busy, -gpu.created))
        else:
            ordered = sorted(newest_first, key=lambda gpu: (gpu.ready, -gpu.created))
        return ordered[:count]
