"""The API beside a Redis that is up and takes no writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.conftest import RedisProcess
from tests.service.conftest import Make, photo


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
