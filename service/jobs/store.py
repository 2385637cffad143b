"""The store of jobs: one verb per transition, each a compare-and-set in `store.lua`.

    queued → running → succeeded | failed | canceled → expired

The record is the truth; RQ only carries work. A job is written down before RQ hears of it, and what RQ loses the
keeper puts back, so that a failure between the two delays a job and never loses it. An attempt is a fence: verbs that
a worker calls name theirs and are refused once a newer one exists. A verb repeated after a lost answer gets that
answer again, or is refused as superseded where it led to the next attempt.

Every transition appends to the job's event stream. Knows nothing of HTTP, files or how a job is run.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import redis
import structlog

from service.database.identity import Database
from service.database.outages import is_busy, is_outage
from service.jobs.reader import JobReader
from service.jobs.record import (
    Allowance,
    Job,
    JobMissing,
    Lane,
    NewJob,
    Refused,
    Renewal,
    State,
    StateConflict,
    Superseded,
    decode,
    encode,
    milliseconds,
    ticket,
)
from service.jobs.scripts import script
from service.jobs.sweeps import Sweeps
from service.jobs.tickets import Tickets
from service.observe.tracing import trace_id
from service.problems import Problem
from service.settings import ServiceSettings

EVENTS_LINGER = 300
"""Seconds that a reader of a job's stream has to see how it ended, as in `store.lua`."""

REPLICA_SECONDS = 2.0
"""Longest wait for the replicas that must have a transition."""

_HINTS = ("admit", "renew", "progress", "reserve")
"""Verbs that may be forgotten in a failover: the next one says it anew, and files of a request then stay."""

_ANY = Allowance()

log = structlog.get_logger(__name__)


