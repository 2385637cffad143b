"""Reading jobs: records, pages, queues and counts. Changes nothing; `store.py` holds the transitions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import redis

from service.jobs.record import LANES, PRIORITIES, Job, JobPage, State, decode, split_ticket, ticket
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings


class JobReader:
    """All jobs of one namespace, to be read. `connection` must return bytes (`decode_responses=False`)."""

    def __init__(self, connection: redis.Redis, settings: ServiceSettings) -> None:
        self.redis = connection
        self.settings = settings
        self.keys = RedisKeys(settings.namespace)

    def get(self, job_id: str) -> Job | None:
        fields = self.redis.hgetall(self.keys.job(job_id))
        return decode(_bytes(fields)) if fields else None

    def get_many(self, ids: Iterable[str]) -> list[Job]:
        """Read those of `ids` that exist, in the same order, in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(self.keys.job(job_id))
            return [decode(fields) for fields in pipe.execute() if fields]

    def ended(self, job_id: str, attempt: int) -> Job | None:
        """Read the job as this attempt ended it, even if it was set going again since; None where it did not."""
        for key in (self.keys.ended(ticket(job_id, attempt)), self.keys.job(job_id)):
            fields = _bytes(self.redis.hgetall(key))
            job = decode(fields) if fields else None
            if job is not None and job.attempt == attempt and job.state.is_terminal:
                return job
        return None

    def was_deleted(self, job_id: str) -> bool:
        """Tell whether something says of a job that has no record that it was deleted.

        That is so when its files are due, or its last event is kept. That there is no record says nothing: Redis may
        have come up empty, or older than the job. Nor do files that are due for a request that had not made the job
        yet, as a Redis has them that is some seconds older.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zscore(self.keys.erasures, job_id)
            pipe.zscore(self.keys.reserved, job_id)
            pipe.exists(self.keys.events(job_id))
            due, reserved, told = pipe.execute()
        return (due is not None and reserved is None) or bool(told)

    def position(self, job: Job) -> int | None:
        """Count the jobs of the same lane that go before this one; None unless it is queued."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrank(self.keys.queued(job.lane, job.priority), job.ticket)
            for priority in PRIORITIES[: PRIORITIES.index(job.priority)]:
                pipe.zcard(self.keys.queued(job.lane, priority))
            rank, *before = pipe.execute()
        return None if rank is None else rank + sum(before)

    def list(self, owner: str, limit: int, cursor: str | None = None, state: State | None = None) -> JobPage:
        """List the owner's jobs, newest first. `cursor` is the last page's `next_cursor`."""
        return self._page(self.keys.owned(owner, state), limit, cursor)

    def dead_letters(self, limit: int, cursor: str | None = None) -> JobPage:
        """List the quarantined jobs of all owners, newest first."""
        return self._page(self.keys.dead, limit, cursor)

    def queue_lengths(self) -> dict[str, dict[str, int]]:
        """Count the queued jobs by lane and priority."""
        with self.redis.pipeline(transaction=False) as pipe:
            for lane, priority in product(LANES, PRIORITIES):
                pipe.zcard(self.keys.queued(lane, priority))
            counts = iter(pipe.execute())
        return {lane: {priority: next(counts) for priority in PRIORITIES} for lane in LANES}

    def running_counts(self) -> dict[str, int]:
        """Count the running jobs by lane."""
        with self.redis.pipeline(transaction=False) as pipe:
            for lane in LANES:
                pipe.scard(self.keys.running_in(lane))
            return dict(zip(LANES, pipe.execute(), strict=True))

    def oldest_queued_age(self) -> float:
        """Return the seconds that the longest-waiting queued job has waited; 0 when none waits."""
        with self.redis.pipeline(transaction=False) as pipe:
            for lane, priority in product(LANES, PRIORITIES):
                key = self.keys.queued(lane, priority)
                # Jobs put in front have scores below zero, the later the lower: the oldest of each end may be oldest.
                pipe.zrange(key, 0, "+inf", byscore=True, offset=0, num=1)
                pipe.zrevrangebyscore(key, 0, "-inf", start=0, num=1)
            heads = [split_ticket(member.decode())[0] for found in pipe.execute() for member in found]
        queued = [job.queued_at for job in self.get_many(heads) if job.state is State.queued and job.queued_at]
        return max(0.0, self.now() - min(queued)) if queued else 0.0

    def oldest_due_erasure(self) -> float:
        """Return the seconds for which the longest-due erasure of files has been due; 0.0 when none is."""
        with self.redis.pipeline(transaction=False) as pipe:
            for key in (self.keys.unerased, self.keys.erasures):
                pipe.zrange(key, 0, 0, withscores=True)
            since = [score for found in pipe.execute() for _, score in found]
        return max(0.0, self.now() - min(since)) if since else 0.0

    def losses(self, tickets: Iterable[str]) -> tuple[int, ...]:
        """Count how often each job was requeued since it was last started."""
        with self.redis.pipeline(transaction=False) as pipe:
            for name in tickets:
                pipe.hget(self.keys.job(split_ticket(name)[0]), "losses")
            return tuple(int(found or 0) for found in pipe.execute())

    def counters(self) -> dict[str, float]:
        """Read all running totals by name."""
        return {name.decode(): float(value) for name, value in _bytes(self.redis.hgetall(self.keys.counters)).items()}

    def now(self) -> float:
        """Read Redis' clock, in epoch seconds: the one that all times of a record come from."""
        seconds, micros = self.redis.time()
        return float(seconds) + float(micros) / 1e6

    def _page(self, key: str, limit: int, cursor: str | None) -> JobPage:
        """Read a page of a set of ids that all have score 0, and so sort by id: by time of creation."""
        below = f"({cursor}" if cursor else "+"
        members: Any = self.redis.zrevrangebylex(key, below, "-", start=0, num=limit + 1)
        ids = [member.decode() for member in members]
        more = len(ids) > limit
        return JobPage(tuple(self.get_many(ids[:limit])), ids[limit - 1] if more else None)


def _bytes(fields: Any) -> dict[bytes, bytes]:
    """Narrow the fields to bytes, with which this connection answers: redis-py's types leave it open."""
    return dict(fields)
