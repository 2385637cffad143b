"""Webhooks: telling a caller's server that a job has ended, as Standard Webhooks describes.

A delivery is written down before RQ hears of it, with the body it will always have; its id comes from the job, the
event and the attempt, so announcing the same event twice is announcing it once. RQ carries the tries on a queue of
their own; a `run` is the fence: whatever RQ still holds of an older run does nothing. What RQ loses, `sweep` puts
back. A receiver may see an event more than once, always with the same `webhook-id`.

Knows nothing of HTTP beyond `Outbound`, and does not decide when a job has ended.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import redis
import structlog
from rq import Queue
from rq.job import Job as Carried
from rq.registry import ScheduledJobRegistry
from rq.serializers import JSONSerializer

from service.auth import ApiKeys
from service.database.identity import Database
from service.jobs.record import Job, State
from service.jobs.scripts import script
from service.jobs.store import Jobs
from service.jobs.sweeps import Sweeps
from service.jobs.tickets import FAILURE_TTL
from service.observe import tracing
from service.outbound.client import Outbound, OutboundError, UrlRefused
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings
from service.webhooks.message import message_id, payload, signed_headers
from service.webhooks.record import Delivery, DeliveryMissing, DeliveryPage, decode, target_of
from service.webhooks.schedule import SCHEDULE, judge, retry_after

TASK = "worker.deliveries.deliver"
"""What RQ runs, with (delivery id, run). By name: the API never imports it."""

TIMEOUT = 20.0
"""Seconds a receiver has for its whole answer, once it has answered before."""
FIRST_TIMEOUT = 5.0
"""Seconds for one that was never heard: most that are silent have always been."""
TASK_TIMEOUT = 50
"""Seconds RQ lets the task live: less than the lease of a try in `deliveries.lua`."""
FORGOTTEN_AFTER = 60
"""Seconds after which what RQ's scheduler should have enqueued counts as forgotten."""
LISTED = timedelta(days=30)
"""How long a delivery is listed. Its record lives longer (`deliveries.lua`), so whatever is listed exists."""
SWEPT_AT_ONCE = 1000

log = structlog.get_logger(__name__)


