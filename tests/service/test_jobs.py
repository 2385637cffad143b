"""Every verb of the job store against a real Redis: what it does, and when it is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rq.job import Job as Carried
from rq.serializers import JSONSerializer

from service.jobs import metrics
from service.jobs.record import Job, JobMissing, NewJob, Renewal, State, StateConflict, Superseded, new_id, split_ticket
from service.jobs.store import Jobs
from service.settings import ServiceSettings

PROBLEM = {"type": "/problems/generation-failed", "title": "t", "status": 500, "detail": "ü"}
MANIFEST = {"files": [{"name": "take-1.mp4", "size": 10}], "frames": 25, "empty": []}


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, redis_url=redis_url))


def new(**changes: Any) -> NewJob:
    fields: dict[str, Any] = {
        "owner": "ann",
        "options": {"method": "mpd", "seeds": [], "reference": "ü"},
        "keyframes": [{"key": "jobs/x/keyframes/0", "size": 3}],
        "lane": "gpu",
        "result_ttl": 600,
    }
    return NewJob(**fields | changes)


def queued(jobs: Jobs, **changes: Any) -> Job:
    return jobs.submit(new(**changes))


def running(jobs: Jobs, **changes: Any) -> Job:
    job = queued(jobs, **changes)
    jobs.tickets.queue(job.lane, job.priority).remove(job.ticket)  # as a worker pops it
    return jobs.start(job.id, job.attempt, "horse")


def succeeded(jobs: Jobs, **changes: Any) -> Job:
    job = running(jobs, **changes)
    return jobs.succeed(job.id, job.attempt, MANIFEST)


def failed(jobs: Jobs, **changes: Any) -> Job:
    job = running(jobs, **changes)
    return jobs.fail(job.id, job.attempt, PROBLEM, retry=False)


def quarantined(jobs: Jobs, **changes: Any) -> Job:
    job = queued(jobs, **changes)
    while job.state is State.queued:
        jobs.start(job.id, job.attempt, "horse")
        job = jobs.died(job.id, job.attempt, "lease")
    return job


def canceled(jobs: Jobs, **changes: Any) -> Job:
    return jobs.cancel(queued(jobs, **changes).id)


def expired(jobs: Jobs, **changes: Any) -> Job:
    job = succeeded(jobs, result_ttl=0, **changes)
    jobs.delivered(job.id, job.attempt)
    return jobs.expire(job.id)


IN_STATE: dict[State, Callable[[Jobs], Job]] = {
    State.queued: queued,
    State.running: running,
    State.succeeded: succeeded,
    State.failed: failed,
    State.canceled: canceled,
    State.expired: expired,
}


def carried(jobs: Jobs, job: Job) -> list[str]:
    return list(jobs.tickets.queue(job.lane, job.priority).job_ids)


def events(jobs: Jobs, job: Job) -> list[tuple[str, dict[str, Any]]]:
    found: Any = jobs.redis.xrange(jobs.keys.events(job.id))
    return [(fields[b"type"].decode(), json.loads(fields[b"data"])) for _, fields in found]


def states(jobs: Jobs, job: Job) -> list[str]:
    return [data["state"] for kind, data in events(jobs, job) if kind == "state"]


def test_ids_sort_by_creation_and_fit_rq_and_storage() -> None:
    ids = [new_id() for _ in range(3)]
    assert all(len(name) == 30 and name.startswith("job_") and name[4:].isalnum() and name.islower() for name in ids)
    assert len(set(ids)) == 3
    assert split_ticket("job_0-12") == ("job_0", 12)


def test_submit_writes_the_record_and_a_ticket_for_stock_rq(jobs: Jobs) -> None:
    request = new(webhook={"url": "https://a.example", "events": []}, traceparent="00-1", priority="high")
    job = jobs.submit(request)
    assert (job.state, job.attempt, job.deaths, job.errors) == (State.queued, 1, 0, 0)
    assert request.options.items() <= job.options.items()
    assert (job.keyframes, job.webhook) == (request.keyframes, request.webhook)
    assert (job.owner, job.lane, job.priority, job.result_ttl, job.traceparent) == ("ann", "gpu", "high", 600, "00-1")
    assert job.created_at == job.queued_at == pytest.approx(jobs.now(), abs=5)
    assert job.started_at is job.finished_at is job.expires_at is job.result is job.error is job.worker is None
    assert jobs.get(job.id) == job

    assert carried(jobs, job) == [job.ticket]
    ticket = Carried.fetch(job.ticket, connection=jobs.redis, serializer=JSONSerializer)
    assert (ticket.func_name, ticket.args) == ("worker.tasks.run", [job.id, 1])
    assert (ticket.timeout, ticket.result_ttl, ticket.origin) == (-1, 0, "inbetween-gpu-high")
    assert events(jobs, job)[0] == (
        "state",
        {"state": "queued", "attempt": 1, "deaths": 0, "errors": 0, "cancel_requested": False},
    )


def test_a_submission_sent_again_because_its_answer_was_lost_is_the_same(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py does by itself when the connection breaks."""
    script = jobs._script
    monkeypatch.setattr(jobs, "_script", lambda **call: [script(**call), script(**call)][1])
    job = jobs.submit(new())
    assert (job.state, job.attempt) == (State.queued, 1)
    assert carried(jobs, job) == [job.ticket]
    assert jobs.counters()["jobs_submitted_total"] == 1


