"""Any order of verbs, by any attempt, against a real Redis: the invariants hold after each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from service.jobs import LANES, PRIORITIES, Job, JobError, Jobs, NewJob, State
from service.reconcile import unlisted
from service.settings import Settings

PROBLEM = {"type": "/problems/generation-failed", "status": 500}


def machine(connection: redis.Redis, effective: Settings) -> type[RuleBasedStateMachine]:
    class Verbs(RuleBasedStateMachine):
        """The model: the highest attempt seen of each job, its commits, and which are deleted."""

        ids = Bundle("ids")
        attempts = st.integers(0, 1)

        @initialize()
        def begin(self) -> None:
            connection.flushall()
            self.jobs = Jobs(connection, effective)
            self.attempt: dict[str, int] = {}
            self.commits: dict[tuple[str, int], str] = {}
            self.deleted: set[str] = set()
            self.serial = 0

        @rule(
            target=ids, lane=st.sampled_from(LANES), priority=st.sampled_from(PRIORITIES), ttl=st.sampled_from((0, 9))
        )
        def submit(self, lane: Any, priority: Any, ttl: int) -> str:
            new = NewJob("ann", {}, [], lane, ttl, priority, webhook={"url": "u", "events": []})
            job = self.jobs.submit(new)
            self.attempt[job.id] = job.attempt
            return job.id

        def call(self, job_id: str, verb: Callable[[], Job]) -> Job | None:
            """A refused verb changes nothing; an accepted one never moves the attempt back."""
            before = self.jobs.get(job_id)
            try:
                after = verb()
            except JobError:
                assert self.jobs.get(job_id) == before
                return None
            assert before is not None
            assert before.attempt <= after.attempt <= before.attempt + 1
            self.attempt[job_id] = after.attempt
            return after

        def at(self, job_id: str, back: int) -> int:
            return self.attempt[job_id] - back

        @rule(job_id=ids, back=attempts, horse=st.sampled_from(["a", "b"]))
        def start(self, job_id: str, back: int, horse: str) -> None:
            job = self.call(job_id, lambda: self.jobs.start(job_id, self.at(job_id, back), horse))
            if job is not None:
                assert (back, job.state, job.worker) == (0, State.running, horse)
                self.jobs.queue(job.lane, job.priority).remove(job.ticket)

        @rule(job_id=ids, back=attempts, preview=st.sampled_from([None, "data:"]))
        def progress(self, job_id: str, back: int, preview: str | None) -> None:
            before = self.jobs.get(job_id)
            try:
                self.jobs.progress(job_id, self.at(job_id, back), {"step": 1}, preview)
            except JobError:
                assert self.jobs.get(job_id) == before
            else:
                assert before is not None
                assert (back, before.state) == (0, State.running)

        @rule(job_id=ids, back=attempts)
        def succeed(self, job_id: str, back: int) -> None:
            self.serial += 1
            result = {"serial": self.serial}
            job = self.call(job_id, lambda: self.jobs.succeed(job_id, self.at(job_id, back), result))
            if job is not None:
                assert back == 0
                kept = self.commits.setdefault((job_id, job.attempt), str(job.result))
                assert kept == str(job.result), "a commit is never replaced"

        @rule(job_id=ids, back=attempts, retry=st.booleans())
        def fail(self, job_id: str, back: int, retry: bool) -> None:
            self.call(job_id, lambda: self.jobs.fail(job_id, self.at(job_id, back), PROBLEM, retry))

        @rule(job_id=ids, back=attempts)
        def release(self, job_id: str, back: int) -> None:
            self.call(job_id, lambda: self.jobs.release(job_id, self.at(job_id, back)))

        @rule(job_id=ids, back=attempts)
        def die(self, job_id: str, back: int) -> None:
            self.call(job_id, lambda: self.jobs.died(job_id, self.at(job_id, back), "lease"))

        @rule(job_id=ids, back=attempts)
        def stopped(self, job_id: str, back: int) -> None:
            self.call(job_id, lambda: self.jobs.stopped(job_id, self.at(job_id, back)))

        @rule(job_id=ids, back=attempts)
        def lose(self, job_id: str, back: int) -> None:
            """RQ forgets the ticket, and the keeper notices."""
            job = self.jobs.get(job_id)
            if job is not None:
                self.jobs.queue(job.lane, job.priority).remove(job.ticket)
            again = self.call(job_id, lambda: self.jobs.requeue(job_id, self.at(job_id, back)))
            if job is not None and job.state is State.queued and again is None:
                self.call(job_id, lambda: self.jobs.requeue(job_id, job.attempt))

        @rule(job_id=ids)
        def cancel(self, job_id: str) -> None:
            job = self.call(job_id, lambda: self.jobs.cancel(job_id))
            assert job is None or job.state.is_terminal or job.cancel_requested

        @rule(job_id=ids)
        def expire(self, job_id: str) -> None:
            job = self.call(job_id, lambda: self.jobs.expire(job_id))
            assert job is None or job.result_ttl == 0

        @rule(job_id=ids)
        def redrive(self, job_id: str) -> None:
            self.call(job_id, lambda: self.jobs.redrive(job_id))

        @rule(job_id=ids)
        def delete(self, job_id: str) -> None:
            if self.call(job_id, lambda: self.jobs.delete(job_id)) is not None:
                self.deleted.add(job_id)

        @invariant()
        def every_id_is_in_the_one_set_that_fits_its_state(self) -> None:
            keys = self.jobs.keys
            found = {job.id: job for job in self.jobs.get_many(self.attempt)}
            assert self.deleted.isdisjoint(found)
            assert self.deleted | set(found) == set(self.attempt)
            sets = {
                **{(lane, priority): keys.queued(lane, priority) for lane in LANES for priority in PRIORITIES},
                "running": keys.running,
                "ended": keys.expiry,
                "expired": keys.tombstones,
                "dead": keys.dead,
                "undelivered": keys.undelivered,
            }
            where: dict[object, set[str]] = {name: set() for name in sets}
            for job in found.values():
                if job.state is State.queued:
                    where[job.lane, job.priority].add(job.ticket)
                elif job.state is State.running:
                    where["running"].add(job.ticket)
                elif job.state is State.expired:
                    where["expired"].add(job.id)
                else:
                    where["ended"].add(job.id)
                    where["undelivered"].add(job.ticket)
                if job.quarantined:
                    where["dead"].add(job.id)
                assert job.attempt == self.attempt[job.id]
                assert (job.result is not None) == (job.state is State.succeeded)
                assert not job.quarantined or (job.state is State.failed and job.deaths == effective.max_deaths)
                assert job.deaths <= effective.max_deaths
                assert (job.finished_at is not None) == job.state.is_terminal
            assert where == {name: members(connection, key) for name, key in sets.items()}
            for state in (None, *State):
                expected = {job.id for job in found.values() if state in (None, job.state)}
                assert members(connection, keys.owned("ann", state)) == expected

        @invariant()
        def rq_holds_every_queued_ticket_in_the_order_of_positions(self) -> None:
            assert unlisted(self.jobs) == []
            for lane in LANES:
                for priority in PRIORITIES:
                    queued: Any = connection.zrange(self.jobs.keys.queued(lane, priority), 0, -1)
                    tickets = [member.decode() for member in queued]
                    listed = self.jobs.queue(lane, priority).job_ids
                    assert [name for name in listed if name in tickets] == tickets

    return Verbs


def members(connection: redis.Redis, key: str) -> set[str]:
    found: Any = connection.zrange(key, 0, -1)
    return {member.decode() for member in found}


@pytest.mark.timeout(120)
def test_any_order_of_verbs_keeps_the_invariants(redis_url: str) -> None:
    effective = Settings(_env_file=None, redis_url=redis_url)
    with redis.Redis.from_url(redis_url) as connection:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            machine(connection, effective),
            settings=settings(
                max_examples=30,
                stateful_step_count=40,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
