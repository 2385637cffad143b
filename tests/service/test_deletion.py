"""Deleted is deleted: of a job that its owner erased nothing is found in Redis or in storage, whatever is looked at.

All of both is read. A mark may stay where a worker may still be at the job, with its id and nothing that was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from service.jobs.reconcile import announce_due, erase_due
from service.jobs.record import Job, JobError, State
from service.outbound.client import Outbound
from service.webhooks.deliveries import announce
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo
from trials.receiver import Receiver
from worker.task.lease import Lease, Reason

REFERENCE = "patient-4711"
HOOK = "https://hooks.example/p4711"
KEY = {"Idempotency-Key": "once"}


def everything(connection: redis.Redis) -> dict[str, str]:
    """Each key of Redis, of whatever type, with all that is in it."""
    found = {}
    for key in connection.scan_iter("*"):
        read: dict[object, Callable[..., Any]] = {
            b"string": connection.get,
            b"hash": connection.hgetall,
            b"list": lambda key: connection.lrange(key, 0, -1),
            b"set": connection.smembers,
            b"zset": lambda key: connection.zrange(key, 0, -1),
            b"stream": connection.xrange,
        }
        found[key.decode()] = str(read[connection.type(key)](key))
    return found


def naming(api: Api, *words: str) -> set[str]:
    """Keys of Redis and of storage in whose name or value any of these words stands."""
    held = everything(api.services.redis)
    held |= {key: api.storage.get(key).decode("latin-1") for key in api.storage.list("")}
    return {key for key, value in held.items() if any(word in key or word in value for word in words)}


def swept(api: Api) -> None:
    """What the keeper does, once the erasures' time has come."""
    waiting: Any = api.services.redis.zrange(api.jobs.keys.erasures, 0, -1)
    api.services.redis.zadd(api.jobs.keys.erasures, dict.fromkeys(waiting, 0.0))
    erase_due(api.jobs, api.storage, api.services.webhooks.forget)


def asked(api: Api, url: str = HOOK, **headers: str) -> str:
    options = {"method": "flow", "reference": REFERENCE, "webhook": {"url": url}}
    return str(api.submit(options, headers=headers or KEY)["id"])


def got(api: Api, job_id: str) -> Job:
    job = api.jobs.get(job_id)
    assert job is not None
    return job


def deleted(api: Api, job_id: str) -> None:
    assert api.client.delete(f"/inbetween/{job_id}").status_code == 204
    problem(api.client.get(f"/inbetween/{job_id}"), 404, "job-not-found")


def test_of_a_queued_job_its_id_alone_is_left_until_its_files_are_gone(api: Api) -> None:
    job_id = asked(api)
    assert naming(api, REFERENCE), "or this test sees nothing"
    deleted(api, job_id)
    assert naming(api, REFERENCE, HOOK) == set()
    assert naming(api, job_id) == {api.jobs.keys.erasures, api.jobs.keys.events(job_id)}
    told: Any = api.services.redis.xrange(api.jobs.keys.events(job_id))
    [(_, last)] = told
    assert json.loads(last[b"data"]).keys() == {"state", "attempt", "deaths", "errors", "cancel_requested"}
    assert 0 < api.services.redis.ttl(api.jobs.keys.events(job_id)) <= 300
    swept(api)
    assert naming(api, job_id) == {api.jobs.keys.events(job_id)}


def test_of_a_running_job_nothing_comes_back_from_the_worker_that_was_at_it(api: Api) -> None:
    job_id = asked(api)
    job = api.start(job_id)
    api.jobs.progress(job_id, job.attempt, {"stage": "sampling"}, "data:image/png;base64,AAAA")
    deleted(api, job_id)
    assert naming(api, REFERENCE, HOOK, "base64") == set()
    verbs: list[Callable[[], object]] = [
        lambda: api.jobs.progress(job_id, job.attempt, {"stage": REFERENCE}, REFERENCE),
        lambda: api.jobs.succeed(job_id, job.attempt, {"files": [REFERENCE]}),
        lambda: api.jobs.fail(job_id, job.attempt, {"detail": REFERENCE}, True),
        lambda: api.jobs.died(job_id, job.attempt, "work-horse"),
        lambda: api.jobs.release(job_id, job.attempt),
        lambda: api.jobs.start(job_id, job.attempt, "other"),
    ]
    for verb in verbs:
        with pytest.raises(JobError):
            verb()
    assert api.services.redis.ttl(api.jobs.keys.events(job_id)) > 80_000
    swept(api)
    # It had been stopped for longer than anybody waits, and its last files come only now.
    api.storage.put(f"jobs/{job_id}/1/take-1.mp4", b"late", "video/mp4")
    Lease(api.jobs, job_id, job.attempt).settle(Reason.superseded)
    swept(api)
    assert list(api.storage.list("jobs/")) == []
    left = naming(api, job_id)
    assert left == {api.jobs.keys.events(job_id), f"rq:job:{job.ticket}"}, "a mark, and what RQ's work-horse holds"
    ttl = {key: api.services.redis.ttl(key) for key in left}
    assert 0 < ttl[api.jobs.keys.events(job_id)] <= 300, "shorter once the worker has ended"
    assert 0 < ttl[f"rq:job:{job.ticket}"] <= 3600
    assert naming(api, REFERENCE, HOOK) == set()


