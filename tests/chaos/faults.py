"""Doing the faults of a schedule to a house, one after another, and undoing them when their time is over.

Runs in the caller's thread, which must be the one that started the house. Remembers which running attempts were hit,
so that what became of them can be asked later.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import psutil
import redis

from service.jobs import split_ticket
from tests.chaos.house import KEEPERS, LAUNCHERS, House, families
from tests.chaos.proxy import Line
from tests.chaos.schedule import Fault

LOOK_SECONDS = 0.05
TARGET_PATIENCE = 60.0
"""How long a fault waits for something to hit, such as a work-horse, or an engine that is starting again."""


@dataclass(frozen=True)
class Victim:
    """An attempt that was running in what a fault hit. at: epoch seconds."""

    kind: str
    job: str
    attempt: int
    at: float


class Faults:
    """done: faults by kind. missed: those that found nothing to hit. victims: in the order they were hit."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.victims: list[Victim] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._stopped: set[int] = set()

    def run(self, faults: Sequence[Fault], over: Callable[[], bool]) -> None:
        """All of them in turn, until `over` says so."""
        for fault in faults:
            self.wait(time.monotonic() + fault.pause, over)
            if over():
                break
            (self.done if self._try(fault, over) else self.missed)[fault.kind] += 1

    def wait(self, until: float, over: Callable[[], bool]) -> None:
        """Let time pass, undoing what is due and tending the house."""
        while True:
            now = time.monotonic()
            for entry in [entry for entry in self._due if entry[0] <= now]:
                self._due.remove(entry)
                entry[1]()
            self._house.tend()
            if now >= until or over():
                return
            time.sleep(LOOK_SECONDS)

    def restore(self) -> None:
        """Undo everything that still lasts, at once."""
        for _, undo in self._due:
            undo()
        self._due.clear()

    def _try(self, fault: Fault, over: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + TARGET_PATIENCE
        while not self._do(fault):
            if time.monotonic() >= deadline or over():
                return False
            self.wait(time.monotonic() + LOOK_SECONDS, over)
        return True

    def _do(self, fault: Fault) -> bool:
        """Whether there was something to do it to."""
        verb, _, whom = fault.kind.partition("-")
        if verb in ("cut", "slow"):
            self._house.proxy.become(Line(verb))
            self._later(fault.seconds, lambda: self._house.proxy.become(Line.open))
            return True
        name = self._name(whom, fault.pick)
        targets = self._targets(whom) if name is None else [self._house.process(name)]
        alive = [one for one in targets if one is not None and one.pid not in self._stopped]
        if not alive:
            return False
        target = alive[int(fault.pick * len(alive))]
        self._note_victims(fault, target)
        if verb == "kill" and name is not None:
            self._house.kill(name, fault.seconds)
        elif verb == "stop":
            self._stop(target, fault.seconds)
        else:
            _send(target, signal.SIGKILL if verb == "kill" else signal.SIGTERM)
        return True

    def _name(self, whom: str, pick: float) -> str | None:
        """Of a process that the house itself starts."""
        if whom == "launcher":
            return LAUNCHERS[int(pick * len(LAUNCHERS))]
        if whom == "keeper":
            return KEEPERS[int(pick * len(KEEPERS))]
        return whom if whom in ("api", "redis", "s3") else None

    def _targets(self, whom: str) -> list[psutil.Process]:
        found = {"horse": self._horses, "worker": self._house.workers, "engine": self._house.engines}
        return found[whom]()

    def _horses(self) -> list[psutil.Process]:
        """Work-horses in the middle of an attempt; all there are while Redis is hit too."""
        try:
            busy = {pid for _, _, pid in self._running()}
        except redis.RedisError:
            return self._house.horses()
        return [horse for horse in self._house.horses() if horse.pid in busy]

    def _stop(self, target: psutil.Process, seconds: float) -> None:
        _send(target, signal.SIGSTOP)
        self._stopped.add(target.pid)

        def go_on() -> None:
            self._stopped.discard(target.pid)
            _send(target, signal.SIGCONT)

        self._later(seconds, go_on)

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, undo))

    def _note_victims(self, fault: Fault, target: psutil.Process) -> None:
        """Attempts whose work-horse is about to be killed, or stopped for longer than its lease."""
        if fault.kind not in ("kill-horse", "kill-worker", "kill-launcher", "stop-horse"):
            return
        hit = {one.pid for one in families(target)}
        try:
            running = list(self._running())
        except redis.RedisError:
            # Redis is hit too just now. The attempt is judged with all others at the end.
            return
        self.victims += [Victim(fault.kind, job, attempt, time.time()) for job, attempt, pid in running if pid in hit]

    def _running(self) -> Iterable[tuple[str, int, int]]:
        """Job, attempt and process id of the work-horse of all that run."""
        jobs = self._house.hasty
        members = jobs.redis.zrange(jobs.keys.running, 0, -1)
        names = [split_ticket(member.decode())[0] for member in members]  # type: ignore[union-attr]
        for job in jobs.get_many(names):
            if job.worker is not None:
                yield job.id, job.attempt, int(job.worker.rpartition("-")[2])


def _send(target: psutil.Process, number: signal.Signals) -> None:
    try:
        target.send_signal(number)
    except psutil.NoSuchProcess:
        # It ended by itself in this moment, which is a fault of its own.
        return
