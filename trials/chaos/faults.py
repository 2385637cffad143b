"""Doing the faults of a schedule to a house, one after another, and undoing them when their time is over.

Runs in the caller's thread, which must be the one that started the house. Remembers which running attempts were hit,
so that what became of them can be asked later, and whether what they were charged was theirs.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
import redis

from service.jobs.record import split_ticket
from service.storage import StorageError
from service.webhooks.deliveries import Webhooks
from trials.chaos import receivers, swaps
from trials.chaos.databases import Lost
from trials.chaos.house import KEEPERS, LAUNCHERS, House, families
from trials.chaos.proxy import Line
from trials.chaos.receivers import Health, Ill
from trials.chaos.refusals import REFUSALS
from trials.chaos.schedule import InjectedFault
from worker.task.retrying import DAMAGE_PATIENCE

LOOK_SECONDS = 0.05
AGAIN_SECONDS = 0.3
"""Between two tries to undo what cannot be undone now, as while Redis is down too."""
UNDO_PATIENCE = 60.0
COPY_SECONDS = 2.0
"""How old a copy of the database is when it comes in."""
MEET_SECONDS = 60.0
"""How much longer than planned a machine is sick at most, until its launcher knows."""
DEADLY = ("kill-horse", "kill-worker", "kill-engine", "kill-launcher", "stop-horse", "stop-engine")
"""Faults for which an attempt that ran in their target may be charged with a death."""
TIMED = ("kill-horse", "kill-worker", "kill-launcher", "stop-horse")
"""Those whose attempts are surely taken over."""
TARGET_PATIENCE = 60.0
"""How long a fault waits for something to hit, such as a work-horse, or an engine that is starting again."""


@dataclass(frozen=True)
class Victim:
    """An attempt that was running in what a fault hit."""

    kind: str
    job: str
    attempt: int
    #: Epoch seconds.
    at: float


class Faults:
    """What is done to a house, and what came of it.

    done: faults by kind. missed: those that found nothing to hit. victims: in the order they were hit. struck: attempts
    that may have died of a fault. lost: what restored copies did not have. met: how many sick machines took no jobs.
    wronged: jobs of which a keyframe was another for as long as a worker waits for the right one. ill: the webhook
    receiver of `ill_owner`, which falls ill.
    """

    def __init__(self, house: House, ill: Ill, ill_owner: str) -> None:
        self._house = house
        self._ill = ill
        self._ill_owner = ill_owner
        self._hooks = Webhooks(house.hasty.redis, house.settings)
        self.struck: set[tuple[str, int]] = set()
        self.lost = Lost()
        self.met = 0
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.victims: list[Victim] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._stopped: set[int] = set()
        self.wronged: set[str] = set()
        self._swapping = False
        self._database_in_use = False
        self._seen: list[tuple[str, int, int]] = []
        self._stricken: list[set[int]] = []

    def run(self, faults: Sequence[InjectedFault], over: Callable[[], bool]) -> None:
        """Do all faults in turn, until `over` says so."""
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
                self._undo(entry[1])
            if self._stricken:
                self._look_again()
            self._house.tend()
            if now >= until or over():
                return
            time.sleep(LOOK_SECONDS)

    def restore(self) -> None:
        """Undo everything that still lasts, as soon as it can be."""
        deadline = time.monotonic() + UNDO_PATIENCE
        self._due = [(0.0, undo) for _, undo in self._due]
        while self._due:
            assert time.monotonic() < deadline, "a fault cannot be undone"
            self.wait(time.monotonic() + LOOK_SECONDS, lambda: False)

    def _undo(self, undo: Callable[[], None]) -> None:
        try:
            undo()
        except (redis.RedisError, StorageError):
            self._later(AGAIN_SECONDS, undo)

    def _try(self, fault: InjectedFault, over: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + TARGET_PATIENCE
        while not self._do(fault):
            if time.monotonic() >= deadline or over():
                return False
            self.wait(time.monotonic() + LOOK_SECONDS, over)
        return True

    def _do(self, fault: InjectedFault) -> bool:
        """Do a fault, and tell whether there was something to do it to."""
        verb, _, whom = fault.kind.partition("-")
        if verb in ("kill", "stop", "term"):
            return self._hit(fault, verb, whom)
        others = {"s3": self._line, "redis": self._database, "receiver": self._receiver}
        try:
            return {"swap": self._swap, "sicken": self._sicken}.get(verb, others.get(whom))(fault)  # type: ignore[misc]
        except (redis.RedisError, StorageError):
            # What it needs is hit too just now.
            return False

    def _line(self, fault: InjectedFault) -> bool:
        verb = {"refuse": "refusing"}.get(verb := fault.kind.partition("-")[0], verb)
        self._house.proxy.become(Line(verb), REFUSALS[int(fault.pick * len(REFUSALS))])
        self._later(fault.seconds, lambda: self._house.proxy.become(Line.open))
        return True

    def _swap(self, fault: InjectedFault) -> bool:
        """Swap a keyframe, one at a time, so that what is put back is what was accepted."""
        if self._swapping or self._database_in_use:
            return False
        swapped = swaps.swap(self._house.hasty, self._house.hasty_storage, fault.pick)
        if swapped is None:
            return False
        self._swapping = True
        began = time.monotonic()

        def put_back() -> None:
            swaps.put_back(self._house.hasty, self._house.hasty_storage, swapped)
            self._swapping = False
            # Meant to be shorter, but a storage that is down or a busy machine puts back when it can.
            if time.monotonic() - began >= DAMAGE_PATIENCE:
                self.wronged.add(swapped.job)

        self._later(fault.seconds, put_back)
        return True

    def _sicken(self, fault: InjectedFault) -> bool:
        """Sicken a machine in the middle of an attempt, and until its launcher has said that it takes no more."""
        name = LAUNCHERS[int(fault.pick * len(LAUNCHERS))]
        machine, launcher = self._house.machines[name], self._house.process(name)
        workers = self._house.workers_of(launcher)
        busy = {pid for _, _, pid in self._running()}
        if machine.sick or not any(one.pid in busy for one in workers):
            return False
        machine.sicken(workers)
        deadline = time.monotonic() + fault.seconds + MEET_SECONDS

        def heal() -> None:
            met = self._house.unwell(name)
            if not met and time.monotonic() < deadline:
                self._later(AGAIN_SECONDS, heal)
                return
            self.met += met
            machine.heal(self._house.workers_of(self._house.process(name)))

        self._later(fault.seconds, heal)
        return True

    def _receiver(self, fault: InjectedFault) -> bool:
        poison = fault.kind.startswith("poison")
        if self._ill.health is not Health.well or self._database_in_use:
            return False
        if not receivers.afflict(self._hooks, self._house.hasty, self._ill_owner, poison):
            return False
        self._ill.health = Health.poisoned if poison else Health.silent

        def recover() -> None:
            self._ill.health = Health.well

        self._later(fault.seconds, recover)
        return True

    def _database(self, fault: InjectedFault) -> bool:
        """Swap the database for some seconds, one at a time: what is copied comes in, and what goes away is away."""
        databases = self._house.databases
        if self._database_in_use or self._swapping:
            return False
        self._seen = list(self._running())
        verb = fault.kind.partition("-")[0]
        if verb == "empty":
            databases.empty()
        else:
            databases.copy()
        self._database_in_use = True

        def over() -> None:
            databases.restore(self.lost) if verb == "restore" else databases.bring_back()
            self._database_in_use = False

        def go() -> None:
            self._seen = list(self._running())
            databases.age() if verb == "age" else databases.empty()
            self._later(fault.seconds, over)

        self._later(*((fault.seconds, over) if verb == "empty" else (COPY_SECONDS, go)))
        return True

    def _hit(self, fault: InjectedFault, verb: str, whom: str) -> bool:
        name = self._name(whom, fault.pick)
        targets = self._targets(whom) if name is None else [self._house.process(name)]
        alive = [one for one in targets if one is not None and one.pid not in self._stopped]
        if not alive:
            return False
        target = alive[int(fault.pick * len(alive))]
        if whom == "redis":
            self._seen = self._running_or_seen()
        self._note_victims(fault, target)
        if verb == "kill" and name is not None:
            self._house.kill(name, fault.seconds)
        elif verb == "stop":
            self._stop(target, fault.seconds)
        else:
            _send(target, signal.SIGKILL if verb == "kill" else signal.SIGTERM)
        return True

    def _name(self, whom: str, pick: float) -> str | None:
        """Name a process that the house itself starts."""
        if whom == "launcher":
            return LAUNCHERS[int(pick * len(LAUNCHERS))]
        if whom == "keeper":
            return KEEPERS[int(pick * len(KEEPERS))]
        return whom if whom in ("api", "redis", "s3") else None

    def _targets(self, whom: str) -> list[psutil.Process]:
        found = {"horse": self._horses, "worker": self._house.workers, "engine": self._house.engines}
        return found[whom]()

    def _horses(self) -> list[psutil.Process]:
        """List work-horses in the middle of an attempt."""
        busy = {pid for _, _, pid in self._running_or_seen()}
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

    def _note_victims(self, fault: InjectedFault, target: psutil.Process) -> None:
        """Note attempts whose work-horse is about to be hit.

        It is killed or stopped for longer than its lease, or it loses its engine.
        """
        if fault.kind not in DEADLY:
            return
        whole = target.parent() if fault.kind.endswith("engine") else target
        hit = {one.pid for one in families(whole or target)}
        running = [(job, attempt) for job, attempt, pid in self._running_or_seen() if pid in hit]
        self.struck |= set(running)
        if fault.kind in TIMED:
            self.victims += [Victim(fault.kind, job, attempt, time.time()) for job, attempt in running]
        # One that was just starting is seen a moment later; what waits for an engine that is stopped, at its end.
        self._stricken.append(hit)
        if fault.kind == "stop-engine":
            self._later(fault.seconds, lambda: self._stricken.append({one.pid for one in families(whole or target)}))

    def _look_again(self) -> None:
        try:
            self.struck |= {
                (job, attempt) for job, attempt, pid in self._running() if pid in set.union(*self._stricken)
            }
        except redis.RedisError:
            return
        self._stricken.clear()

    def _running_or_seen(self) -> list[tuple[str, int, int]]:
        """List all that run; while Redis is hit too, all that ran when it was: nothing can start or end without it."""
        with suppress(redis.RedisError):
            return list(self._running())
        return self._seen

    def _running(self) -> Iterable[tuple[str, int, int]]:
        """Yield the job, attempt and process id of the work-horse of all that run."""
        if self._house.databases.away:
            raise redis.ConnectionError("this is another database")
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