class Jobs(JobReader):
    """All jobs of one namespace.

    `connection` must return bytes (`decode_responses=False`): RQ needs it so. Every method may raise redis'
    `ConnectionError` or `TimeoutError`; a verb then may or may not have happened, and can be repeated.

    database: which one it must be; a verb on any other does nothing and raises `DatabaseUnknown`, a `ConnectionError`.
    """

    def __init__(self, connection: redis.Redis, settings: ServiceSettings, database: Database | None = None) -> None:
        super().__init__(connection, settings)
        self.database = database
        self.sweeps = Sweeps(connection, self.keys.counters)
        self.tickets = Tickets(connection, settings)
        self._script = connection.register_script(
            script("database/identity.lua", "jobs/allowance.lua", "jobs/store.lua")
        )

    # What a caller may do

    def admit(self, owner: str, lane: Lane, gpu_seconds: float | None, allowance: Allowance) -> None:
        """Raise `Refused` when a job would not be taken now, as `submit` does. Promises nothing.

        Figures of the refusal: `active` jobs; `used` and `promised` milliseconds of GPU, and seconds until the next day
        as `resets_in`; `queued` jobs.
        """
        fields = ["owner", owner, "lane", lane, "gpu_estimate", milliseconds(gpu_seconds or 0)]
        self._call("admit", "", "", *_limits(allowance), *fields)

    def submit(self, new: NewJob, allowance: Allowance = _ANY, claim: str | None = None) -> Job:
        """Write the job down, then let RQ carry it. Raises `StateConflict` for an id that exists, and `Refused`.

        claim: key in Redis of an `Idempotency` claim, which must still be this job's; else `Refused` as `taken-over`.

        Counting and writing are one step: of several submissions at once only as many pass as are allowed. Jobs that
        come back to the queue, from a worker or by `redrive`, are never refused.
        """
        fields = [part for pair in encode(new).items() for part in pair]
        arguments = secrets.token_hex(8), *_limits(allowance), *fields
        job = decode(self._call("submit", new.id, *arguments, claim=claim)[1])
        _tell("submit", None, job)
        return self.tickets.enqueued(job)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: queued → canceled; a running job is asked to stop; an ended one is returned as it is.

        A request to stop is no promise: a result committed before the worker hears of it wins.
        """
        before, job = self._change("cancel", job_id)
        if before is State.queued:
            self.tickets.take_back(job)
        return job

    def delete(self, job_id: str) -> Job:
        """Forget the job in any state and return what it was. No attempt of it can commit or renew afterwards.

        Nothing of it is left in Redis but its id, until no worker can be at it any more: among the files to erase, and
        in the name of a stream of events that says it is over. Its files may be erased at once; the keeper erases them
        again when the last attempt cannot write any more.
        """
        before, job = self._change("delete", job_id, str(2 * self.settings.lease_ttl))
        self.tickets.forget(job, running=before is State.running)
        return job

    def abandon_files(self, job_id: str, after: float = 0.0) -> None:
        """Have the keeper erase the files of an id that has no record, `after` seconds from now.

        They stay if it is submitted before that.
        """
        self.redis.zadd(self.keys.erasures, {job_id: self.now() + after})

    def stopped_for_good(self, job_id: str) -> None:
        """Let the mark of a deleted job go in a few minutes: the worker that was at it has ended."""
        self.redis.expire(self.keys.events(job_id), EVENTS_LINGER)

    def reserve_files(self, job_id: str, seconds: float) -> None:
        """Have the keeper erase the files of an id whose job is about to be submitted, should that never come.

        Otherwise as `abandon_files`. Raises `DatabaseUnknown` before anything is stored that no other database would
        have erased.
        """
        self._call("reserve", job_id, str(seconds))

    def keep_reserved(self) -> tuple[str, ...]:
        """Have the files stay that were reserved, and give their ids: a job may have come of them that is not known."""
        ids: Any = self.redis.zrange(self.keys.reserved, 0, -1)
        if ids:
            with self.redis.pipeline(transaction=False) as pipe:
                pipe.zrem(self.keys.erasures, *ids)
                pipe.zrem(self.keys.reserved, *ids)
                pipe.execute()
        return tuple(name.decode() for name in ids)

    def redrive(self, job_id: str) -> Job:
        """Set a failed job going again: failed → queued with fresh budgets and the next attempt."""
        return self.tickets.enqueued(self._do("redrive", job_id))

    # What a worker does; all raise Superseded for an attempt that is over

    def start(self, job_id: str, attempt: int, worker: str) -> Job:
        """Start an attempt: queued → running. `worker` names the work-horse; only the same one may repeat the call."""
        return self._do("start", job_id, str(attempt), worker)

    def renew(self, job_id: str, attempt: int) -> Renewal:
        """Keep the lease, and hear whether to go on."""
        return Renewal(self._call("renew", job_id, str(attempt))[0])

    def progress(
        self,
        job_id: str,
        attempt: int,
        progress: dict[str, Any],
        preview: str | None = None,
        gpu_seconds: float | None = None,
    ) -> Renewal:
        """Report progress (and renew). `preview` is a data URI of a small picture; only the newest is kept.

        gpu_seconds: what this attempt has taken so far. The owner's day is charged with it when the attempt ends the
        job, and not when the job goes back to the queue.
        """
        picture = json.dumps({"image": preview}) if preview else ""
        taken = "" if gpu_seconds is None else milliseconds(gpu_seconds)
        return Renewal(self._call("progress", job_id, str(attempt), json.dumps(progress), picture, taken)[0])

    def succeed(self, job_id: str, attempt: int, result: dict[str, Any]) -> Job:
        """Commit a result: running → succeeded. Only a newer attempt, or the job's deletion, refuses it.

        A result that knows its `gpu_seconds` has the last word on what the job took.
        """
        taken = milliseconds(result["gpu_seconds"]) if "gpu_seconds" in result else ""
        return self._do("succeed", job_id, str(attempt), json.dumps(result), taken)

    def fail(self, job_id: str, attempt: int, problem: dict[str, Any], retry: bool) -> Job:
        """End an attempt by an application error.

        With `retry` and budget left: queued again with the next attempt; else failed.
        """
        most = self.settings.max_errors if retry else 0
        return self.tickets.enqueued(self._do("fail", job_id, str(attempt), json.dumps(problem), str(most)), front=True)

    def release(self, job_id: str, attempt: int, refused_by: str = "") -> Job:
        """Give the job back: queued again with the next attempt, in front, at no cost to its budgets.

        refused_by: the worker whose engine cannot run it. Then it goes behind those that wait, for another to take it.
        """
        return self.tickets.enqueued(self._do("release", job_id, str(attempt), refused_by), front=not refused_by)

    def ran_out(self, job_id: str, attempt: int, worker: str, why: str, counts: bool, left: bool) -> Job:
        """Give back a job whose worker's machine failed while it ran it: queued again with the next attempt, in front.

        That costs nothing of its other budgets.

        counts: the machine was well afterwards, so the job may need more than it has. Then `max_deaths` workers end the
        job as failed, or as many times once no other worker is `left` to try it; a machine that is not well ends none.
        worker: its launcher. why: in words without a path; the caller may read them.
        """
        most = self.settings.max_deaths
        detail = f"Machines ran out of what this job needs as often as it may happen. The last one's fault was: {why}."
        problem = json.dumps(Problem(500, "machines-exhausted", detail).to_dict())
        arguments = worker, str(most), "1" if counts else "", "1" if left else "", problem
        return self.tickets.enqueued(self._do("ran_out", job_id, str(attempt), *arguments), front=True)

    def stopped(self, job_id: str, attempt: int) -> Job:
        """End a running job as canceled, once a cancel was requested: running → canceled."""
        return self._do("stopped", job_id, str(attempt))

    # What the keeper and the launcher do

    def died(self, job_id: str, attempt: int, cause: str, lease: float | None = None) -> Job:
        """Take a job back whose attempt's process died: queued again with the next attempt, in front.

        At `max_deaths` it is failed and quarantined; canceled when that was requested.

        lease: refuse with `StateConflict` when the lease is no longer this one, so that a late sign of life counts.
        """
        most = self.settings.max_deaths
        detail = f"{most} workers died while they ran this job; the last cause was: {cause}."
        problem = json.dumps(Problem(500, "quarantined", detail).to_dict())
        seen = "" if lease is None else f"{lease:.0f}"
        job = self._do("died", job_id, str(attempt), cause, str(most), problem, seen)
        self.tickets.expire_note(ticket(job_id, attempt))
        return self.tickets.enqueued(job, front=True)

    def requeue(self, job_id: str, attempt: int) -> Job:
        """Queue a job again that RQ has lost: with the next attempt, in front, where it most likely was."""
        job = self._do("requeue", job_id, str(attempt))
        self.tickets.expire_note(ticket(job_id, attempt))
        return self.tickets.enqueued(job, front=True)

    def expire(self, job_id: str) -> Job:
        """Expire an ended job past its `expires_at`: its files are due for erasure."""
        return self._do("expire", job_id)

    def lose(self, job_id: str) -> Job:
        """Expire a succeeded job whose files are not there any more."""
        return self._do("lose", job_id)

    def delivered(self, job_id: str, attempt: int) -> None:
        """Note that the final event of this attempt has been handed to webhook delivery, or is not wanted."""
        name = ticket(job_id, attempt)
        # In no transaction, which a full Redis takes for something that needs room.
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self.keys.undelivered, name)
            pipe.delete(self.keys.ended(name))
            pipe.execute()

    # Counting

    def count(self, amounts: Mapping[str, float]) -> None:
        """Add to running totals in one step: what `metrics.counted` and `metrics.observed` give."""
        with self.redis.pipeline() as pipe:
            for name, amount in amounts.items():
                pipe.hincrbyfloat(self.keys.counters, name, amount)
            pipe.execute()

    # The script

    def _call(
        self, verb: str, job_id: str, *arguments: str, claim: str | None = None
    ) -> tuple[str, dict[bytes, bytes]]:
        """Run a verb of `store.lua`, and give the state before (of a renewal, the verdict) and the record."""
        keys = [self.keys.job(job_id), *([claim] if claim else [])]
        expected = self.database.expected() if self.database else ""
        try:
            reply = self._run(verb, keys, [expected, verb, self.settings.namespace, job_id, *arguments])
        except redis.ResponseError as error:
            # From inside a script Redis 6 tells it in words alone. Whoever sits out an outage sits this out too.
            if is_outage(error):
                reason = "is busy" if is_busy(error) else "takes no writes"
                raise redis.ConnectionError(f"Redis {reason}: {error}") from error
            raise
        match reply:
            case [b"ok", before, *fields]:
                return before.decode(), dict(zip(fields[::2], fields[1::2], strict=True))
            case [b"elsewhere"]:
                assert self.database is not None
                raise self.database.refused()
            case [b"conflict", state]:
                raise StateConflict(job_id, State(state.decode()))
            case [b"refused", reason, *figures]:
                names = [name.decode() for name in figures[::2]]
                raise Refused(reason.decode(), dict(zip(names, figures[1::2], strict=True)))
            case [b"superseded"]:
                raise Superseded(f"{ticket(job_id, int(arguments[0]))} is over")
        raise JobMissing(f"there is no job {job_id}")

    def _run(self, verb: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        """Run a script, and give its answer; of a transition, once REDIS_REPLICAS have it.

        Raises `ConnectionError` with fewer.
        """
        wanted = self.settings.redis_replicas
        if not wanted or verb in _HINTS:
            return self._script(keys=keys, args=arguments)
        with self.redis.pipeline(transaction=False) as pipe:
            self._script(keys=keys, args=arguments, client=pipe)
            # WAIT looks at what its own connection has written, and a verb that is repeated writes nothing.
            pipe.set(self.keys.replicated, "")
            pipe.wait(wanted, round(1000 * REPLICA_SECONDS))
            reply, *others = pipe.execute(raise_on_error=False)
        for failed in (reply, *others):
            if isinstance(failed, Exception):
                raise failed
        if (held := others[-1]) < wanted:
            raise redis.ConnectionError(f"{held} of {wanted} replicas have it")
        return reply

    def _change(self, verb: str, job_id: str, *arguments: str) -> tuple[State, Job]:
        """Make a transition, and give the state before it and the job after it (for `delete`, as it was)."""
        before, fields = self._call(verb, job_id, *arguments)
        job = decode(fields)
        if verb in ("delete", "requeue") or before != job.state:
            _tell(verb, before, job)
        return State(before), job

    def _do(self, verb: str, job_id: str, *arguments: str) -> Job:
        return self._change(verb, job_id, *arguments)[1]


def _tell(verb: str, before: str | None, job: Job) -> None:
    """Write the one log line of a transition. Its trace is the job's, whoever's request or sweep it happens in."""
    about = {"method": job.options.get("method"), "lane": job.lane, "priority": job.priority, "owner": job.owner}
    if job.finished_at is not None and job.started_at is not None:
        about["seconds"] = round(job.finished_at - job.started_at, 3)
    if job.error is not None:
        about["problem"] = job.error.get("type")
    where = {"job": job.id, "attempt": job.attempt, "trace": trace_id(job.traceparent)}
    log.info(f"job {'deleted' if verb == 'delete' else job.state}", **where, verb=verb, before=before, **about)


def _limits(allowance: Allowance) -> tuple[str, str, str]:
    """Write an allowance as the script takes it."""
    return str(allowance.active_jobs), milliseconds(allowance.gpu_seconds), str(allowance.queue)
