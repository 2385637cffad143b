"""The tickets by which RQ carries jobs to workers: one names one attempt of one job.

They carry work and are no truth: where RQ fails, the record stands, and the keeper enqueues what is in no list.
"""

from __future__ import annotations

import redis
import structlog
from rq import Queue
from rq.job import Job as Carried
from rq.serializers import JSONSerializer

from service.jobs.record import LANES, PRIORITIES, Job, State, ticket
from service.settings import ServiceSettings

TASK = "worker.tasks.run"
"""What RQ runs, with (id, attempt). By name: the API never imports it."""

FAILURE_TTL = 3600
"""Seconds RQ keeps its own note of a task that raised, or of a ticket that was replaced."""

log = structlog.get_logger(__name__)


class Tickets:
    """The queues of RQ, one for each lane and priority."""

    def __init__(self, connection: redis.Redis, settings: ServiceSettings) -> None:
        self._redis = connection
        self._queues = {
            (lane, priority): Queue(name, connection=connection, serializer=JSONSerializer)
            for lane in LANES
            for priority, name in zip(PRIORITIES, settings.queues[lane], strict=True)
        }

    def queue(self, lane: str, priority: str) -> Queue:
        """Return the RQ queue that carries jobs of this lane and priority."""
        return self._queues[lane, priority]  # type: ignore[index]

    def enqueued(self, job: Job, front: bool = False) -> Job:
        """Give a queued job's ticket to RQ; any other job passes through."""
        if job.state is not State.queued:
            return job
        try:
            self.queue(job.lane, job.priority).enqueue_call(
                TASK,
                args=[job.id, job.attempt],
                job_id=job.ticket,
                timeout=-1,
                result_ttl=0,
                failure_ttl=FAILURE_TTL,
                description=job.ticket,
                at_front=front,
            )
        except redis.RedisError as error:
            # The record is safe, so the job is accepted; the keeper finds it in no list and enqueues it.
            log.warning("enqueue failed, left to the keeper", job=job.id, attempt=job.attempt, error=str(error))
        return job

    def take_back(self, job: Job) -> None:
        """Remove a ticket from RQ's list."""
        try:
            self.queue(job.lane, job.priority).remove(job.ticket)
            self._redis.delete(Carried.key_for(job.ticket))
        except redis.RedisError as error:
            # The record has moved on: whoever pops the ticket is refused at its start.
            log.warning("ticket left in its list", job=job.id, attempt=job.attempt, error=str(error))

    def forget(self, job: Job, running: bool) -> None:
        """Remove what RQ has of the job's attempts; one that is running may still need its note, for a while."""
        queue = self.queue(job.lane, job.priority)
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for attempt in range(1, job.attempt + 1):
                    name = ticket(job.id, attempt)
                    pipe.lrem(queue.key, 0, name)
                    pipe.zrem(queue.failed_job_registry.key, name)
                    if running and attempt == job.attempt:
                        pipe.expire(Carried.key_for(name), FAILURE_TTL)
                    else:
                        pipe.delete(Carried.key_for(name))
                pipe.execute()
        except redis.RedisError as error:
            # They hold its id alone, and go by themselves within an hour.
            log.warning("notes left to expire", job=job.id, error=str(error))

    def expire_note(self, name: str) -> None:
        """Let RQ's note of a replaced ticket go in a while; a live work-horse may still hold it."""
        self._redis.expire(Carried.key_for(name), FAILURE_TTL)
