"""The sweeps: what counts as unchanged, what counts as lost, and that nothing else is touched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import pytest
import redis
from structlog.testing import capture_logs

from service.jobs.reconcile import Watch, announce_due, erase_due, expire_due, reclaim_dead, requeue_lost, unlisted
from service.jobs.record import Job, NewJob, State, files_prefix
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import Storage, StorageUnavailable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, redis_url=redis_url))


def submit(jobs: Jobs, **changes: Any) -> Job:
    fields: dict[str, Any] = {"owner": "ann", "options": {}, "keyframes": [], "lane": "gpu", "result_ttl": 600}
    return jobs.submit(NewJob(**fields | changes))


def impatient() -> Watch:
    """A watch whose second look is enough."""
    clock = Clock()

    def tick() -> float:
        clock.now += 1
        return clock.now

    return Watch(patience=1, stride=10, clock=tick)


def test_watch_waits_for_its_patience_and_starts_again_at_a_change() -> None:
    clock = Clock()
    watch = Watch(patience=4, stride=2, clock=clock)
    seen: list[list[str]] = []
    for value in (1, 1, 2, 2, 2, 2):
        seen.append(watch.unchanged({"a": value, "b": 0}))
        clock.now += 2
    assert seen == [[], [], ["b"], ["b"], ["a", "b"], ["a", "b"]]


def test_watch_forgets_what_was_away_between_two_looks() -> None:
    clock = Clock()
    watch = Watch(patience=2, stride=2, clock=clock)
    for things in ({"a": None}, {}, {"a": None}):
        assert watch.unchanged(things) == []
        clock.now += 2
    assert watch.unchanged({"a": None}) == ["a"]


def test_a_watch_that_slept_does_not_count_its_sleep() -> None:
    clock = Clock()
    watch = Watch(patience=4, stride=2, clock=clock)
    watch.unchanged({"a": 1})
    clock.now += 3600
    assert watch.unchanged({"a": 1}) == []
    clock.now += 2
    assert watch.unchanged({"a": 1}) == ["a"]


def test_a_watch_starts_anew_after_an_outage() -> None:
    clock = Clock()
    watch = Watch(patience=4, stride=2, clock=clock)
    watch.unchanged({"a": 1})
    clock.now += 2
    watch.unchanged({"a": 1})
    watch.reset()
    seen = []
    for _ in range(3):
        clock.now += 2
        seen.append(watch.unchanged({"a": 1}))
    assert seen == [[], [], ["a"]]


def test_a_lease_renewed_while_it_is_judged_lives(jobs: Jobs) -> None:
    job = submit(jobs)
    jobs.start(job.id, 1, "horse")
    clock = Clock()

    def renewing() -> float:
        """Called between reading the leases and taking the job away."""
        clock.now += 1
        if clock.now > 1001:
            jobs.renew(job.id, 1)
        return clock.now

    watch = Watch(patience=1, stride=10, clock=renewing)
    assert [reclaim_dead(jobs, watch) for _ in range(2)] == [0, 0]
    assert jobs.get_many([job.id])[0].deaths == 0


def test_a_lease_that_does_not_change_is_dead(jobs: Jobs) -> None:
    silent, alive = submit(jobs), submit(jobs)
    for job in (silent, alive):
        jobs.start(job.id, 1, "horse")
    watch = impatient()
    assert reclaim_dead(jobs, watch) == 0
    jobs.renew(alive.id, 1)
    assert reclaim_dead(jobs, watch) == 1
    after = jobs.get_many([silent.id, alive.id])
    assert [(job.state, job.attempt, job.deaths) for job in after] == [(State.queued, 2, 1), (State.running, 1, 0)]
    assert jobs.tickets.queue("gpu", "default").job_ids[0] == after[0].ticket


def test_lost_jobs_come_back_in_their_order(jobs: Jobs) -> None:
    first, second, third = (submit(jobs) for _ in range(3))
    other = submit(jobs, lane="cpu", priority="high")
    queue = jobs.tickets.queue("gpu", "default")
    for job in (first, second):
        queue.remove(job.ticket)
    assert unlisted(jobs) == [first.ticket, second.ticket]
    watch = impatient()
    assert requeue_lost(jobs, watch) == 0, "it may just be on its way"
    assert requeue_lost(jobs, watch) == 2
    assert queue.job_ids == [f"{first.id}-2", f"{second.id}-2", third.ticket]
    assert unlisted(jobs) == []
    positions = [jobs.position(job) for job in jobs.get_many([first.id, second.id, third.id, other.id])]
    assert positions == [0, 1, 2, 0]
    assert [job.deaths for job in jobs.get_many([first.id, second.id])] == [0, 0]


def test_a_sweep_over_a_hundred_thousand_queued_jobs_is_a_handful_of_commands(jobs: Jobs) -> None:
    tickets = [f"job_{number:026d}-1" for number in range(100_000)]
    key, queue = jobs.keys.queued("gpu", "default"), jobs.tickets.queue("gpu", "default").key
    for start in range(0, len(tickets), 10_000):
        some = tickets[start : start + 10_000]
        jobs.redis.zadd(key, {name: start + place for place, name in enumerate(some)})
        jobs.redis.rpush(queue, *some)
    jobs.redis.lrem(queue, 1, tickets[70_000])
    watch = impatient()
    jobs.redis.config_resetstat()
    began = time.process_time()
    assert unlisted(jobs) == [tickets[70_000]]
    requeue_lost(jobs, watch)
    requeue_lost(jobs, watch)
    reclaim_dead(jobs, watch)
    expire_due(jobs)
    assert time.process_time() - began < 2 * 3, "three looks at the queue, two seconds of work each at the most"
    asked = sum(entry["calls"] for entry in jobs.redis.info("commandstats").values())
    assert asked < 60


def test_a_job_that_started_meanwhile_is_not_lost(jobs: Jobs) -> None:
    job = submit(jobs)
    jobs.tickets.queue("gpu", "default").remove(job.ticket)
    watch = impatient()
    requeue_lost(jobs, watch)
    jobs.start(job.id, 1, "horse")
    assert requeue_lost(jobs, watch) == 0


def test_all_of_rq_forgotten_is_put_back(jobs: Jobs) -> None:
    submitted = [submit(jobs, priority=priority) for priority in ("high", "default", "low") for _ in range(3)]
    jobs.redis.delete(*jobs.redis.keys("rq:*"))
    watch = impatient()
    requeue_lost(jobs, watch)
    assert requeue_lost(jobs, watch) == 9
    now = jobs.get_many(job.id for job in submitted)
    assert [jobs.position(job) for job in now] == list(range(9))
    assert all(job.ticket in jobs.tickets.queue(job.lane, job.priority).job_ids for job in now)


def test_whole_lists_lost_come_back_in_parts_and_in_order(jobs: Jobs) -> None:
    submitted = [submit(jobs) for _ in range(5)]
    jobs.redis.delete(jobs.tickets.queue("gpu", "default").key)
    watch = impatient()
    assert [requeue_lost(jobs, watch, limit=2) for _ in range(4)] == [0, 2, 2, 1]
    now = jobs.get_many(job.id for job in submitted)
    assert jobs.tickets.queue("gpu", "default").job_ids == [job.ticket for job in now]
    assert [jobs.position(job) for job in now] == [0, 1, 2, 3, 4]


def test_results_expire_and_tombstones_are_forgotten(jobs: Jobs) -> None:
    due, kept = submit(jobs, result_ttl=0), submit(jobs, result_ttl=600)
    for job in (due, kept):
        jobs.cancel(job.id)
    assert expire_due(jobs) == 1
    assert [job.state for job in jobs.get_many([due.id, kept.id])] == [State.expired, State.canceled]
    assert expire_due(jobs) == 0
    jobs.redis.zadd(jobs.keys.tombstones, {due.id: 1})  # as after three months
    assert expire_due(jobs) == 1
    assert jobs.get(due.id) is None


def test_a_job_whose_end_has_not_been_announced_does_not_expire(jobs: Jobs) -> None:
    """As after a time without a keeper that was longer than the result is kept."""
    hook = {"url": "https://a.example", "events": ["inbetween.canceled"]}
    job = submit(jobs, result_ttl=0, webhook=hook)
    jobs.cancel(job.id)
    assert expire_due(jobs) == 0
    announced: list[Job] = []
    announce_due(jobs, announced.append)
    assert [(one.id, one.webhook) for one in announced] == [(job.id, hook)]
    jobs.delivered(job.id, 1)
    assert expire_due(jobs) == 1


def test_what_is_due_again_while_it_is_erased_is_erased_again(jobs: Jobs) -> None:
    jobs.abandon_files("job_a")
    due_later = jobs.now() + 50

    class Slow:
        def delete_prefix(self, prefix: str) -> None:
            jobs.redis.zadd(jobs.keys.erasures, {"job_a": due_later})

    assert erase_due(jobs, cast(Storage, Slow())) == 1
    assert jobs.redis.zscore(jobs.keys.erasures, "job_a") == pytest.approx(due_later)


def test_what_will_not_go_keeps_nothing_else_and_is_seen_to_be_overdue(jobs: Jobs) -> None:
    jobs.redis.zadd(jobs.keys.erasures, {"stuck": jobs.now() - 100, "other": jobs.now() - 50})

    class Held:
        erased: ClassVar[list[str]] = []
        stuck = True

        def delete_prefix(self, prefix: str) -> None:
            if self.stuck and prefix == files_prefix("stuck"):
                raise StorageUnavailable("held", "ObjectLocked")
            self.erased.append(prefix)

    held = Held()
    for said in ([("stuck", "held")], []):
        with capture_logs() as logged, contextlib.suppress(StorageUnavailable):
            erase_due(jobs, cast(Storage, held))
        jobs.redis.zadd(jobs.keys.erasures, {"stuck": jobs.now()}, xx=True)  # as a minute later
        assert [(entry["job"], entry["error"]) for entry in logged if entry["event"] == "files not erased"] == said
    assert held.erased == [files_prefix("other")]
    assert 100 <= jobs.oldest_due_erasure() < 130
    held.stuck = False
    assert erase_due(jobs, cast(Storage, held)) == 1
    assert jobs.oldest_due_erasure() == 0


def test_what_another_keeper_has_erased_is_not_overdue(jobs: Jobs) -> None:
    jobs.redis.zadd(jobs.keys.unerased, {"gone": jobs.now() - 100})
    assert jobs.oldest_due_erasure() >= 100
    assert erase_due(jobs, cast(Storage, None)) == 0
    assert jobs.oldest_due_erasure() == 0


def test_final_events_are_announced_until_delivered(jobs: Jobs) -> None:
    hook = {"url": "https://a.example", "events": ["inbetween.canceled"]}
    ended, waiting = submit(jobs, webhook=hook), submit(jobs, webhook=hook)
    jobs.cancel(ended.id)
    announced: list[Job] = []
    for _ in range(2):
        announce_due(jobs, announced.append)
    assert [job.id for job in announced] == [ended.id, ended.id]
    jobs.delivered(ended.id, 1)
    assert announce_due(jobs, announced.append) == 0
    assert waiting.state is State.queued
