"""What a key may ask for: requests a minute, jobs under way, GPU-seconds a day, room in the queue."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
import redis

from service.api.edge import fairness
from service.auth import Scope
from service.fleet import engines
from service.jobs.reconcile import erase_due
from service.jobs.record import Allowance, Job, NewJob, Refused, State
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from tests.service.conftest import Api, Make, problem
from tests.service.test_api_submit import ENGINE
from trials.pictures import photo
from trials.servers import RedisProcess

Call = Callable[..., httpx.Client]

FLOW = {"method": "flow"}
SECONDS = 65 * 0.01 * (1024 * 576 / 1e6) * 25
"""Of GPU, for a job with the default options on ENGINE."""


@pytest.fixture(autouse=True)
def _refusals_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "HELD_SECONDS", 0.0)


@pytest.fixture
def call() -> Iterator[Call]:
    """Make a client with a key of its own, whose limits may be its own too."""
    with ExitStack() as stack:

        def make(api: Api, *scopes: Scope, owner: str | None = None, **own: Any) -> httpx.Client:
            _, secret = api.services.keys.create("test", scopes or (Scope.submit, Scope.read), owner, **own)
            headers = {"Authorization": f"Bearer {secret}"}
            return stack.enter_context(httpx.Client(base_url=api.url, headers=headers, timeout=60))

        yield make


def post(
    client: httpx.Client, options: dict[str, Any] | None = None, path: str = "/inbetween", **headers: str
) -> httpx.Response:
    files = {"start": ("a.png", photo(), "image/png"), "end": ("b.png", photo(), "image/png")}
    return client.post(path, files=files, data={"options": json.dumps(options or {})}, headers=headers)


def together(count: int, ask: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """All at once, as far as a machine can."""
    ready = threading.Barrier(count)

    def go(_: int) -> httpx.Response:
        ready.wait(30)
        return ask()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(go, range(count)))


def item(value: str) -> tuple[str, dict[str, int]]:
    """A list of one string with integer parameters, as RFC 9651 writes it."""
    match = re.fullmatch(r'"([a-z-]+)"((?:;[a-z]+=[0-9]{1,15})+)', value)
    assert match, value
    parameters = (part.split("=") for part in match[2].removeprefix(";").split(";"))
    return match[1], {name: int(number) for name, number in parameters}


# Requests


def test_every_answer_to_a_key_says_what_is_left(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", rate_limit=50)
    reader = call(api, Scope.read)
    asked = [
        (reader.get("/inbetween"), 200),
        (reader.get("/inbetween/job_x"), 404),
        (reader.get("/inbetween?limit=0"), 422),
        (reader.post("/uploads", json={"content_type": "image/png", "size": 5}), 403),
        (reader.get("/events?ids=job_x"), 404),
    ]
    for number, (answer, status) in enumerate(asked, 1):
        assert answer.status_code == status
        assert item(answer.headers["ratelimit-policy"]) == ("requests", {"q": 50, "w": 60})
        name, left = item(answer.headers["ratelimit"])
        assert (name, left["r"]) == ("requests", 50 - number)
        assert 1 <= left["t"] <= 60
    for path in ("/livez", "/openapi.json", "/inbetween"):
        assert "ratelimit" not in api.client.get(path).headers, "no key, no quota"


def test_of_a_burst_as_many_pass_as_may_and_another_key_notices_nothing(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", rate_limit=10)
    ann, bob = call(api), call(api)
    answers = together(30, lambda: ann.get("/inbetween"))
    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 20}
    assert bob.get("/inbetween").status_code == 200
    [late, *_] = [answer for answer in answers if answer.status_code == 429]
    body = problem(late, 429, "rate-limited")
    assert (body["limit"], body["field"]) == (10, "Authorization")
    assert 1 <= int(late.headers["retry-after"]) <= 60
    assert item(late.headers["ratelimit"])[1] == {"r": 0, "t": int(late.headers["retry-after"])}


def test_the_window_slides(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", rate_limit=10)
    ann = call(api)
    assert [ann.get("/inbetween").status_code for _ in range(11)] == [200] * 10 + [429]
    [window] = api.services.redis.keys("inbetween:rate:*")
    # The window with the ten ended half a minute ago: five of them still count.
    api.services.redis.pexpire(window, 30_500)
    assert [ann.get("/inbetween").status_code for _ in range(6)] == [200] * 5 + [429]
    for name in api.services.redis.keys("inbetween:rate:*"):
        api.services.redis.delete(name)
    assert ann.get("/inbetween").status_code == 200


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.post("/uploads", json={"content_type": "image/png", "size": 5}),
        lambda client: post(client, FLOW, "/inbetween/estimate"),
        lambda client: post(client, FLOW),
        lambda client: client.get("/dead-letters"),
    ],
    ids=["uploads", "estimate", "submissions", "what the key may not do"],
)
def test_every_request_counts(make_api: Make, call: Call, ask: Callable[[httpx.Client], httpx.Response]) -> None:
    api = make_api(auth="keys", rate_limit=1)
    client = call(api)
    assert ask(client).status_code in (200, 201, 202, 403)
    answer = ask(client)
    problem(answer, 429, "rate-limited")


def test_a_key_may_have_limits_of_its_own(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", rate_limit=2, max_active_jobs=1)
    large, free = call(api, rate=5, active_jobs=2), call(api, rate=0, active_jobs=0)
    assert item(large.get("/inbetween").headers["ratelimit-policy"])[1]["q"] == 5
    assert [post(large, FLOW).status_code for _ in range(3)] == [202, 202, 429]
    answers = [free.get("/inbetween") for _ in range(6)]
    assert {(answer.status_code, "ratelimit" in answer.headers) for answer in answers} == {(200, False)}
    assert [post(free, FLOW).status_code for _ in range(3)] == [202] * 3


def test_without_keys_there_are_no_limits_but_those_asked_for(make_api: Make) -> None:
    assert "ratelimit" not in make_api().client.get("/inbetween").headers
    api = make_api(rate_limit=2, max_active_jobs=1)
    assert api.post(FLOW).status_code == 202
    problem(api.post(FLOW), 429, "too-many-jobs")
    problem(api.post(FLOW), 429, "rate-limited")


def test_redis_away_lets_nobody_through(make_api: Make, call: Call, redis_process: RedisProcess) -> None:
    api = make_api(auth="keys", redis_url=redis_process.url)
    client = call(api)
    assert client.get("/inbetween").status_code == 200
    redis_process.kill()
    problem(client.get("/inbetween"), 503, "unavailable")


def test_a_refusal_for_too_many_requests_comes_late(
    make_api: Make, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(auth="keys", rate_limit=1)
    client = call(api)
    client.get("/inbetween")
    monkeypatch.setattr(fairness, "HELD_SECONDS", 0.3)
    began = time.monotonic()
    answers = together(8, lambda: client.get("/inbetween"))
    assert {answer.status_code for answer in answers} == {429}
    assert time.monotonic() - began >= 0.3
    monkeypatch.setattr(fairness, "MOST_HELD", 0)
    monkeypatch.setattr(fairness, "HELD_SECONDS", 600)
    problem(client.get("/inbetween"), 429, "rate-limited")


# Jobs under way


def test_of_many_submissions_at_once_as_many_pass_as_may(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", max_active_jobs=3)
    ann, bob = call(api, owner="ann"), call(api, owner="bob")
    answers = together(12, lambda: post(ann, FLOW))
    assert Counter(answer.status_code for answer in answers) == {202: 3, 429: 9}
    [refused, *_] = [answer for answer in answers if answer.status_code == 429]
    body = problem(refused, 429, "too-many-jobs")
    assert (body["active"], body["limit"]) == (3, 3)
    assert int(refused.headers["retry-after"]) > 0
    assert item(refused.headers["ratelimit"])[0] == "requests"
    problem(post(call(api, owner="ann"), FLOW), 429, "too-many-jobs")
    assert post(bob, FLOW).status_code == 202
    erase_due(api.jobs, api.storage)
    kept = {key.split("/")[1] for key in api.storage.list("jobs")}
    assert len(kept) == 4, "nothing stays of what was refused"


def test_estimates_tell_of_limits_and_promise_nothing(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", max_active_jobs=1)
    client = call(api)
    for _ in range(2):
        assert post(client, FLOW, "/inbetween/estimate").json()["accepted"]
    post(client, FLOW)
    answer = post(client, FLOW, "/inbetween/estimate").json()
    assert [refusal["type"] for refusal in answer["refusals"]] == ["/problems/too-many-jobs"]
    assert not answer["accepted"]


def test_a_repeated_request_gets_its_first_answer_whatever_is_full(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", max_active_jobs=1, max_queue=1)
    client = call(api)
    named = {"Idempotency-Key": "one"}
    first = post(client, FLOW, **named)
    again = post(client, FLOW, **named)
    assert (first.status_code, again.status_code) == (202, 202)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    other = {"Idempotency-Key": "two"}
    problem(post(client, FLOW, **other), 429, "too-many-jobs")
    client.post(f"/inbetween/{first.json()['id']}/cancel")
    assert post(client, FLOW, **other).status_code == 202, "a refusal is not remembered"
    limited = make_api(auth="keys", rate_limit=1)
    client = call(limited)
    assert client.get("/inbetween").status_code == 200
    problem(post(client, FLOW, **named), 429, "rate-limited")


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, max_deaths=1))


def new(seconds: float | None = None) -> NewJob:
    return NewJob("ann", {}, [], "gpu", result_ttl=0, gpu_seconds=seconds)


def started(jobs: Jobs, job: Job) -> Job:
    return jobs.start(job.id, job.attempt, "this-1")


PROBLEM = {"type": "/problems/generation-failed", "status": 500}
ENDINGS: dict[str, Callable[[Jobs, Job], object]] = {
    "success": lambda jobs, job: jobs.succeed(job.id, started(jobs, job).attempt, {}),
    "failure": lambda jobs, job: jobs.fail(job.id, started(jobs, job).attempt, PROBLEM, False),
    "quarantine": lambda jobs, job: jobs.died(job.id, started(jobs, job).attempt, "lease"),
    "cancel while queued": lambda jobs, job: jobs.cancel(job.id),
    "cancel while running": lambda jobs, job: (
        started(jobs, job),
        jobs.cancel(job.id),
        jobs.stopped(job.id, job.attempt),
    ),
    "deletion while queued": lambda jobs, job: jobs.delete(job.id),
    "deletion while running": lambda jobs, job: jobs.delete(started(jobs, job).id),
    "expiry": lambda jobs, job: (jobs.cancel(job.id), jobs.expire(job.id)),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_however_a_job_ends_its_place_is_free_again(jobs: Jobs, ending: str) -> None:
    allowance = Allowance(active_jobs=1, gpu_seconds=10, queue=1)
    job = jobs.submit(new(8), allowance)
    for refused in (lambda: jobs.submit(new(8), allowance), lambda: jobs.admit("ann", "gpu", 8, allowance)):
        with pytest.raises(Refused):
            refused()
    ENDINGS[ending](jobs, job)
    jobs.admit("ann", "gpu", 8, allowance)
    assert jobs.submit(new(8), allowance).state is State.queued


def test_a_job_that_goes_back_to_the_queue_keeps_its_place_and_is_never_refused(jobs: Jobs) -> None:
    allowance = Allowance(active_jobs=1, gpu_seconds=10, queue=1)
    job = started(jobs, jobs.submit(new(8), allowance))
    other = jobs.submit(replace(new(8), owner="bob"), allowance)
    assert jobs.release(job.id, job.attempt).state is State.queued
    with pytest.raises(Refused, match="too-many-jobs"):
        jobs.submit(new(8), allowance)
    failed = jobs.fail(other.id, started(jobs, other).attempt, PROBLEM, False)
    assert jobs.redrive(failed.id).state is State.queued
    with pytest.raises(Refused, match="gpu-seconds-spent"):
        jobs.admit("bob", "gpu", 8, replace(allowance, active_jobs=0))


def test_a_submission_sent_twice_by_the_driver_counts_once(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "the-same-call")
    allowance = Allowance(active_jobs=1, gpu_seconds=10)
    request = new(8)
    assert jobs.submit(request, allowance) == jobs.submit(request, allowance)
    assert jobs.redis.get(jobs.keys.gpu_promised("ann")) == b"8000"


# GPU-seconds


def used(jobs: Jobs, owner: str = "ann") -> float:
    return float(jobs.redis.get(jobs.keys.gpu_used(owner, int(jobs.now() // 86400))) or 0) / 1000


def test_the_day_is_charged_with_what_a_job_really_took(jobs: Jobs) -> None:
    job = started(jobs, jobs.submit(new(8)))
    jobs.progress(job.id, job.attempt, {}, gpu_seconds=3.5)
    assert used(jobs) == 0
    jobs.succeed(job.id, job.attempt, {"gpu_seconds": 5.25})
    jobs.succeed(job.id, job.attempt, {"gpu_seconds": 5.25})
    assert used(jobs) == 5.25
    assert jobs.redis.get(jobs.keys.gpu_promised("ann")) is None
    endings: list[Callable[[Job], object]] = [
        lambda job: jobs.stopped(job.id, job.attempt),
        lambda job: jobs.delete(job.id),
    ]
    for ending in endings:
        job = started(jobs, jobs.submit(new(8)))
        jobs.progress(job.id, job.attempt, {}, gpu_seconds=1.5)
        jobs.cancel(job.id)
        ending(job)
    assert used(jobs) == 8.25, "cancelling gives back what was not used, and nothing else"
    day = jobs.keys.gpu_used("ann", int(jobs.now() // 86400))
    assert 86400 < jobs.redis.ttl(day) <= 2 * 86400


def test_an_attempt_that_was_given_back_is_not_charged(jobs: Jobs) -> None:
    job = started(jobs, jobs.submit(new(8)))
    jobs.progress(job.id, job.attempt, {}, gpu_seconds=7)
    again = started(jobs, jobs.release(job.id, job.attempt))
    assert used(jobs) == 0
    jobs.progress(again.id, again.attempt, {}, gpu_seconds=2)
    jobs.fail(again.id, again.attempt, PROBLEM, False)
    assert used(jobs) == 2
    job = started(jobs, jobs.submit(new(8)))
    jobs.progress(job.id, job.attempt, {}, gpu_seconds=7)
    jobs.cancel(jobs.release(job.id, job.attempt).id)
    assert used(jobs) == 2


def test_jobs_under_way_count_with_their_estimates(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", gpu_seconds_per_day=2.5 * SECONDS)
    engines.publish(api.services.redis, api.settings, ENGINE)
    ann, bob = call(api), call(api)
    answers = together(6, lambda: post(ann))
    assert Counter(answer.status_code for answer in answers) == {202: 2, 429: 4}
    [refused, *_] = [answer for answer in answers if answer.status_code == 429]
    body = problem(refused, 429, "gpu-seconds-spent")
    assert (body["used"], body["limit"]) == (0, 2.5 * SECONDS)
    assert body["promised"] == pytest.approx(2 * SECONDS, abs=0.01)
    assert body["estimate"] == pytest.approx(SECONDS, abs=0.01)
    assert 0 < int(refused.headers["retry-after"]) <= 86400
    assert post(ann, FLOW).status_code == 202, "flow needs no GPU"
    assert post(bob).status_code == 202


def test_what_was_used_today_counts_and_yesterday_does_not(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", gpu_seconds_per_day=1000)
    client = call(api)
    [key] = api.services.keys.list()
    today = int(api.jobs.now() // 86400)
    api.services.redis.set(api.jobs.keys.gpu_used(key.owner, today - 1), 5_000_000)
    assert post(client).status_code == 202, "no engine, no estimate: what was used decides"
    api.services.redis.set(api.jobs.keys.gpu_used(key.owner, today), 999_999)
    assert post(client).status_code == 202
    api.services.redis.set(api.jobs.keys.gpu_used(key.owner, today), 1_000_000)
    body = problem(post(client), 429, "gpu-seconds-spent")
    assert (body["used"], body["estimate"]) == (1000, None)


def test_a_job_larger_than_a_day_is_told_so(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys")
    engines.publish(api.services.redis, api.settings, ENGINE)
    client = call(api, gpu_seconds=10)
    answer = post(client, {"seeds": [1, 2]})
    body = problem(answer, 422, "beyond-allowance")
    assert body["estimate"] == pytest.approx(2 * SECONDS, abs=0.01)
    assert (body["limit"], body["field"]) == (10, "options")
    assert "retry-after" not in answer.headers
    assert post(client).status_code == 202


# The queue


def test_a_full_queue_says_so_and_takes_no_more(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", max_queue=3)
    ann, bob = call(api), call(api)
    answers = together(9, lambda: post(ann, FLOW))
    assert Counter(answer.status_code for answer in answers) == {202: 3, 503: 6}
    refused = post(bob, FLOW)
    body = problem(refused, 503, "queue-full")
    assert (body["queued"], body["wait_seconds"]) == (3, None), "nobody knows how long flow jobs take"
    assert refused.headers["retry-after"] == "30"
    assert post(bob).status_code == 202, "each lane has a queue of its own"
    [taken, *_] = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    api.start(taken)
    assert post(bob, FLOW).status_code == 202, "a running job is not in the queue"


def test_a_full_queue_says_when_there_may_be_room_where_speed_was_measured(make_api: Make) -> None:
    api = make_api(max_queue=1)
    running = api.start(api.submit()["id"])
    api.submit()
    assert problem(api.post(), 503, "queue-full")["wait_seconds"] is None
    engines.publish(api.services.redis, api.settings, ENGINE)
    api.jobs.progress(running.id, running.attempt, {"fraction": 0.5})
    answer = api.post()
    assert problem(answer, 503, "queue-full")["wait_seconds"] == pytest.approx(SECONDS / 2, abs=0.1)
    assert answer.headers["retry-after"] == "5"
    files = {"start": photo(), "end": photo()}
    estimate = api.client.post("/inbetween/estimate", files=files).json()
    assert [refusal["type"] for refusal in estimate["refusals"]] == ["/problems/queue-full"]
    engines.publish(api.services.redis, api.settings, replace(ENGINE, seconds_per_call=None))
    assert problem(api.post(), 503, "queue-full")["wait_seconds"] is None
