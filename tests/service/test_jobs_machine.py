"""Any order of verbs, by any attempt, against a real Redis: the invariants hold after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.jobs.reconcile import Watch, expire_due, leases, reclaim_dead, requeue_lost, unlisted
from service.jobs.record import (
    LANES,
    PRIORITIES,
    Allowance,
    Job,
    JobError,
    NewJob,
    Refused,
    Renewal,
    State,
    split_ticket,
)
from service.jobs.store import Jobs
from service.settings import ServiceSettings

ESTIMATES = {"gpu": 1.5, "cpu": None}
PROBLEM = {"type": "/problems/generation-failed", "status": 500}


def machine(connection: redis.Redis, effective: ServiceSettings) -> type[RuleBasedStateMachine]:
    class Verbs(RuleBasedStateMachine):
        """The model: the highest attempt seen of each job, its commits, which are deleted, whose files are due for
        erasure, whose final event was handed over, which ends were taken back and are still to be told, how many
        attempts ended how, what GPU time was reported and used.
        """

        ids = Bundle("ids")
        attempts = st.sampled_from((0, 0, 0, 1))

        @initialize()
        def begin(self) -> None:
            connection.flushall()
            self.jobs = Jobs(connection, effective)
            self.attempt: dict[str, int] = {}
            self.commits: dict[tuple[str, int], str] = {}
            self.deleted: set[str] = set()
            self.erasable: set[str] = set()
            self.delivered: set[str] = set()
            self.untold: set[str] = set()
            self.outcomes: Counter[str] = Counter()
            self.reported: dict[str, int] = {}
            self.used = 0
            self.serial = 0

        # Few jobs, so that much happens to each.
        @precondition(lambda self: len(self.attempt) - len(self.deleted) < 3)
        @rule(
            target=ids, lane=st.sampled_from(LANES), priority=st.sampled_from(PRIORITIES), ttl=st.sampled_from((0, 9))
        )
        def submit(self, lane: Any, priority: Any, ttl: int) -> str:
            webhook = {"url": "u", "events": []}
            new = NewJob("ann", {}, [], lane, ttl, priority, webhook=webhook, gpu_seconds=ESTIMATES[lane])
            job = self.jobs.submit(new, Allowance(active_jobs=3, gpu_seconds=1000, queue=3))
            self.attempt[job.id] = job.attempt
            return job.id

        @rule(lane=st.sampled_from(LANES))
        def submit_one_too_many(self, lane: Any) -> None:
            live = [job for job in self.jobs.get_many(self.attempt) if not job.state.is_terminal]
            queued = [job for job in live if job.state is State.queued and job.lane == lane]
            for allowance, full in (
                (Allowance(active_jobs=max(1, len(live))), bool(live)),
                (Allowance(queue=max(1, len(queued))), bool(queued)),
            ):
                try:
                    self.jobs.admit("ann", lane, None, allowance)
                    assert not full
                except Refused:
                    assert full
                    with pytest.raises(Refused):
                        self.jobs.submit(NewJob("ann", {}, [], lane, 9), allowance)

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
            self.note(before, after)
            return after

        def note(self, before: Job, after: Job) -> None:
            """A transition that was taken, in the model's own books."""
            if after.state.is_terminal and not before.state.is_terminal:
                self.outcomes[after.state] += 1
                self.used += self.reported.pop(after.id, 0)
            if after.attempt > before.attempt:
                self.reported.pop(after.id, None)
            if after.state is State.expired:
                self.erasable.add(after.id)
            if after.attempt > before.attempt:
                assert after.state is State.queued
                assert not after.cancel_requested, "a cancel never reaches the next attempt"

        def at(self, job_id: str, back: int) -> int:
            return self.attempt[job_id] - back

        @rule(job_id=ids, back=attempts, horse=st.sampled_from(["a", "b"]))
        def start(self, job_id: str, back: int, horse: str) -> None:
            job = self.call(job_id, lambda: self.jobs.start(job_id, self.at(job_id, back), horse))
            if job is not None:
                assert (back, job.state, job.worker) == (0, State.running, horse)
                self.jobs.tickets.queue(job.lane, job.priority).remove(job.ticket)

        @rule(job_id=ids, back=attempts, preview=st.sampled_from([None, "data:"]))
        def progress(self, job_id: str, back: int, preview: str | None) -> None:
            before = self.jobs.get(job_id)
            try:
                self.jobs.progress(job_id, self.at(job_id, back), {"step": 1}, preview, gpu_seconds=0.25)
            except JobError:
                assert self.jobs.get(job_id) == before
            else:
                assert before is not None
                assert (back, before.state) == (0, State.running)
                self.reported[job_id] = 250

        @rule(job_id=ids, back=attempts)
        def renew(self, job_id: str, back: int) -> None:
            before, held = self.jobs.get(job_id), leases(self.jobs)
            try:
                verdict = self.jobs.renew(job_id, self.at(job_id, back))
            except JobError:
                assert leases(self.jobs) == held
            else:
                assert before is not None
                assert (back, before.state) == (0, State.running)
                assert (verdict is Renewal.cancel) == before.cancel_requested
                assert leases(self.jobs)[before.ticket] > held[before.ticket]

        @rule(job_id=ids, alive=st.booleans())
        def lose_lease(self, job_id: str, alive: bool) -> None:
            """The keeper has seen every lease unchanged for its time, but this one's that shows a late sign of life."""
            before = {job.id: job for job in self.jobs.get_many(self.attempt)}
            running = {job.id: job for job in before.values() if job.state is State.running}
            watch = Watch(patience=0, stride=1)
            if alive and job_id in running:
                # Renewed between the keeper's look and its verb, the lease is another one.
                seen = leases(self.jobs)[running[job_id].ticket]
                self.jobs.renew(job_id, running[job_id].attempt)
                self.call(job_id, lambda: self.jobs.died(job_id, running[job_id].attempt, "lease", lease=seen))
                assert self.jobs.get_many([job_id])[0].state is State.running
                return
            assert reclaim_dead(self.jobs, watch) == len(running)
            for after in self.jobs.get_many(running):
                assert after.deaths == running[after.id].deaths + 1
                assert after.state in (State.queued, State.failed, State.canceled)
                assert (after.state is State.canceled) == running[after.id].cancel_requested
                self.attempt[after.id] = after.attempt
                self.note(running[after.id], after)

        @rule()
        def forget_everything_in_rq(self) -> None:
            """RQ loses all its lists, and the keeper puts them back, in their order."""
            queued = [job for job in self.jobs.get_many(self.attempt) if job.state is State.queued]
            places = {job.id: self.jobs.position(job) for job in queued}
            for lane in LANES:
                for priority in PRIORITIES:
                    self.jobs.tickets.queue(lane, priority).empty()
            # However often they were lost before: no time passes here.
            for job in queued:
                connection.hdel(self.jobs.keys.job(job.id), "losses")
            assert requeue_lost(self.jobs, Watch(patience=0, stride=1)) == len(queued)
            for job in self.jobs.get_many(places):
                assert (job.state, self.jobs.position(job)) == (State.queued, places[job.id])
                self.attempt[job.id] = job.attempt

        @rule()
        def hand_over_final_events(self) -> None:
            for name in members(connection, self.jobs.keys.undelivered):
                self.jobs.delivered(*split_ticket(name))
                self.delivered.add(name)
            self.untold.clear()

        @rule()
        def expire_what_is_due(self) -> None:
            due = [job for job in self.jobs.get_many(self.attempt) if job.finished_at and job.result_ttl == 0]
            due = [job for job in due if job.state is not State.expired and job.ticket in self.delivered]
            assert expire_due(self.jobs) == len(due)
            for before, after in zip(due, self.jobs.get_many(job.id for job in due), strict=True):
                assert (after.state, after.result, after.options) == (State.expired, None, {})
                self.note(before, after)

        @rule(job_id=ids)
        def look(self, job_id: str) -> None:
            """A page of one is the newest job; a dead letter is a failed one."""
            page = self.jobs.list("ann", 1)
            known = sorted(set(self.attempt) - self.deleted)
            assert [job.id for job in page.jobs] == known[-1:]
            assert all(job.quarantined for job in self.jobs.dead_letters(100).jobs)

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

        @rule(job_id=ids, back=attempts, worker=st.sampled_from(["a", "b"]), counts=st.booleans(), left=st.booleans())
        def ran_out(self, job_id: str, back: int, worker: str, counts: bool, left: bool) -> None:
            self.call(job_id, lambda: self.jobs.ran_out(job_id, self.at(job_id, back), worker, "why", counts, left))

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
                self.jobs.tickets.queue(job.lane, job.priority).remove(job.ticket)
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
            assert job is None or (job.result_ttl == 0 and job.ticket in self.delivered)

        @rule(job_id=ids)
        def redrive(self, job_id: str) -> None:
            before = self.jobs.get(job_id)
            if self.call(job_id, lambda: self.jobs.redrive(job_id)) is not None:
                assert before is not None
                if before.ticket not in self.delivered:
                    self.untold.add(before.ticket)

        @rule(job_id=ids)
        def delete(self, job_id: str) -> None:
            if self.call(job_id, lambda: self.jobs.delete(job_id)) is not None:
                self.used += self.reported.pop(job_id, 0)
                self.deleted.add(job_id)
                self.erasable.add(job_id)
                self.untold -= {name for name in self.untold if split_ticket(name)[0] == job_id}

        @invariant()
        def every_id_is_in_the_one_set_that_fits_its_state(self) -> None:
            keys = self.jobs.keys
            found = {job.id: job for job in self.jobs.get_many(self.attempt)}
            assert self.deleted.isdisjoint(found)
            assert self.deleted | set(found) == set(self.attempt)
            sets: dict[object, str] = {
                **{(lane, priority): keys.queued(lane, priority) for lane in LANES for priority in PRIORITIES},
                "running": keys.running,
                "ended": keys.expiry,
                "expired": keys.tombstones,
                "dead": keys.dead,
                "undelivered": keys.undelivered,
            }
            where: dict[object, set[str]] = {name: set() for name in sets}
            where["undelivered"] |= self.untold
            for job in found.values():
                if job.state is State.queued:
                    where[job.lane, job.priority].add(job.ticket)
                elif job.state is State.running:
                    where["running"].add(job.ticket)
                elif job.state is State.expired:
                    where["expired"].add(job.id)
                else:
                    where["ended"].add(job.id)
                    if job.ticket not in self.delivered:
                        where["undelivered"].add(job.ticket)
                if job.quarantined:
                    where["dead"].add(job.id)
                assert job.attempt == self.attempt[job.id]
                assert (job.result is not None) == (job.state is State.succeeded)
                assert not job.quarantined or (job.state is State.failed and job.deaths == effective.max_deaths)
                assert job.deaths <= effective.max_deaths
                assert (job.finished_at is not None) == job.state.is_terminal
            assert where == {name: members(connection, key) for name, key in sets.items()}
            for lane in LANES:
                at_work = {job.ticket for job in found.values() if job.state is State.running and job.lane == lane}
                held: Any = connection.smembers(keys.running_in(lane))
                assert {member.decode() for member in held} == at_work
            for state in (None, *State):
                expected = {job.id for job in found.values() if state in (None, job.state)}
                assert members(connection, keys.owned("ann", state)) == expected

        @invariant()
        def every_end_is_counted_once_and_leaves_what_it_must(self) -> None:
            counted = self.jobs.counters()
            for state in (State.succeeded, State.failed, State.canceled):
                ended = [count for name, count in counted.items() if name.startswith(f'jobs_total{{outcome="{state}"')]
                assert sum(ended) == self.outcomes[state]
            assert members(connection, self.jobs.keys.erasures) == self.erasable
            for job in self.jobs.get_many(self.attempt):
                committed = self.commits.get((job.id, job.attempt))
                if job.state is State.succeeded:
                    assert committed == str(job.result)
                else:
                    assert committed is None or job.state is State.expired, "what was committed stays so"

        @invariant()
        def gpu_time_is_promised_to_what_is_under_way_and_charged_at_its_end(self) -> None:
            live = [job for job in self.jobs.get_many(self.attempt) if not job.state.is_terminal]
            promised = sum(round(1000 * (ESTIMATES[job.lane] or 0)) for job in live)
            assert int(connection.get(self.jobs.keys.gpu_promised("ann")) or 0) == promised
            days: Any = connection.keys(self.jobs.keys.gpu_used("ann", 0)[:-1] + "*")
            assert sum(int(connection.get(day) or 0) for day in days) == self.used

        @invariant()
        def rq_holds_every_queued_ticket_in_the_order_of_positions(self) -> None:
            assert unlisted(self.jobs) == []
            for lane in LANES:
                for priority in PRIORITIES:
                    queued: Any = connection.zrange(self.jobs.keys.queued(lane, priority), 0, -1)
                    tickets = [member.decode() for member in queued]
                    listed = self.jobs.tickets.queue(lane, priority).job_ids
                    assert [name for name in listed if name in tickets] == tickets

    return Verbs


def members(connection: redis.Redis, key: str) -> set[str]:
    found: Any = connection.zrange(key, 0, -1)
    return {member.decode() for member in found}


@pytest.mark.timeout(120)
def test_any_order_of_verbs_keeps_the_invariants(redis_url: str) -> None:
    effective = ServiceSettings(_env_file=None, redis_url=redis_url)
    with redis.Redis.from_url(redis_url) as connection:
        run_state_machine_as_test(
            machine(connection, effective),
            settings=settings(
                max_examples=40,
                stateful_step_count=50,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