def test_an_id_is_submitted_once(jobs: Jobs) -> None:
    request = new()
    job = jobs.submit(request)
    with pytest.raises(StateConflict):
        jobs.submit(request)
    assert carried(jobs, job) == [job.ticket]


def test_position_counts_the_lane_in_the_order_of_rq(jobs: Jobs) -> None:
    low, default, other_lane, second = (
        queued(jobs, priority="low"),
        queued(jobs),
        queued(jobs, lane="cpu"),
        queued(jobs),
    )
    high = queued(jobs, priority="high")
    assert [jobs.position(job) for job in (high, default, second, low, other_lane)] == [0, 1, 2, 3, 0]
    assert jobs.queue_lengths() == {
        "gpu": {"high": 1, "default": 2, "low": 1},
        "cpu": {"high": 0, "default": 1, "low": 0},
    }
    started = jobs.start(high.id, 1, "horse")
    assert jobs.position(started) is None
    assert jobs.position(second) == 1
    assert jobs.running_counts() == {"gpu": 1, "cpu": 0}

    back = jobs.release(high.id, 1)
    jobs.start(second.id, 1, "horse")
    front = jobs.release(second.id, 1)
    assert [jobs.position(job) for job in (back, front, default)] == [0, 1, 2]
    assert carried(jobs, front)[0] == front.ticket


def test_the_oldest_queued_job_is_found_behind_those_put_in_front(jobs: Jobs) -> None:
    assert jobs.oldest_queued_age() == 0
    oldest = queued(jobs)
    hurried = running(jobs)
    jobs.release(hurried.id, 1)
    waited = jobs.oldest_queued_age()
    assert oldest.queued_at is not None
    assert waited == pytest.approx(jobs.now() - oldest.queued_at, abs=0.5)
    jobs.cancel(oldest.id)
    assert jobs.oldest_queued_age() < jobs.now() - oldest.queued_at


def test_lists_are_paged_newest_first_by_owner_and_state(jobs: Jobs) -> None:
    ids = [queued(jobs, id=f"job_{n:026}").id for n in range(5)]
    queued(jobs, owner="bob")
    jobs.cancel(ids[1])
    first = jobs.list("ann", 2)
    assert [job.id for job in first.jobs] == [ids[4], ids[3]]
    queued(jobs, id=f"job_{9:026}")  # comes before the first page, and so moves nothing in the next
    second = jobs.list("ann", 2, first.next_cursor)
    third = jobs.list("ann", 2, second.next_cursor)
    assert [job.id for job in second.jobs] == [ids[2], ids[1]]
    assert ([job.id for job in third.jobs], third.next_cursor) == ([ids[0]], None)
    assert [job.id for job in jobs.list("ann", 9, state=State.canceled).jobs] == [ids[1]]
    assert jobs.list("nobody", 9).jobs == ()


def test_start_renew_progress_succeed(jobs: Jobs) -> None:
    job = running(jobs)
    assert (job.state, job.worker, job.started_at is not None) == (State.running, "horse", True)
    lease = jobs.redis.zscore(jobs.keys.running, job.ticket)
    assert jobs.renew(job.id, 1) is Renewal.go
    renewed = jobs.redis.zscore(jobs.keys.running, job.ticket)
    assert jobs.progress(job.id, 1, {"stage": "sampling", "step": 1}) is Renewal.go
    assert lease != renewed != jobs.redis.zscore(jobs.keys.running, job.ticket)
    now = jobs.get(job.id)
    assert now is not None
    assert now.progress == {"stage": "sampling", "step": 1}

    done = jobs.succeed(job.id, 1, MANIFEST)
    assert (done.state, done.result, done.attempt) == (State.succeeded, MANIFEST, 1)
    assert done.finished_at is not None
    assert done.expires_at == pytest.approx(done.finished_at + 600)
    assert jobs.succeed(job.id, 1, {"files": "others"}).result == MANIFEST, "a repeated commit changes nothing"
    assert states(jobs, job) == ["queued", "running", "succeeded"]
    assert jobs.running_counts() == {"gpu": 0, "cpu": 0}


