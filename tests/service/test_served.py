"""A namespace serves one model; another comes only when it is told to, or when nobody is there and nothing waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from service.jobs.record import PRIORITIES, NewJob, Priority
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from worker.engine.served import FRESH_SECONDS, GAP_SECONDS, Served, model_name

ONE, OTHER, THIRD = "svd-xt@a", "svd-xt@b", "sprites@c"


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def served(connection: redis.Redis, change: bool = False) -> Served:
    return Served(connection, ServiceSettings(_env_file=None, model_change=change))


def unseen(connection: redis.Redis, model: str) -> None:
    """As if the model's last engine had ended a while ago."""
    connection.hincrby("inbetween:models", model, -FRESH_SECONDS)


def waited(connection: redis.Redis, model: str, until: int = 0) -> None:
    """As if it had asked again and again for as long as it must, up to so many seconds ago."""
    now = connection.time()[0]
    connection.hset("inbetween:models-asking", model, f"{now - FRESH_SECONDS - until} {now - until}")


def submit(connection: redis.Redis, lane: str = "gpu") -> Jobs:
    jobs = Jobs(connection, ServiceSettings(_env_file=None))
    jobs.submit(NewJob("ann", {}, [], lane, 600))  # type: ignore[arg-type]
    return jobs


def test_a_model_without_a_revision_is_its_name() -> None:
    assert [model_name("svd-xt", revision) for revision in ("a", None)] == [ONE, "svd-xt"]


def test_the_first_one_names_it_and_another_is_refused(connection: redis.Redis) -> None:
    assert [served(connection).refusal(name) for name in (ONE, ONE)] == [None, None]
    for other in (OTHER, THIRD):
        refusal = served(connection).refusal(other)
        assert refusal is not None
        assert {other, ONE} <= {word.strip(",:") for word in refusal.split()}
        assert "MODEL_CHANGE" in refusal
    assert served(connection).refusal(ONE) is None


def test_a_change_lets_the_old_ones_go_on_until_they_end(connection: redis.Redis) -> None:
    served(connection).refusal(ONE)
    assert served(connection, change=True).refusal(OTHER) is None
    for _ in range(2):
        assert served(connection).refusal(ONE) is None, "it was there before"
    assert served(connection).refusal(OTHER) is None, "now without being told"
    assert served(connection).refusal(THIRD) is not None
    unseen(connection, ONE)
    assert served(connection).refusal(ONE) is not None, "once gone, it does not come back"


@pytest.mark.parametrize("lane", ["gpu", "cpu", None])
def test_a_model_that_nobody_has_makes_way_when_no_job_waits_for_it(connection: redis.Redis, lane: str | None) -> None:
    served(connection).refusal(ONE)
    jobs = submit(connection, lane) if lane is not None else None
    assert served(connection).refusal(OTHER) is not None
    unseen(connection, ONE)
    assert served(connection).refusal(OTHER) is not None, "it may come back"
    waited(connection, OTHER)
    assert (served(connection).refusal(OTHER) is None) is (lane != "gpu")
    if jobs is not None and lane == "gpu":
        [job] = jobs.list("ann", 1).jobs
        jobs.start(job.id, 1, "horse")
        assert served(connection).refusal(OTHER) is not None, "nor while one runs"
        jobs.succeed(job.id, 1, {})
        waited(connection, OTHER)
        assert served(connection).refusal(OTHER) is None


@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_job_of_any_priority_is_one_that_waits(connection: redis.Redis, priority: Priority) -> None:
    served(connection).refusal(ONE)
    jobs = Jobs(connection, ServiceSettings(_env_file=None))
    jobs.submit(NewJob("ann", {}, [], "gpu", 600, priority=priority))
    unseen(connection, ONE)
    waited(connection, OTHER)
    assert served(connection).refusal(OTHER) is not None


@pytest.mark.parametrize("meanwhile", ["there was an outage", "another engine is there", "it asked only now"])
def test_a_model_that_is_away_for_a_while_stays_the_one_served(connection: redis.Redis, meanwhile: str) -> None:
    served(connection).refusal(ONE)
    served(connection).refusal(OTHER)
    unseen(connection, ONE)
    waited(connection, OTHER, until=GAP_SECONDS + 5 if meanwhile == "there was an outage" else 0)
    if meanwhile == "it asked only now":
        connection.hdel("inbetween:models-asking", OTHER)
    for _ in range(2):
        assert served(connection).refusal(OTHER, accompanied=meanwhile == "another engine is there") is not None
    assert served(connection).refusal(ONE) is None