class _Rests(Exception):
    """The address that a host's name leads to did not answer lately, and is left alone for so many seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"for {seconds} seconds")
        self.seconds = seconds


class _Way:
    """Where a try went. host: the digest of the last address connected to, empty before the first."""

    def __init__(self, connecting: Callable[[str], str]) -> None:
        self._connecting = connecting
        self.host = ""

    def take(self, address: str) -> None:
        self.host = self._connecting(address)


def announce(jobs: Jobs, settings: ServiceSettings, job: Job) -> str | None:
    """Hand the final event of an ended job to delivery, and give its id, or None when nobody wants it.

    May be repeated.
    """
    delivery_id = Webhooks(jobs.redis, settings, jobs.database).announce(job)
    jobs.delivered(job.id, job.attempt)
    return delivery_id


class Webhooks:
    """All deliveries of one namespace. `connection` must return bytes, as RQ needs. database: as of `Jobs`."""

    def __init__(self, connection: redis.Redis, settings: ServiceSettings, database: Database | None = None) -> None:
        self._database = database
        self.redis = connection
        self.settings = settings
        self.queue = Queue(queue_name(settings), connection=connection, serializer=JSONSerializer)
        self._script = connection.register_script(script("database/identity.lua", "webhooks/deliveries.lua"))
        self._keys = RedisKeys(settings.namespace)
        self._sweeps = Sweeps(connection, self._keys.counters)

    def announce(self, job: Job) -> str | None:
        """Record the job's final event and enqueue its first try. None: no webhook, or not this event."""
        event = f"inbetween.{job.state}"
        if job.webhook is None or not job.state.is_terminal or job.state is State.expired:
            return None
        if event not in job.webhook["events"]:
            return None
        delivery_id = message_id(job.id, event, job.attempt)
        url = str(job.webhook["url"])
        target = target_of(job.webhook)
        fields = {
            "job": job.id,
            "attempt": str(job.attempt),
            "event": event,
            "url": url,
            "endpoint": _digest(job.owner, url),
            "host": _digest(job.owner, f"{target.host}:{target.port}" if target else url),
            "payload": json.dumps(payload(job, self.settings), separators=(",", ":")),
        }
        if target is not None:
            fields["target"] = json.dumps(target.to_json())
        if job.traceparent is not None:
            fields["traceparent"] = job.traceparent
        word, found = self._call("record", delivery_id, job.owner, *(part for pair in fields.items() for part in pair))
        if word == "missing":
            return None
        if word == "ok" and found[b"state"] == b"pending":
            # What this event must wait for is tried now, and not at the end of a pause that may be hours long.
            self._hasten(delivery_id, "earlier")
            self._enqueue(delivery_id, int(found[b"run"]))
        return delivery_id

    def get(self, delivery_id: str) -> Delivery | None:
        found = self._get_many([delivery_id])
        return found[0] if found else None

    def deliveries(self, owner: str | None, limit: int, cursor: str | None = None) -> DeliveryPage:
        """List the owner's deliveries of the last 30 days, newest first; None stands for all owners."""
        key = self._keys.deliveries(owner)
        oldest = f"({int((time.time() - LISTED.total_seconds()) * 1000):013d}"
        self.redis.zremrangebylex(key, "-", oldest)
        members: Any = self.redis.zrevrangebylex(key, f"({cursor}" if cursor else "+", "-", start=0, num=limit + 1)
        names = [member.decode() for member in members]
        page = self._get_many(name.partition(".")[2] for name in names[:limit])
        return DeliveryPage(tuple(page), names[limit - 1] if len(names) > limit else None)

    def redrive(self, delivery_id: str, owner: str | None = None) -> Delivery:
        """Try a delivery again now, with the whole schedule before it; a URL that was disabled is tried again.

        owner: whose delivery it must be, None for anybody's. Raises `DeliveryMissing`.
        """
        delivery = self.get(delivery_id)
        if delivery is None or owner not in (None, delivery.owner):
            raise DeliveryMissing(f"there is no delivery {delivery_id}")
        word, found = self._call("redrive", delivery_id)
        if word == "missing":
            raise DeliveryMissing(f"there is no delivery {delivery_id}")
        self._enqueue(delivery_id, int(found[b"run"]))
        return self.get(delivery_id) or delivery

    def forget(self, job_id: str) -> None:
        """Remove the deliveries of a job that was deleted, told or not, with their logs and with what RQ has of them.

        A try that is being made goes on, and leaves nothing behind.
        """
        _, found = self._call("forget", job_id, key=self._keys.job_deliveries(job_id))
        scheduled = ScheduledJobRegistry(queue=self.queue)
        for name in json.loads(found.get(b"tickets", b"[]")):
            self.queue.remove(name)
            with self.redis.pipeline(transaction=False) as pipe:
                pipe.zrem(scheduled.key, name)
                pipe.zrem(self.queue.failed_job_registry.key, name)
                pipe.delete(Carried.key_for(name))
                pipe.execute()
        if owner := found.get(b"owner", b"").decode():
            self._leave("", owner)

    def attempt(self, delivery_id: str, run: int, outbound: Outbound) -> int | None:
        """Try once: post the event and write down what came of it.

        Returns the seconds to wait before the next try; None when the delivery is over or another run has taken over. A
        host that did not answer lately is left alone for a while, and an event of an earlier attempt of the job goes
        first: then nothing is posted and no try is spent.
        """
        word, found = self._call("begin", delivery_id, str(run), str(len(SCHEDULE)))
        if word == "line":
            # Whoever leaves the place hands it on.
            return None
        owner = found.get(b"owner")
        wait = self._tried(delivery_id, run, outbound, word, found)
        if owner is not None:
            self._leave(delivery_id, owner.decode())
        return wait

    def _tried(
        self, delivery_id: str, run: int, outbound: Outbound, word: str, found: dict[bytes, bytes]
    ) -> int | None:
        """Make the try that `begin` has answered for, and give what `attempt` gives."""
        if word == "later":
            return int(found[b"wait"])
        if word != "ok":
            self._hasten(delivery_id, "later")
            return None
        delivery = decode(found, [])
        timeout = TIMEOUT if found[b"heard"] == b"1" else FIRST_TIMEOUT
        way = _Way(partial(self._connecting, delivery))
        at, started = time.time(), time.monotonic()
        about: dict[str, str | int] = {"delivery": delivery_id, "job": delivery.job, "attempt": delivery.attempt}
        with tracing.span("webhook.deliver", about | {"event": delivery.event}, delivery.traceparent, kind="client"):
            # A receiver that traces goes on from this try.
            sent = replace(delivery, traceparent=tracing.current() or delivery.traceparent)
            try:
                status, error, asked = self._post(sent, outbound, timeout, way)
            except _Rests as rests:
                log.info("webhook", **about, result="later", wait=rests.seconds)
                return rests.seconds
            tracing.note(status=status or 0, error=error or "")
        result, wait = judge(status, delivery.spent, asked)
        entry = {"at": at, "status": status, "ms": round(1000 * (time.monotonic() - started)), "error": error}
        trace = tracing.trace_id(delivery.traceparent)
        log.info("webhook", **about, trace=trace, result=result, wait=wait, **entry)
        answered = "no" if status is None else "yes"
        word, _ = self._call("settle", delivery_id, str(run), result, str(wait), json.dumps(entry), answered, way.host)
        if word == "ok" and result == "retried":
            return wait
        self._hasten(delivery_id, "later")
        return None

    def _connecting(self, delivery: Delivery, address: str) -> str:
        """Give the digest of the address to be connected to. Raises `_Rests` where it was silent lately."""
        assert delivery.target is not None
        host = _digest(delivery.owner, f"{address}:{delivery.target.port}")
        word, found = self._call("connect", delivery.id, str(delivery.run), host)
        if word == "later":
            raise _Rests(int(found[b"wait"]))
        return host

    def _leave(self, delivery_id: str, owner: str) -> None:
        """Give the place of a try back, and give RQ the owner's next ones."""
        _, found = self._call("leave", delivery_id, owner)
        for name, run in json.loads(found.get(b"next", b"[]")):
            self._carry(name, int(run))

    def _hasten(self, delivery_id: str, which: str) -> None:
        """Have the job's `earlier` or `later` events tried now, those that wait for a time to come."""
        _, found = self._call("others", delivery_id, which)
        for other in json.loads(found.get(b"ids", b"[]")):
            word, record = self._call("hasten", other)
            if word == "ok":
                self._enqueue(other, int(record[b"run"]))

    def _post(
        self, delivery: Delivery, outbound: Outbound, timeout: float, way: _Way
    ) -> tuple[int | None, str | None, float]:
        """Post the event, and give the answer's status, or what kept it from coming, and the seconds to wait.

        Those are what the receiver asks for.
        """
        secrets = ApiKeys(self.redis, self.settings).webhook_secrets(delivery.owner)
        headers = signed_headers(delivery, secrets, datetime.now(UTC))
        try:
            if delivery.target is None:
                raise UrlRefused("the URL cannot be read")
            body = delivery.payload.encode()
            answer = outbound.post(delivery.target, body, headers, timeout=timeout, connecting=way.take)
        except OutboundError as problem:
            return None, problem.kind, 0
        return answer.status, None, retry_after(answer.headers.get("retry-after", ""))

    def sweep(self) -> int:
        """Enqueue the deliveries whose time has passed and of which RQ has nothing, and give how many they were."""
        seconds, _ = self.redis.time()
        now = float(seconds)
        overdue: Any = self.redis.zrangebyscore(self._keys.deliveries_due, "-inf", now, start=0, num=SWEPT_AT_ONCE)
        if not overdue:
            return 0
        waiting = set(self.queue.get_job_ids()) | self._scheduled(now)
        swept = 0

        def put_back(member: bytes) -> None:
            nonlocal swept
            delivery_id = member.decode()
            run = self.redis.hget(self._keys.delivery(delivery_id), "run")
            current = run.decode() if isinstance(run, bytes) else ""
            verb = "wait" if f"{delivery_id}-{current}" in waiting else "replace"
            word, found = self._call(verb, delivery_id, current)
            if verb == "replace" and word == "ok":
                self._enqueue(delivery_id, int(found[b"run"]), front=True)
                swept += 1

        self._sweeps.each("deliveries", overdue, put_back, self._sweeps.postpone_in(self._keys.deliveries_due))
        return swept

    def backlog(self) -> tuple[int, float]:
        """Tell how many deliveries are pending, and for how many seconds a try that is due has waited in RQ's queue."""
        pending = int(self.redis.zcard(self._keys.deliveries_due))
        ends = {*self.queue.get_job_ids(0, 1), *self.queue.get_job_ids(-1, 1)}
        found = Carried.fetch_many(ends, self.redis, self.queue.serializer)
        ages = [datetime.now(UTC) - one.enqueued_at for one in found if one is not None and one.enqueued_at is not None]
        return pending, max([0.0, *(age.total_seconds() for age in ages)])

    def _scheduled(self, now: float) -> set[str]:
        """List what RQ's scheduler is yet to enqueue, without what it has let pass and so has forgotten."""
        registry = ScheduledJobRegistry(queue=self.queue)
        members: Any = self.redis.zrangebyscore(registry.key, now - FORGOTTEN_AFTER, "+inf")
        return {member.decode() for member in members}

    def _enqueue(self, delivery_id: str, run: int, front: bool = False) -> None:
        """Have RQ carry the run, as soon as its owner has a place for it."""
        try:
            word, _ = self._call("offer", delivery_id)
        except redis.RedisError as error:
            log.warning("enqueue failed, left to the keeper", delivery=delivery_id, error=str(error))
            return
        if word == "ok":
            self._carry(delivery_id, run, front)

    def _carry(self, delivery_id: str, run: int, front: bool = False) -> None:
        try:
            self.queue.enqueue_call(
                TASK,
                args=[delivery_id, run],
                job_id=f"{delivery_id}-{run}",
                timeout=TASK_TIMEOUT,
                result_ttl=0,
                failure_ttl=FAILURE_TTL,
                description=delivery_id,
                at_front=front,
            )
        except redis.RedisError as error:
            # The record is safe; the sweep finds it in no list and enqueues it.
            log.warning("enqueue failed, left to the keeper", delivery=delivery_id, error=str(error))

    def _get_many(self, ids: Iterable[str]) -> list[Delivery]:
        with self.redis.pipeline(transaction=False) as pipe:
            for delivery_id in ids:
                pipe.hgetall(self._keys.delivery(delivery_id))
                pipe.lrange(self._keys.delivery_log(delivery_id), 0, -1)
            replies = iter(pipe.execute())
        return [decode(fields, entries) for fields, entries in zip(replies, replies, strict=True) if fields]

    def _call(
        self, verb: str, delivery_id: str, *arguments: str, key: str | None = None
    ) -> tuple[str, dict[bytes, bytes]]:
        """Run a verb of `deliveries.lua`, and give its word and the record.

        key: of the record, where it is no delivery's.
        """
        expected = self._database.expected() if self._database else ""
        reply: Any = self._script(
            keys=[key or self._keys.delivery(delivery_id)],
            args=[expected, verb, self.settings.namespace, delivery_id, *arguments],
        )
        word, *fields = reply
        if word == b"elsewhere":
            assert self._database is not None
            raise self._database.refused()
        return word.decode(), dict(zip(fields[::2], fields[1::2], strict=True))


def queue_name(settings: ServiceSettings) -> str:
    """Name the RQ queue of webhook tries. Its worker must run RQ's scheduler and use the JSON serializer."""
    return RedisKeys(settings.namespace).webhook_queue


def _digest(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
