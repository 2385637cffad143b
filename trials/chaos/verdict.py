"""What must be true when everything has come to rest, looked up in Redis, in storage and at the receivers themselves.

Each check gives its breaches as lines for people; none is good. Of the faults it knows only what they can excuse.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rq.job import Job as Carried

from service.jobs.record import LANES, PRIORITIES, Job, State, files_prefix
from service.jobs.store import Jobs
from service.storage import ObjectMissing, Storage
from trials.chaos import charges, pictures
from trials.chaos.customers import CustomerLedger
from trials.chaos.databases import Lost

ENDINGS = ("jobs_total", "webhook_deliveries_total")
"""Counters that grow while there is less and less to do."""

REST_SOON = 120.0
"""Seconds within which an erasure is still waited for."""

SHOWN = 5
"""Breaches of one sort that are told in full."""


@dataclass
class Judgement:
    """What was found to be wrong, and how the jobs ended."""

    #: By sort, lines for people.
    breaches: dict[str, list[str]] = field(default_factory=dict)
    #: Jobs by how they ended.
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        return not any(self.breaches.values())

    def told(self) -> str:
        return "\n".join(
            f"{sort}: {len(lines)}\n" + "\n".join(f"    {line}" for line in lines[:SHOWN])
            for sort, lines in self.breaches.items()
            if lines
        )


@dataclass(frozen=True)
class Heard:
    """One webhook as a receiver got it."""

    #: The `webhook-id`, the same on every try.
    id: str
    job: str
    event: str
    attempt: int


@dataclass(frozen=True)
class Excuses:
    """What the faults of a trial can have done to jobs, by definition."""

    #: Attempts (job, number) that ran in what was killed, or stopped for longer than a lease.
    struck: set[tuple[str, int]] = field(default_factory=set)
    #: What was not in a copy of the database that was restored.
    lost: Lost = field(default_factory=Lost)
    #: Owners whose webhook receivers are not well.
    deaf: frozenset[str] = frozenset()
    #: Jobs of which the storage had another keyframe for as long as it is waited for.
    wronged: set[str] = field(default_factory=set)


NONE = Excuses()


def at_rest(jobs: Jobs, deaf: Collection[str] = ()) -> bool:
    """Tell whether nothing is on its way any more: no job, no announcement, no delivery, no erasure.

    deaf: owners whose deliveries nobody waits for.
    """
    keys = jobs.keys
    waiting = [keys.queued(lane, priority) for lane in LANES for priority in PRIORITIES]
    # Files of a request that died unanswered are erased an hour later; nobody waits for that.
    erasures = jobs.redis.zcount(keys.erasures, "-inf", jobs.now() + REST_SOON)
    if erasures or any(jobs.redis.zcard(key) for key in [*waiting, keys.running, keys.undelivered]):
        return False
    due = _members(jobs, f"{keys.namespace}:deliveries-due")
    owners = {jobs.redis.hget(f"{keys.namespace}:delivery:{name}", "owner") for name in due}
    return owners <= {owner.encode() for owner in deaf}


def records(jobs: Jobs) -> dict[str, Job]:
    """Read every job there is, by its record and not by an index."""
    prefix = jobs.keys.job("")
    names = [key.decode().removeprefix(prefix) for key in jobs.redis.scan_iter(f"{prefix}*", count=1000)]
    return {job.id: job for job in jobs.get_many(names)}


def judge(
    jobs: Jobs, storage: Storage, ledger: CustomerLedger, heard: list[Heard], excuses: Excuses = NONE
) -> Judgement:
    """Make all checks. The house must be at rest, and Redis and storage up."""
    found = records(jobs)
    endings = {job: list(_endings(jobs, job)) for job in found}
    lost = excuses.lost
    checks: dict[str, Callable[[], Iterable[str]]] = {
        "lost": lambda: _lost(found, ledger, lost),
        "doubled": lambda: _doubled(found, endings),
        "stuck": lambda: _stuck(jobs, found),
        "torn": lambda: _torn(found, storage, lost),
        "forged": lambda: pictures.forged(found.values(), storage, ledger.sent, lost.revived),
        "charged": lambda: charges.charged(jobs, found.values(), excuses.struck, lost, excuses.wronged),
        "unannounced": lambda: _unannounced(found, endings, heard, excuses),
        "orphaned": lambda: _orphaned(jobs, storage, found, lost),
        "erased": lambda: _erased(storage, found, lost),
        "broken promises": lambda: ledger.broken,
    }
    verdict = Judgement({sort: list(check()) for sort, check in checks.items()})
    for job in found.values():
        verdict.outcomes["quarantined" if job.quarantined else str(job.state)] += 1
    gone = {job for job in lost.forgotten if job not in found}
    verdict.outcomes["deleted"] = len([job for job in ledger.deleted if job not in found and job not in gone])
    if gone:
        verdict.outcomes["younger than a restored copy"] = len(gone)
    return verdict


def _lost(found: dict[str, Job], ledger: CustomerLedger, lost: Lost) -> Iterator[str]:
    for key, job in ledger.accepted.items():
        if job not in found and job not in ledger.deleted and job not in lost.forgotten:
            yield f"{key} was accepted as {job}, which is nowhere"
    for job in sorted(ledger.missing - lost.forgotten.keys()):
        yield f"{job} was accepted, and its customer was told that it is not there"
    for job, state in ledger.ended.items():
        if job in found and found[job].state != state and job not in lost.rewound:
            yield f"{job} was seen {state} and is {found[job].state}"


def _doubled(found: dict[str, Job], endings: dict[str, list[tuple[str, int]]]) -> Iterator[str]:
    orders: dict[str, list[str]] = defaultdict(list)
    for job in found.values():
        orders[str(job.options.get("reference"))].append(job.id)
        if len(endings[job.id]) != 1:
            yield f"{job.id} is {job.state} and ended {len(endings[job.id])} times: {endings[job.id]}"
        elif endings[job.id] != [(str(job.state), job.attempt)]:
            yield f"{job.id} is {job.state} at {job.attempt} and its stream says {endings[job.id]}"
    yield from (f"{key} made {len(ids)} jobs: {ids}" for key, ids in orders.items() if len(ids) > 1)


def _stuck(jobs: Jobs, found: dict[str, Job]) -> Iterator[str]:
    """Find jobs that have not ended, and whatever an index or RQ says of a job that its record does not."""
    for job in found.values():
        if not job.state.is_terminal:
            yield f"{job.id} is {job.state} at attempt {job.attempt}"
    keys = jobs.keys
    ended = {job.id for job in found.values()}
    yield from _differs("expiry", _members(jobs, keys.expiry), ended)
    quarantined = {job.id for job in found.values() if job.quarantined}
    yield from _differs("dead", _members(jobs, keys.dead), quarantined)
    for owner in {job.owner for job in found.values()}:
        mine = {job.id: job.state for job in found.values() if job.owner == owner}
        yield from _differs(f"owned by {owner}", _members(jobs, keys.owned(owner)), set(mine))
        for state in State:
            of_state = {job for job, its in mine.items() if its is state}
            yield from _differs(f"{state} of {owner}", _members(jobs, keys.owned(owner, state)), of_state)
    for lane in LANES:
        for priority in PRIORITIES:
            for name in jobs.tickets.queue(lane, priority).get_job_ids():
                # Taken back by a cancel while Redis went away: whoever pops it is refused.
                if not jobs.redis.exists(Carried.key_for(name)):
                    continue
                yield f"RQ still queues {name}"
    for key in jobs.redis.scan_iter(f"{keys.events('')}*", count=1000):
        if key.decode().removeprefix(keys.events("")) not in found and jobs.redis.ttl(key) < 0:
            yield f"{key.decode()} has no record and stays for ever"


def _torn(found: dict[str, Job], storage: Storage, lost: Lost) -> Iterator[str]:
    """Find results with a file that is not whole, or not of the one attempt that the manifest names."""
    for job in found.values():
        if job.state is not State.succeeded or job.id in lost.revived:
            continue
        assert job.result is not None
        attempt = job.result["attempt"]
        prefix = f"{files_prefix(job.id)}{attempt}/"
        try:
            manifest = json.loads(storage.get(prefix + "manifest.json"))
            same = {**manifest, "stills": None} == {**job.result, "stills": None} or job.id in lost.rewound
            if not same or not attempt <= job.attempt:
                yield f"{job.id}: its manifest is not the result it has committed"
            for file in [*manifest["files"], *manifest["stills"]]:
                data = storage.get(prefix + file["name"])
                if len(data) != file["size"] or hashlib.sha256(data).hexdigest() != file["sha256"]:
                    yield f"{job.id}: {file['name']} of attempt {attempt} is not what its manifest says"
        except ObjectMissing as missing:
            yield f"{job.id}: {missing}"


def _unannounced(
    found: dict[str, Job], endings: dict[str, list[tuple[str, int]]], heard: list[Heard], excuses: Excuses
) -> Iterator[str]:
    """Find final events that were not received, others that were, and any that came under two ids."""
    told: dict[str, set[Heard]] = defaultdict(set)
    for one in heard:
        told[one.job].add(one)
    turned = excuses.lost.rewound | excuses.lost.revived
    for job in found.values():
        if job.owner in excuses.deaf:
            continue
        wanted = {(f"inbetween.{state}", attempt) for state, attempt in endings[job.id] if job.webhook is not None}
        got = {(one.event, one.attempt) for one in told[job.id]}
        if not wanted <= got or (got != wanted and job.id not in turned):
            yield f"{job.id}: receivers should have seen {wanted} and saw {got}"
        if len(told[job.id]) > len(got):
            yield f"{job.id}: one event came under several ids: {told[job.id]}"


def _orphaned(jobs: Jobs, storage: Storage, found: dict[str, Job], lost: Lost) -> Iterator[str]:
    """Find files of no job that nobody is going to erase."""
    files: Counter[str] = Counter(name.split("/")[1] for name in storage.list("jobs/"))
    due = _members(jobs, jobs.keys.erasures)
    for job, count in files.items():
        if job not in found and job not in due and job not in lost.forgotten and job not in lost.reserved:
            yield f"{count} files of {job}, which has no record"


def _erased(storage: Storage, found: dict[str, Job], lost: Lost) -> Iterator[str]:
    """Find erased files of jobs that a restored database does not know.

    That it does not know them is no proof that they were deleted.
    """
    for job, names in lost.forgotten.items():
        for name in names:
            try:
                if job not in found:
                    storage.stat(name)
            except ObjectMissing:
                yield f"{name} was erased, of a job that is only younger than the copy that was restored"


def _endings(jobs: Jobs, job: str) -> Iterator[tuple[str, int]]:
    """Yield the final states that a job's event stream tells of, with their attempts."""
    entries: Any = jobs.redis.xrange(jobs.keys.events(job))
    for _, fields in entries:
        data = json.loads(fields[b"data"])
        if fields[b"type"] == b"state" and State(data["state"]).is_terminal:
            yield data["state"], data["attempt"]


