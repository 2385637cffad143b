"""The API beside a Redis that is up and takes no writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from service.api.votes import Vote
from service.auth import Scope
from tests.service.conftest import Make
from trials.pictures import photo
from trials.servers import RedisProcess


@pytest.fixture
def full(redis_process: RedisProcess) -> Iterator[str]:
    with redis.Redis.from_url(redis_process.url) as connection:
        connection.config_set("maxmemory", 1)
        yield redis_process.url


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}])
def test_a_submission_is_told_to_come_back(make_api: Make, full: str, headers: dict[str, str]) -> None:
    api = make_api(redis_url=full)
    files = {"start": ("a.png", photo(), "image/png"), "end": ("b.png", photo(colour="teal"), "image/png")}
    answer = api.client.post("/inbetween", files=files, data={"options": '{"method": "flow"}'}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert list(api.storage.list("jobs/")) == []


@pytest.mark.parametrize("auth", ["off", "keys"])
def test_what_reads_and_what_makes_room_works_while_redis_is_full(
    make_api: Make, redis_process: RedisProcess, auth: str
) -> None:
    """With the limit on requests of the default, which counts in Redis."""
    api = make_api(redis_url=redis_process.url, auth=auth)
    _, secret = api.services.keys.create("ann", list(Scope))
    api.client.headers["Authorization"] = f"Bearer {secret}"
    ended, queued, running = (api.submit({"method": "flow"})["id"] for _ in range(3))
    api.succeed(ended)
    api.start(running)
    api.services.votes.cast(api.services.keys.list()[0].owner, "s", Vote("v", (ended,), ("flow",), (), ()))
    api.services.redis.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        api.services.redis.set("x", "y")
    for path in (f"/inbetween/{ended}", "/inbetween", f"/inbetween/{ended}/files/metadata.json", "/methods", "/votes"):
        assert api.client.get(path, follow_redirects=True).status_code == 200, path
    api.services.traffic.count("/inbetween", "GET", 200, 0.1)
    metrics = api.client.get("/metrics")
    assert metrics.status_code == 200
    assert "inbetween_jobs_running" in metrics.text
    assert api.client.get("/readyz").status_code == 200
    assert api.client.delete("/votes?study=s").status_code == 204
    assert api.client.post(f"/inbetween/{queued}/cancel").json()["state"] == "canceled"
    for job_id in (ended, queued, running):
        assert api.client.delete(f"/inbetween/{job_id}").status_code == 204
    assert api.post({"method": "flow"}).status_code == 503
    api.services.redis.config_set("maxmemory", 0)
    api.services.traffic.flush()
    assert 'http_requests_total{route="/inbetween",method="GET",status="200"}' in api.jobs.counters()