def test_start_may_be_repeated_by_the_same_horse_alone(jobs: Jobs) -> None:
    job = running(jobs)
    assert jobs.start(job.id, 1, "horse") == job
    with pytest.raises(StateConflict):
        jobs.start(job.id, 1, "another")


def test_only_the_newest_preview_is_kept_and_only_while_running(jobs: Jobs) -> None:
    job = running(jobs)
    for picture in ("data:1", "data:2"):
        jobs.progress(job.id, 1, {"step": picture}, picture)
    assert [data for kind, data in events(jobs, job) if kind == "preview"] == [{"image": "data:2"}]
    assert [data["step"] for kind, data in events(jobs, job) if kind == "progress"] == ["data:1", "data:2"]
    jobs.succeed(job.id, 1, MANIFEST)
    assert "preview" not in [kind for kind, _ in events(jobs, job)]


def test_an_error_is_retried_within_the_budget(jobs: Jobs) -> None:
    job = running(jobs)
    again = jobs.fail(job.id, 1, PROBLEM, retry=True)
    assert (again.state, again.attempt, again.errors, again.deaths, again.error) == (State.queued, 2, 1, 0, None)
    assert carried(jobs, job)[0] == again.ticket
    assert (again.started_at, again.worker, again.progress) == (None, None, None)
    jobs.start(job.id, 2, "horse")
    ended = jobs.fail(job.id, 2, PROBLEM, retry=True)
    assert (ended.state, ended.attempt, ended.errors, ended.error) == (State.failed, 2, 2, PROBLEM)
    assert jobs.fail(job.id, 2, PROBLEM, retry=True) == ended, "a repeated report changes nothing"
    assert events(jobs, job)[-1][1]["error"] == PROBLEM
    assert not ended.quarantined


def test_bad_input_is_not_retried(jobs: Jobs) -> None:
    assert failed(jobs).attempt == 1


def test_release_spends_no_budget(jobs: Jobs) -> None:
    job = running(jobs)
    for attempt in range(1, 6):
        back = jobs.release(job.id, attempt)
        assert (back.state, back.attempt, back.deaths, back.errors) == (State.queued, attempt + 1, 0, 0)
        jobs.start(job.id, attempt + 1, "horse")


def ran_out(jobs: Jobs, job: Job, worker: str, counts: bool = True, left: bool = False) -> Job:
    after = jobs.ran_out(job.id, job.attempt, worker, "No space left on device", counts, left)
    return jobs.start(job.id, after.attempt, "horse") if after.state is State.queued else after


def test_one_worker_whose_machine_is_not_well_ends_no_job(jobs: Jobs) -> None:
    job = running(jobs)
    for _ in range(9):
        job = ran_out(jobs, job, "a", counts=False)
    assert (job.state, job.attempt, job.deaths, job.errors, job.faults) == (State.running, 10, 0, 0, {})
    for _ in range(9):
        job = ran_out(jobs, job, "a", left=True)
    assert (job.state, job.faults) == (State.running, {"a": 9}), "another worker may have more"
    assert jobs.counters()["machine_faults_total"] == 18


@pytest.mark.parametrize(
    ("workers", "left"), [(["a", "b", "c"], True), (["a", "a", "a"], False), (["a", "b", "a"], False)]
)
def test_a_job_that_is_too_much_for_every_machine_ends(jobs: Jobs, workers: list[str], left: bool) -> None:
    job = running(jobs)
    for worker in workers:
        assert job.state is State.running
        job = ran_out(jobs, job, worker, left=left)
    assert (job.state, job.quarantined, job.deaths, job.errors) == (State.failed, False, 0, 0)
    assert job.error is not None
    assert (job.error["type"], job.error["status"]) == ("/problems/machines-exhausted", 500)
    assert "No space left on device" in job.error["detail"]
    again = jobs.redrive(job.id)
    assert (again.state, again.faults) == (State.queued, {})