def taken_over(jobs: Jobs, job: str, attempt: int, since: float) -> float | None:
    """Measure the seconds from `since` (epoch) until a later attempt of the job was started; None when none was."""
    entries: Any = jobs.redis.xrange(jobs.keys.events(job))
    for name, fields in entries:
        data = json.loads(fields[b"data"])
        if fields[b"type"] == b"state" and data["state"] == State.running and data["attempt"] > attempt:
            return max(0.0, int(name.partition(b"-")[0]) / 1000 - since)
    return None


def _members(jobs: Jobs, key: str) -> set[str]:
    members: Any = jobs.redis.zrange(key, 0, -1)
    return {member.decode() for member in members}


def _differs(name: str, said: set[str], true: set[str]) -> Iterator[str]:
    yield from (f"index {name} names {job}, whose record does not say so" for job in sorted(said - true))
    yield from (f"index {name} lacks {job}" for job in sorted(true - said))


def await_rest(jobs: Jobs, tend: Callable[[], None], seconds: float, deaf: Collection[str] = ()) -> bool:
    """Wait for everything to come to rest; False when nothing has ended for so many seconds before it did.

    `tend` is called again and again. deaf: as of `at_rest`.
    """
    before, deadline = -1.0, 0.0
    while True:
        tend()
        if at_rest(jobs, deaf):
            return True
        ended = sum(count for name, count in jobs.counters().items() if name.startswith(ENDINGS))
        if ended != before:
            before, deadline = ended, time.monotonic() + seconds
        elif time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