def test_files_are_not_erased_because_a_record_is_not_there(api: Api) -> None:
    """As where Redis comes up empty, or from before the job."""
    job_id = asked(api)
    job = api.start(job_id)
    for key in everything(api.services.redis):
        if key != "inbetween:database":
            api.services.redis.delete(key)
    Lease(api.jobs, job_id, job.attempt).settle(Reason.superseded)
    assert api.services.redis.zcard(api.jobs.keys.erasures) == 0
    assert len(list(api.storage.list(f"jobs/{job_id}"))) == 2


@pytest.mark.parametrize("status", [None, 500, 200], ids=["untold", "refused", "told"])
def test_of_a_job_that_is_over_nothing_at_all_is_left(make_api: Make, receiver: Receiver, status: int | None) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1")
    url = f"{receiver.url}/p4711"
    job_id = asked(api, url)
    api.succeed(job_id)
    if status is not None:
        receiver.answers = [(status, {}, b"")]
        delivery = announce(api.jobs, api.settings, got(api, job_id))
        assert delivery is not None
        api.services.webhooks.attempt(delivery, 1, Outbound(["127.0.0.1"]))
        assert naming(api, delivery)
    deleted(api, job_id)
    assert naming(api, REFERENCE, url, "/p4711") == set(), "at once, and not only when the keeper comes by"
    swept(api)
    assert naming(api, job_id, REFERENCE, url, "/p4711") == set()
    assert naming(api, *([delivery] if status is not None else ["msg_"])) == set()
    assert api.client.get("/webhooks/deliveries").json()["deliveries"] == []


def test_the_key_of_a_deleted_job_makes_a_new_one(api: Api) -> None:
    first = asked(api)
    deleted(api, first)
    assert asked(api) != first


def test_a_claim_that_outlived_its_job_makes_a_new_one(api: Api) -> None:
    """One whose job an older version wrote down, which did not keep whose claim it had."""
    first = asked(api)
    api.services.redis.hdel(api.jobs.keys.job(first), "claim")
    deleted(api, first)
    assert naming(api, first) > {api.jobs.keys.erasures}
    second = asked(api)
    assert second != first
    assert asked(api) == second


def test_another_jobs_claim_is_left_alone(api: Api) -> None:
    first = asked(api)
    [claim] = api.services.redis.keys("*:idempotency:*")
    held: Any = api.services.redis.get(claim)
    taken_over = json.loads(held) | {"job": "job_other"}
    api.services.redis.set(claim, json.dumps(taken_over))
    deleted(api, first)
    assert api.services.redis.exists(claim)


def test_an_answer_that_is_late_is_not_kept(api: Api) -> None:
    """The job is deleted between being written down and its request being answered."""
    deliver = api.services.idempotency.answer

    def late(owner: str, key: str, mark: Any, job_id: str, answer: dict[str, Any]) -> None:
        api.jobs.delete(job_id)
        deliver(owner, key, mark, job_id, answer)

    object.__setattr__(api.services.idempotency, "answer", late)
    try:
        asked(api)
    finally:
        del api.services.idempotency.__dict__["answer"]
    assert naming(api, REFERENCE) == set()


def test_an_event_that_is_just_being_handed_over_is_not_kept(api: Api) -> None:
    """A keeper has read the record, and writes the delivery down when the job is gone."""
    job_id = asked(api)
    job = api.succeed(job_id)
    deleted(api, job_id)
    assert announce(api.jobs, api.settings, job) is None
    swept(api)
    assert naming(api, job_id, REFERENCE, HOOK) == set()