def test_the_third_death_quarantines_and_redrive_starts_afresh(jobs: Jobs) -> None:
    job = running(jobs)
    for attempt in (1, 2):
        again = jobs.died(job.id, attempt, "horse")
        assert (again.state, again.attempt, again.deaths) == (State.queued, attempt + 1, attempt)
        jobs.start(job.id, attempt + 1, "horse")
    dead = jobs.died(job.id, 3, "lease")
    assert (dead.state, dead.attempt, dead.deaths, dead.quarantined) == (State.failed, 3, 3, True)
    assert dead.error is not None
    assert dead.error["type"] == "/problems/quarantined"
    assert "lease" in dead.error["detail"]
    assert [letter.id for letter in jobs.dead_letters(5).jobs] == [job.id]

    driven = jobs.redrive(job.id)
    assert (driven.state, driven.attempt, driven.deaths, driven.errors) == (State.queued, 4, 0, 0)
    assert (driven.quarantined, driven.error, driven.finished_at, driven.expires_at) == (False, None, None, None)
    assert carried(jobs, job)[-1] == driven.ticket
    assert jobs.dead_letters(5).jobs == ()


def test_a_sign_of_life_after_the_lease_was_read_counts(jobs: Jobs) -> None:
    job = running(jobs)
    seen = jobs.redis.zscore(jobs.keys.running, job.ticket)
    jobs.renew(job.id, 1)
    with pytest.raises(StateConflict):
        jobs.died(job.id, 1, "lease", lease=seen)
    now = jobs.redis.zscore(jobs.keys.running, job.ticket)
    assert jobs.died(job.id, 1, "lease", lease=now).attempt == 2


def test_cancel_of_a_queued_job_is_immediate(jobs: Jobs) -> None:
    job = queued(jobs)
    assert jobs.cancel(job.id).state is State.canceled
    assert carried(jobs, job) == []
    assert not jobs.redis.exists(Carried.key_for(job.ticket))
    with pytest.raises(StateConflict):
        jobs.start(job.id, 1, "horse")  # popped just before


def test_cancel_of_a_running_job_asks_once_and_wakes_its_worker(jobs: Jobs) -> None:
    job = running(jobs)
    connection: Any = jobs.redis
    with connection.pubsub(ignore_subscribe_messages=False) as listener:
        listener.subscribe(jobs.keys.cancel)
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        asked = jobs.cancel(job.id)
        message = listener.get_message(timeout=5)
    assert message is not None
    assert message["data"] == job.ticket.encode()
    assert (asked.state, asked.cancel_requested) == (State.running, True)
    jobs.cancel(job.id)
    assert states(jobs, job) == ["queued", "running", "running"]
    assert jobs.renew(job.id, 1) is Renewal.cancel
    assert jobs.progress(job.id, 1, {}) is Renewal.cancel
    ended = jobs.stopped(job.id, 1)
    assert ended.state is State.canceled
    assert jobs.stopped(job.id, 1) == ended


