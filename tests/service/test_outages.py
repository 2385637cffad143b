"""Commands that are sent again until Redis has done them, through whatever keeps it from doing so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.backoff import AbstractBackoff, ConstantBackoff

from service.database.connections import connect
from service.database.outages import OutageRetry, is_outage
from service.settings import ServiceSettings
from tests.redis.servers import until
from trials.servers import RedisProcess

NOWHERE = ("127.0.0.1", 1)


@pytest.fixture
def patient(redis_process: RedisProcess) -> Iterator[redis.Redis]:
    """A connection that repeats its commands."""
    retry = OutageRetry(ConstantBackoff(0.05), 400)
    with connect(ServiceSettings(_env_file=None, redis_url=redis_process.url), timeout=None, retry=retry) as connection:
        yield connection


@pytest.fixture
def admin(redis_process: RedisProcess) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_process.url) as connection:
        yield connection


@pytest.fixture
def aside() -> Iterator[Callable[..., Future[Any]]]:
    """Calls something in a thread."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit


def refused(connection: redis.Redis, code: str) -> bool:
    told: Any = connection.info("errorstats")
    return bool(told.get(f"errorstat_{code}", {}).get("count", 0))


@pytest.mark.parametrize(
    ("setting", "bad", "good", "code"),
    [("maxmemory", 1, 0, "OOM"), ("min-replicas-to-write", 1, 0, "NOREPLICAS")],
)
def test_a_write_waits_until_it_is_taken(
    patient: redis.Redis,
    admin: redis.Redis,
    aside: Callable[..., Future[Any]],
    setting: str,
    bad: int,
    good: int,
    code: str,
) -> None:
    admin.config_set(setting, bad)
    written = aside(patient.set, "greeting", "hello")
    until(f"{code} is answered", lambda: refused(admin, code))
    admin.config_set(setting, good)
    assert written.result() is True


def test_who_waits_for_work_waits_on_when_the_primary_is_demoted(
    patient: redis.Redis, admin: redis.Redis, aside: Callable[..., Future[Any]]
) -> None:
    popped = aside(patient.blpop, ["line"], 30)
    until("it waits", lambda: admin.info("clients")["blocked_clients"] == 1)
    admin.replicaof(*NOWHERE)
    until("it is sent away", lambda: refused(admin, "UNBLOCKED"))
    admin.replicaof("NO", "ONE")
    admin.rpush("line", "first")
    assert popped.result() == (b"line", b"first")


HOG = "local t = redis.call('TIME')[1]; while true do t = t + 1 end"


def test_a_server_that_is_busy_with_somebodys_script_is_waited_for(
    admin: redis.Redis, aside: Callable[..., Future[Any]], redis_process: RedisProcess
) -> None:
    admin.config_set("lua-time-limit", 1)
    told: list[int] = []

    class Told(AbstractBackoff):
        """redis-py copies it for each connection."""

        def compute(self, failures: int) -> float:
            told.append(failures)
            return 0.01

    settings = ServiceSettings(_env_file=None, redis_url=redis_process.url)
    with (
        redis.Redis.from_url(redis_process.url) as hog,
        connect(settings, retry=OutageRetry(Told(), 10_000)) as patient,
        ThreadPoolExecutor(1) as thread,
    ):
        running = thread.submit(hog.eval, HOG, 0)
        found: list[redis.ResponseError] = []

        def busy() -> bool:
            try:
                admin.ping()
            except redis.ResponseError as error:
                found.append(error)
            return bool(found)

        until("it is busy", busy)
        assert is_outage(found[0])
        written = aside(patient.set, "greeting", "hello")
        until("it was told so", lambda: len(told) > 1)
        admin.script_kill()
        assert written.result() is True
        assert running.exception() is not None


@pytest.mark.parametrize("text", ["BUSYKEY Target key name already exists.", "BUSYGROUP Consumer Group name exists"])
def test_what_only_sounds_busy_is_no_outage(text: str) -> None:
    assert not is_outage(redis.ResponseError(text))


@pytest.mark.parametrize("transaction", [True, False])
def test_a_server_that_came_up_meanwhile_gets_the_scripts_again(
    patient: redis.Redis, admin: redis.Redis, aside: Callable[..., Future[Any]], transaction: bool
) -> None:
    script = patient.register_script("return redis.call('INCR', KEYS[1])")

    def count() -> list[Any]:
        with patient.pipeline(transaction) as pipe:
            pipe.set("greeting", "hello")
            script(keys=["n"], client=pipe)
            return pipe.execute()

    assert count() == [True, 1]
    admin.config_set("min-replicas-to-write", 1)
    counted = aside(count)
    until("it is refused", lambda: refused(admin, "NOREPLICAS"))
    admin.script_flush()
    admin.config_set("min-replicas-to-write", 0)
    assert counted.result() == [True, 2]


def test_what_is_no_outage_is_told_at_once(patient: redis.Redis) -> None:
    patient.set("greeting", "hello")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE") as wrong:
        patient.rpush("greeting", "first")
    assert not is_outage(wrong.value)


class Counted(AbstractBackoff):
    """No pause at all, and how many there were."""

    def __init__(self) -> None:
        self.pauses = 0

    def compute(self, failures: int) -> float:
        self.pauses += 1
        return 0


def test_who_watched_a_key_pauses_before_watching_again() -> None:
    def do() -> None:
        raise redis.ConnectionError

    def fail(_: Exception) -> None:
        raise redis.WatchError

    backoff = Counted()
    with pytest.raises(redis.WatchError):
        OutageRetry(backoff, 3).call_with_retry(do, fail)
    assert backoff.pauses == 1
