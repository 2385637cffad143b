"""A sweep over many owners' items goes on from whatever one of them raises, and stops at an outage."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from structlog.testing import capture_logs

from service.jobs.store import Jobs
from service.jobs.sweeps import MOST_OUTAGES, POSTPONED_SECONDS
from service.settings import ServiceSettings
from service.storage import StorageUnavailable


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Jobs]:
    with redis.Redis.from_url(redis_url) as connection:
        yield Jobs(connection, ServiceSettings(_env_file=None, redis_url=redis_url))


def raising(errors: dict[str, Exception], done: list[str]) -> Callable[[str], None]:
    def work(item: str) -> None:
        if item in errors:
            raise errors[item]
        done.append(item)

    return work


def test_one_item_keeps_no_other_from_its_turn(jobs: Jobs) -> None:
    done: list[str] = []
    last: list[str] = []
    work = raising({"b": ValueError("Invalid IPv6 URL"), "d": redis.ResponseError("WRONGTYPE")}, done)
    with capture_logs() as logged:
        assert jobs.sweeps.each("announce", "abcde", work, last.append) == 3
    assert (done, last) == (["a", "c", "e"], ["b", "d"])
    assert [(entry["item"], entry["sweep"], entry["log_level"]) for entry in logged] == [
        ("b", "announce", "error"),
        ("d", "announce", "error"),
    ]
    assert jobs.counters() == {'sweep_faults_total{sweep="announce"}': 2}


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), redis.ResponseError("OOM command not allowed")])
def test_an_outage_of_redis_ends_it_at_once(jobs: Jobs, error: Exception) -> None:
    done: list[str] = []
    last: list[str] = []
    with pytest.raises(type(error)):
        jobs.sweeps.each("announce", "abc", raising({"b": error}, done), last.append)
    assert (done, last, jobs.counters()) == (["a"], [], {})


def test_a_storage_that_fails_for_one_item_is_told_when_the_others_are_done(jobs: Jobs) -> None:
    done: list[str] = []
    last: list[str] = []
    with pytest.raises(StorageUnavailable, match="stuck"):
        jobs.sweeps.each("erase", "abc", raising({"a": StorageUnavailable("stuck")}, done), last.append)
    assert (done, last, jobs.counters()) == (["b", "c"], ["a"], {})


def test_a_storage_that_is_away_is_not_asked_for_every_item(jobs: Jobs) -> None:
    last: list[str] = []
    errors: dict[str, Exception] = dict.fromkeys("abcdefgh", StorageUnavailable("away"))
    with pytest.raises(StorageUnavailable):
        jobs.sweeps.each("erase", "abcdefgh", raising(errors, []), last.append)
    assert last == list("abcdefgh")[:MOST_OUTAGES]


def test_what_is_put_last_is_due_later_and_stays_out_when_it_has_gone(jobs: Jobs) -> None:
    jobs.redis.zadd("due", {"poison": 1, "next": 2})
    put_last = jobs.sweeps.postpone_in("due")
    put_last("poison")
    put_last("gone")
    assert jobs.redis.zrange("due", 0, -1) == [b"next", b"poison"]
    assert jobs.redis.zscore("due", "poison") == pytest.approx(jobs.now() + POSTPONED_SECONDS, abs=5)