def test_a_commit_wins_over_a_cancel_not_yet_heard(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.cancel(job.id)
    assert jobs.succeed(job.id, 1, MANIFEST).state is State.succeeded
    assert jobs.cancel(job.id).state is State.succeeded


@pytest.mark.parametrize(
    "end",
    [
        lambda jobs, job: jobs.release(job.id, 1),
        lambda jobs, job: jobs.died(job.id, 1, "lease"),
        lambda jobs, job: jobs.ran_out(job.id, 1, "a", "why", counts=True, left=False),
        lambda jobs, job: jobs.fail(job.id, 1, PROBLEM, retry=True),
    ],
)
def test_a_canceled_job_is_never_queued_again(jobs: Jobs, end: Callable[[Jobs, Job], Job]) -> None:
    job = running(jobs)
    jobs.cancel(job.id)
    assert end(jobs, job).state is State.canceled
    assert jobs.queue_lengths()["gpu"]["default"] == 0


def test_a_cancel_that_came_too_late_does_not_reach_the_next_attempt(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.cancel(job.id)
    jobs.fail(job.id, 1, PROBLEM, retry=False)
    again = jobs.redrive(job.id)
    assert (again.attempt, again.cancel_requested) == (2, False)
    jobs.start(job.id, 2, "horse")
    assert jobs.renew(job.id, 2) is Renewal.go
    with pytest.raises(Superseded):
        jobs.stopped(job.id, 1)


def test_expire_leaves_a_tombstone(jobs: Jobs) -> None:
    kept = succeeded(jobs)
    with pytest.raises(StateConflict):
        jobs.expire(kept.id)
    gone = expired(jobs, webhook={"url": "u", "events": []})
    assert (gone.state, gone.owner) == (State.expired, "ann")
    assert (gone.options, gone.keyframes, gone.webhook, gone.result) == ({}, [], None, None)
    assert jobs.redis.zscore(jobs.keys.erasures, gone.id) is not None
    assert jobs.redis.zcard(jobs.keys.undelivered) == 0
    assert states(jobs, gone)[-1] == "expired"
    encoding = [jobs.redis.object("encoding", jobs.keys.job(job.id)) for job in (kept, gone)]
    assert encoding[0] == b"hashtable"
    assert encoding[1] in (b"ziplist", b"listpack"), "a tombstone stays for months, and is small"
    assert 0 < jobs.redis.ttl(jobs.keys.events(gone.id)) <= 300


@pytest.mark.parametrize("state", list(State))
def test_delete_forgets_a_job_in_any_state(jobs: Jobs, state: State) -> None:
    job = IN_STATE[state](jobs)
    assert jobs.delete(job.id) == job
    assert jobs.get(job.id) is None
    assert jobs.list("ann", 9).jobs == jobs.list("ann", 9, state=state).jobs == ()
    assert carried(jobs, job) == []
    due = jobs.redis.zscore(jobs.keys.erasures, job.id)
    live = state in (State.queued, State.running)
    assert due == pytest.approx(jobs.now() + (20 if live else 0), abs=5)
    if live:
        assert states(jobs, job)[-1] == "canceled", "whoever follows the job learns that it is over"
    keys: Any = jobs.redis.keys("inbetween:*")
    left = {key.decode() for key in keys}
    assert left <= {f"inbetween:{name}" for name in ("order", "counters", "erasures", f"events:{job.id}")}


def test_delete_fences_a_running_attempt(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.delete(job.id)
    refused: list[Callable[[], object]] = [
        lambda: jobs.renew(job.id, 1),
        lambda: jobs.progress(job.id, 1, {}),
        lambda: jobs.succeed(job.id, 1, MANIFEST),
        lambda: jobs.release(job.id, 1),
    ]
    for verb in refused:
        with pytest.raises(Superseded):
            verb()
    assert jobs.get(job.id) is None


ATTEMPT_VERBS: dict[str, Callable[[Jobs, str, int], object]] = {
    "start": lambda jobs, name, attempt: jobs.start(name, attempt, "another"),
    "renew": lambda jobs, name, attempt: jobs.renew(name, attempt),
    "progress": lambda jobs, name, attempt: jobs.progress(name, attempt, {}, "data:"),
    "succeed": lambda jobs, name, attempt: jobs.succeed(name, attempt, MANIFEST),
    "fail": lambda jobs, name, attempt: jobs.fail(name, attempt, PROBLEM, retry=True),
    "release": lambda jobs, name, attempt: jobs.release(name, attempt),
    "stopped": lambda jobs, name, attempt: jobs.stopped(name, attempt),
    "died": lambda jobs, name, attempt: jobs.died(name, attempt, "lease"),
    "requeue": lambda jobs, name, attempt: jobs.requeue(name, attempt),
}
ALLOWED = {
    ("start", State.queued),
    ("requeue", State.queued),
    *itertools.product(("renew", "progress", "succeed", "fail", "release", "died"), [State.running]),
    ("succeed", State.succeeded),
    ("fail", State.failed),
    ("stopped", State.canceled),
}


def snapshot(jobs: Jobs) -> dict[bytes, Any]:
    """Everything in Redis that is ours or RQ's queues."""
    read: dict[object, Callable[..., Any]] = {
        b"hash": jobs.redis.hgetall,
        b"zset": lambda key: jobs.redis.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: jobs.redis.lrange(key, 0, -1),
        b"stream": jobs.redis.xrange,
        b"set": jobs.redis.smembers,
        b"string": jobs.redis.get,
    }
    return {key: read[jobs.redis.type(key)](key) for key in jobs.redis.scan_iter()}


@pytest.mark.parametrize(("verb", "state"), sorted(set(itertools.product(ATTEMPT_VERBS, State)) - ALLOWED))
def test_a_state_that_does_not_allow_the_verb_is_left_alone(jobs: Jobs, verb: str, state: State) -> None:
    job = IN_STATE[state](jobs)
    before = snapshot(jobs)
    with pytest.raises(StateConflict) as refused:
        ATTEMPT_VERBS[verb](jobs, job.id, job.attempt)
    assert refused.value.state is state
    assert snapshot(jobs) == before


@pytest.mark.parametrize("verb", list(ATTEMPT_VERBS))
def test_an_older_attempt_is_left_out(jobs: Jobs, verb: str) -> None:
    job = running(jobs)
    jobs.release(job.id, 1)
    jobs.start(job.id, 2, "horse")
    before = snapshot(jobs)
    with pytest.raises(Superseded):
        ATTEMPT_VERBS[verb](jobs, job.id, 1)
    assert snapshot(jobs) == before


@pytest.mark.parametrize("verb", ["cancel", "delete", "redrive", "expire"])
def test_a_job_that_does_not_exist_is_missing(jobs: Jobs, verb: str) -> None:
    with pytest.raises(JobMissing):
        getattr(jobs, verb)("job_0")


@pytest.mark.parametrize("state", [State.queued, State.running, State.succeeded, State.canceled, State.expired])
def test_only_a_failed_job_is_redriven(jobs: Jobs, state: State) -> None:
    job = IN_STATE[state](jobs)
    before = snapshot(jobs)
    with pytest.raises(StateConflict):
        jobs.redrive(job.id)
    assert snapshot(jobs) == before


def test_an_ended_job_with_a_webhook_waits_for_its_delivery(jobs: Jobs) -> None:
    hook = {"url": "https://a.example", "events": ["inbetween.failed"]}
    job = failed(jobs, webhook=hook)
    succeeded(jobs)
    assert jobs.redis.zrange(jobs.keys.undelivered, 0, -1) == [job.ticket.encode()]
    jobs.redrive(job.id)
    assert jobs.redis.zrange(jobs.keys.undelivered, 0, -1) == [job.ticket.encode()], (
        "it failed, whatever comes of it now"
    )
    assert jobs.ended(job.id, job.attempt) == job
    jobs.start(job.id, 2, "horse")
    jobs.succeed(job.id, 2, MANIFEST)
    jobs.delivered(job.id, 1)
    assert jobs.redis.zcard(jobs.keys.undelivered) == 1, "an older attempt's delivery does not stand for the newer"
    jobs.delivered(job.id, 2)
    assert jobs.redis.zcard(jobs.keys.undelivered) == 0


def test_counters(jobs: Jobs) -> None:
    succeeded(jobs)
    canceled(jobs)
    quarantined(jobs)
    jobs.count(metrics.counted("gpu_seconds_total", 1.5))
    jobs.count(metrics.counted("gpu_seconds_total", 1.5))
    counted = jobs.counters()
    ended = {name: count for name, count in counted.items() if name.startswith("jobs_total")}
    assert ended == {
        f'jobs_total{{outcome="{outcome}",method="mpd"}}': 1 for outcome in ("succeeded", "canceled", "failed")
    }
    assert counted["quarantines_total"] == 1
    assert counted['reclaims_total{cause="lease"}'] == 3
    assert counted["jobs_submitted_total"] == 3
    assert counted["gpu_seconds_total"] == 3
    waits = {name: count for name, count in counted.items() if name.startswith("queue_wait_seconds_le")}
    assert waits == {'queue_wait_seconds_le{lane="gpu",priority="default",le="0.1"}': 4}
    assert 0 <= counted['queue_wait_seconds_sum{lane="gpu",priority="default"}'] < 0.4
    took = {name: count for name, count in counted.items() if name.startswith("job_seconds_le")}
    ran = [f'method="mpd",size="unknown",outcome="{outcome}"' for outcome in ("succeeded", "failed")]
    assert took == {f'job_seconds_le{{{labels},le="0.25"}}': 1 for labels in ran}


def refuse(*_: object, **__: object) -> None:
    raise redis.ConnectionError("gone")


def test_a_failed_enqueue_still_accepts_the_job(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(jobs.tickets.queue("gpu", "default")), "enqueue_call", refuse)
    job = queued(jobs)
    assert jobs.get(job.id) == job
    assert carried(jobs, job) == []


def test_a_ticket_that_cannot_be_taken_back_does_nothing(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    job = queued(jobs)
    monkeypatch.setattr(type(jobs.tickets.queue("gpu", "default")), "remove", refuse)
    assert jobs.cancel(job.id).state is State.canceled
    assert carried(jobs, job) == [job.ticket]
    with pytest.raises(StateConflict):
        jobs.start(job.id, 1, "horse")
