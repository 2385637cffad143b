"""Sweeps: what should be true of all jobs, made true by difference and not record by record.

Each sweep reads sets, decides, and calls a verb of `Jobs` for what is wrong; a job that meanwhile moved on refuses the
verb, which is as good. So several sweepers at once do no harm. How long something has been wrong is judged by `Watch`
on this process' own clock. Knows neither how often it is called nor who calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import structlog

from service.jobs import spans
from service.jobs.record import LANES, PRIORITIES, Job, JobError, files_prefix, split_ticket
from service.jobs.store import Jobs
from service.storage import Storage, StorageError

log = structlog.get_logger(__name__)


MOST_PATIENCE = 16
"""A ticket that is lost again and again is waited for at most this many times longer."""


class Watch:
    """How long things have been seen unchanged.

    patience: seconds after which something counts as unchanged. stride: the longest time that may count between two
    looks, so that a process that was itself stopped for a while does not blame others for the silence.
    """

    def __init__(self, patience: float, stride: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._stride = stride
        self._clock = clock
        self._last: float | None = None
        self._awake = 0.0
        self._seen: dict[str, tuple[object, float]] = {}

    def unchanged(self, things: Mapping[str, object]) -> list[str]:
        """Name the things that have had the same value at every look for as long as `patience`, in their order."""
        now = self._clock()
        if self._last is not None:
            self._awake += min(now - self._last, self._stride)
        self._last = now
        before, self._seen = self._seen, {}
        for name, value in things.items():
            known = before.get(name)
            self._seen[name] = known if known is not None and known[0] == value else (value, self._awake)
        return [name for name, (_, since) in self._seen.items() if self._awake - since >= self.patience]

    def seconds(self, name: str) -> float:
        """Return how long the thing had been unchanged at the last look."""
        return self._awake - self._seen[name][1]

    def forget(self, name: str) -> None:
        """See the thing as if for the first time at the next look, so that others have their turn before it."""
        self._seen.pop(name, None)

    def reset(self) -> None:
        """Start anew, as after an outage in which nobody could have changed anything."""
        self._last = None
        self._seen = {}


def leases(jobs: Jobs) -> dict[str, float]:
    """Read the lease of every running ticket: a number that changes whenever it is renewed."""
    members: Any = jobs.redis.zrange(jobs.keys.running, 0, -1, withscores=True)
    return {member.decode(): float(score) for member, score in members}


def unlisted(jobs: Jobs) -> list[str]:
    """List the queued tickets that are in no main list of RQ, by queue and position.

    A ticket that a worker has just popped, or that is just being enqueued, is here for a moment too.
    """
    missing: list[str] = []
    for lane in LANES:
        for priority in PRIORITIES:
            queued: Any = jobs.redis.zrange(jobs.keys.queued(lane, priority), 0, -1)
            listed: Any = jobs.redis.lrange(jobs.tickets.queue(lane, priority).key, 0, -1) if queued else []
            absent = set(queued).difference(listed)
            missing += [member.decode() for member in queued if member in absent] if absent else []
    return missing


def reclaim_dead(jobs: Jobs, watch: Watch) -> int:
    """Take jobs from workers whose lease has not changed for as long as `watch` waits. Gives how many."""
    held = leases(jobs)
    reclaimed = 0

    def reclaim(name: str) -> None:
        nonlocal reclaimed
        job_id, attempt = split_ticket(name)
        before = jobs.get(job_id)
        if _done(jobs.died, job_id, attempt, "lease", lease=held[name]):
            reclaimed += 1
            if before is not None and before.attempt == attempt:
                spans.lost(before, "lease")

    jobs.sweeps.each("reclaim", watch.unchanged(held), reclaim, watch.forget)
    return reclaimed


def requeue_lost(jobs: Jobs, watch: Watch, limit: int = 2000) -> int:
    """Enqueue again what has been in no list for as long as `watch` waits. Gives how many, at most `limit`.

    A ticket in no list may also be with a worker that is slow to start it, whom the next attempt would fence off. So a
    job that was lost before, and not started since, is waited for twice as long each time.

    Each goes in front of all others, so the last one goes first: whatever was lost, and in however many sweeps it
    comes back, the old order comes back with it.
    """
    lost = watch.unchanged(dict.fromkeys(unlisted(jobs)))[-limit:]
    requeued = 0

    def requeue(name: str) -> None:
        nonlocal requeued
        times = jobs.losses([name])[0]
        if watch.seconds(name) >= watch.patience * min(2**times, MOST_PATIENCE):
            requeued += _done(jobs.requeue, *split_ticket(name))

    jobs.sweeps.each("requeue", reversed(lost), requeue, watch.forget)
    return requeued


def expire_due(jobs: Jobs, limit: int = 500) -> int:
    """Expire ended jobs whose time is over, and forget tombstones whose time is over too. Gives how many of both."""
    over = 0

    def end(verb: Callable[[str], Job]) -> Callable[[str], None]:
        def ended(name: str) -> None:
            nonlocal over
            over += _done(verb, name)

        return ended

    sweeps, keys = jobs.sweeps, jobs.keys
    sweeps.each("expire", _due(jobs, keys.expiry, limit), end(jobs.expire), sweeps.postpone_in(keys.expiry))
    sweeps.each("forget", _due(jobs, keys.tombstones, limit), end(jobs.delete), sweeps.postpone_in(keys.tombstones))
    return over


def announce_due(jobs: Jobs, announce: Callable[[Job], object], limit: int = 500) -> int:
    """Hand the final events of ended jobs to webhook delivery, until `Jobs.delivered` is called for them.

    Gives how many were handed over.
    """
    names: Any = jobs.redis.zrange(jobs.keys.undelivered, 0, limit - 1)

    def hand_over(name: bytes) -> None:
        job_id, attempt = split_ticket(name.decode())
        job = jobs.ended(job_id, attempt)
        if job is not None:
            announce(job)
        else:
            # There is nothing left that could be told of it.
            jobs.delivered(job_id, attempt)

    return jobs.sweeps.each("announce", names, hand_over, jobs.sweeps.postpone_in(jobs.keys.undelivered))


def erase_due(
    jobs: Jobs, storage: Storage, forget: Callable[[str], object] = lambda job_id: None, limit: int = 100
) -> int:
    """Erase the files of expired and deleted jobs. Raises `StorageUnavailable`; what was not erased stays due.

    forget: called with each id that has no record, for what else there may be of a job that was deleted.
    """
    redis, keys = jobs.redis, jobs.keys
    # An older keeper, or a delete that went well, leaves here what is not due any more.
    redis.eval(_FORGET_ABSENT, 2, keys.unerased, keys.erasures)
    due = redis.zrangebyscore(keys.erasures, "-inf", jobs.now(), start=0, num=limit, withscores=True)
    scores = dict(cast("list[tuple[bytes, float]]", due))

    def erase(name: bytes) -> None:
        if jobs.database is not None:
            jobs.database.check(fresh=True)
        try:
            storage.delete_prefix(files_prefix(name.decode()))
        except StorageError as error:
            if redis.zadd(keys.unerased, {name: scores[name]}, nx=True):
                log.warning("files not erased", job=name.decode(), error=str(error))
            raise
        if not redis.exists(keys.job(name.decode())):
            forget(name.decode())
        # Written down once more meanwhile, it is erased once more: files may have come after ours were listed.
        redis.eval(_REMOVE_IF_SAME, 2, keys.erasures, keys.reserved, name, repr(scores[name]))
        redis.zrem(keys.unerased, name)

    return jobs.sweeps.each("erase", scores, erase, jobs.sweeps.postpone_in(keys.erasures))


_FORGET_ABSENT = """
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if not redis.call('ZSCORE', KEYS[2], name) then redis.call('ZREM', KEYS[1], name) end
end
"""

_REMOVE_IF_SAME = """
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return score and tonumber(score) == tonumber(ARGV[2]) and redis.call('ZREM', KEYS[1], ARGV[1]) or 0
"""


def _due(jobs: Jobs, key: str, limit: int) -> list[str]:
    """List the members of a set by time whose time has come by Redis' clock, which set it, longest due first."""
    found: Any = jobs.redis.zrangebyscore(key, "-inf", jobs.now(), start=0, num=limit)
    return [member.decode() for member in found]


def _done(verb: Callable[..., Job], *arguments: Any, **named: Any) -> int:
    """Call a verb, and return 1 when it was taken, 0 when the job had moved on by itself."""
    try:
        verb(*arguments, **named)
    except JobError:
        return 0
    return 1