def test_a_try_that_is_just_being_made_leaves_nothing(make_api: Make, receiver: Receiver) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1")
    job_id = asked(api, f"{receiver.url}/p4711")
    delivery = announce(api.jobs, api.settings, api.succeed(job_id))
    assert delivery is not None
    take, entered, leave = receiver.take, threading.Event(), threading.Event()

    def slow(request: Any) -> Any:
        entered.set()
        assert leave.wait(30)
        return take(request)

    receiver.take = slow  # type: ignore[method-assign]
    hooks, outbound = api.services.webhooks, Outbound(["127.0.0.1"])
    attempt = threading.Thread(target=hooks.attempt, args=(delivery, 1, outbound))
    attempt.start()
    assert entered.wait(30)
    deleted(api, job_id)
    leave.set()
    attempt.join(30)
    swept(api)
    assert naming(api, job_id, delivery, "/p4711") == set()


def test_what_was_not_forgotten_with_the_job_the_keeper_forgets(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process died between the two."""
    job_id = asked(api)
    announce(api.jobs, api.settings, api.succeed(job_id))
    api.jobs.delete(job_id)
    assert naming(api, REFERENCE), "the delivery"
    swept(api)
    assert naming(api, job_id, REFERENCE, HOOK) == set()


def test_the_uploads_that_a_job_was_made_of_go_with_it(api: Api) -> None:
    uploads = [api.client.post("/uploads", json={"content_type": "image/png", "size": len(photo())}) for _ in range(3)]
    for upload in uploads:
        assert httpx.put(upload.json()["url"], content=photo(), headers=upload.json()["headers"]).is_success
    names = [upload.json()["id"].removeprefix("upload:") for upload in uploads]
    body = {"start": f"upload:{names[0]}", "end": f"upload:{names[1]}", "options": {"method": "flow"}}
    job = api.client.post("/inbetween", json=body)
    assert job.status_code == 202, job.text
    deleted(api, job.json()["id"])
    assert list(api.storage.list("uploads")) == [f"uploads/{names[2]}"]
    problem(api.client.post("/inbetween", json=body), 422, "upload-not-found")


@pytest.mark.parametrize("told", [False, True], ids=["untold", "told"])
def test_of_a_job_that_was_set_going_again_nothing_is_left(api: Api, told: bool) -> None:
    job_id = asked(api)
    job = api.start(job_id)
    api.jobs.fail(job_id, job.attempt, {"type": "x", "detail": REFERENCE}, False)
    api.jobs.redrive(job_id)
    if told:
        announce_due(api.jobs, lambda ended: announce(api.jobs, api.settings, ended))
    deleted(api, job_id)
    swept(api)
    assert naming(api, REFERENCE, HOOK) == set()
    assert naming(api, job_id) == {api.jobs.keys.events(job_id)}, "a worker may still be at an attempt of it"


def test_the_failure_of_a_job_that_is_set_going_again_at_once_is_told(api: Api) -> None:
    job_id = asked(api)
    first = api.start(job_id)
    api.jobs.fail(job_id, first.attempt, {"type": "x", "detail": "once"}, False)
    api.jobs.redrive(job_id)
    second = api.start(job_id)
    api.jobs.succeed(job_id, second.attempt, {})
    told: list[Job] = []

    def tell(job: Job) -> None:
        told.append(job)
        announce(api.jobs, api.settings, job)

    announce_due(api.jobs, tell)
    assert [(job.state, job.attempt) for job in told] == [(State.failed, 1), (State.succeeded, 2)]
    assert told[0].error == {"type": "x", "detail": "once"}
    deliveries = api.client.get("/webhooks/deliveries").json()["deliveries"]
    assert [one["event"] for one in deliveries] == ["inbetween.succeeded", "inbetween.failed"]
    announce_due(api.jobs, tell)
    assert len(told) == 2
    assert api.services.redis.keys("*:ended:*") == []


def test_an_end_that_nothing_is_left_of_is_not_looked_for_for_ever(api: Api) -> None:
    job_id = asked(api)
    api.services.redis.zadd(api.jobs.keys.undelivered, {f"{job_id}-7": 0, "job_gone-1": 0})
    told: list[Job] = []
    announce_due(api.jobs, told.append)
    assert told == []
    assert api.services.redis.zcard(api.jobs.keys.undelivered) == 0
