"""Claims of an `Idempotency-Key`: kept alive, found dead, taken over, and lost by whoever was merely stopped."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from service.api.intake.fingerprint import Fingerprint
from service.api.intake.idempotency import STALE, Idempotency, Replay
from service.jobs.record import NewJob, Refused, new_id
from service.jobs.store import Jobs
from service.problems import Problem
from service.settings import ServiceSettings
from tests.service.conftest import Api, problem

SOON = 20.0
PRINT = Fingerprint("asked", "meant", "before")
ANOTHER = Fingerprint("other asked", "other meant", "other before")


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None))


@pytest.fixture
def claims(jobs: Jobs) -> Idempotency:
    return Idempotency(jobs.redis, jobs.settings, lambda job_id: jobs.get(job_id) is not None, stale=1.0)


def life(claims: Idempotency) -> str:
    return f"{claims.name('ann', 'abc')}:alive"


def new(job_id: str) -> NewJob:
    return NewJob("ann", {}, [], "cpu", result_ttl=600, id=job_id)


def in_flight(claims: Idempotency) -> None:
    with pytest.raises(Problem) as caught:
        claims.claim("ann", "abc", PRINT, new_id())
    assert caught.value.slug == "idempotency-in-flight"


def test_a_claim_is_kept_alive_while_its_request_is_worked_on(jobs: Jobs, claims: Idempotency) -> None:
    first = new_id()
    assert claims.claim("ann", "abc", PRINT, first) is None
    assert 0 < jobs.redis.pttl(life(claims)) <= 1000
    in_flight(claims)
    with claims.alive("ann", "abc", first):
        for _ in range(2):
            # Even after an outage that outlasted it, as long as nobody else has claimed the key.
            jobs.redis.delete(life(claims))
            deadline = time.monotonic() + SOON
            while not jobs.redis.exists(life(claims)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            in_flight(claims)


def test_a_claim_that_nobody_keeps_alive_is_taken_over_and_its_job_can_no_longer_be_made(
    jobs: Jobs, claims: Idempotency
) -> None:
    first, second = new_id(), new_id()
    assert claims.claim("ann", "abc", PRINT, first) is None
    jobs.redis.delete(life(claims))
    assert claims.claim("ann", "abc", PRINT, second) is None
    with pytest.raises(Refused, match="taken-over"):
        jobs.submit(new(first), claim=claims.name("ann", "abc"))
    assert jobs.get(first) is None
    claims.release("ann", "abc", first)
    claims.answer("ann", "abc", PRINT, first, {"id": first})
    in_flight(claims)
    jobs.submit(new(second), claim=claims.name("ann", "abc"))
    claims.answer("ann", "abc", PRINT, second, {"id": second})
    assert claims.claim("ann", "abc", PRINT, new_id()) == Replay(second, {"id": second})


def test_a_claim_whose_job_exists_is_never_taken_over(jobs: Jobs, claims: Idempotency) -> None:
    """The process ended after the job was written down, and before it had answered."""
    first = new_id()
    assert claims.claim("ann", "abc", PRINT, first) is None
    jobs.submit(new(first), claim=claims.name("ann", "abc"))
    jobs.redis.delete(life(claims))
    assert claims.claim("ann", "abc", PRINT, new_id()) == Replay(first, None)


def test_a_dead_claim_is_not_for_another_request(jobs: Jobs, claims: Idempotency) -> None:
    claims.claim("ann", "abc", PRINT, new_id())
    jobs.redis.delete(life(claims))
    with pytest.raises(Problem) as caught:
        claims.claim("ann", "abc", ANOTHER, new_id())
    assert caught.value.slug == "idempotency-key-reused"


@pytest.mark.parametrize(
    "again", [replace(ANOTHER, asked="asked"), replace(ANOTHER, meant="meant")], ids=["asked", "meant"]
)
def test_a_dead_claim_is_for_a_request_that_is_the_same_by_either_print(
    jobs: Jobs, claims: Idempotency, again: Fingerprint
) -> None:
    claims.claim("ann", "abc", PRINT, new_id())
    jobs.redis.delete(life(claims))
    assert claims.claim("ann", "abc", again, new_id()) is None


def test_a_dead_claim_of_the_version_before_is_for_the_request_that_it_printed(jobs: Jobs, claims: Idempotency) -> None:
    jobs.redis.set(claims.name("ann", "abc"), json.dumps({"fingerprint": "before", "job": new_id()}))
    with pytest.raises(Problem) as caught:
        claims.claim("ann", "abc", replace(PRINT, before="other before"), new_id())
    assert caught.value.slug == "idempotency-key-reused"
    assert claims.claim("ann", "abc", PRINT, new_id()) is None


def test_without_its_claim_a_job_is_not_made(jobs: Jobs, claims: Idempotency) -> None:
    with pytest.raises(Refused, match="taken-over"):
        jobs.submit(new(new_id()), claim=claims.name("ann", "abc"))


def test_a_request_that_was_stopped_makes_no_second_job(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two API processes: the first is stopped while it stores the images, and goes on when the second has answered."""
    monkeypatch.setattr(Idempotency, "_keep_alive", lambda *_: None)  # as in a process that is stopped
    stopped, going = make_api(), make_api()
    entered, leave = threading.Event(), threading.Event()
    put = stopped.storage.put

    def wait(key: str, *arguments: Any) -> None:
        if key.startswith("jobs/"):
            entered.set()
            assert leave.wait(SOON)
        put(key, *arguments)

    monkeypatch.setattr(stopped.storage, "put", wait)
    headers, answers = {"Idempotency-Key": "abc"}, []
    first = threading.Thread(target=lambda: answers.append(stopped.post({"method": "flow"}, headers=headers)))
    first.start()
    assert entered.wait(SOON)
    problem(going.post({"method": "flow"}, headers=headers), 409, "idempotency-in-flight")
    connection = going.services.redis
    [alive] = connection.keys("*:alive")
    found: Any = connection.get(alive)
    left = found.decode()
    assert 0 < connection.ttl(alive) <= STALE
    connection.delete(alive)
    made = going.submit({"method": "flow"}, headers=headers)["id"]
    leave.set()
    first.join(SOON)
    problem(answers[0], 409, "idempotency-in-flight")
    assert [job["id"] for job in going.client.get("/inbetween").json()["jobs"]] == [made]
    assert connection.zscore(going.jobs.keys.erasures, left) <= going.jobs.now(), "its images are erased at once"
    assert stopped.submit({"method": "flow"}, headers=headers)["id"] == made


def test_a_client_closed_under_a_renewal_matters_only_while_the_request_lasts(
    claims: Idempotency, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(claims, "_stale", 0.0)

    def closed(**_: object) -> None:
        raise ValueError("I/O operation on closed file.")

    def closed_after(**_: object) -> None:
        over.set()
        closed()

    monkeypatch.setattr(claims, "_renew", closed)
    with pytest.raises(ValueError, match="closed file"):
        claims._keep_alive("name", "job", over)
    monkeypatch.setattr(claims, "_renew", closed_after)
    claims._keep_alive("name", "job", over)
