"""Redis by Sentinel: the primary is killed in the middle of everything."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff, NoBackoff

from inbetween import Client
from service.database.connections import connect, connect_async
from service.database.outages import OutageRetry
from service.jobs.record import NewJob, State
from service.jobs.store import Jobs
from service.jobs.tickets import TASK
from service.settings import ServiceSettings
from tests.redis.conftest import KEYFRAMES, Open
from tests.redis.servers import DURABLE, SERVICE, RedisServer, Replicated, until
from trials.site import LARGE
from worker import listener
from worker.task.lease import holder


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Replicated]:
    with Replicated(tmp_path / "replicated") as servers:
        yield servers


class Customer(threading.Thread):
    """Asks for one small job after another, with ordinary retries, and remembers what was accepted."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.accepted: list[str] = []
        self.over = threading.Event()
        self._url = url

    def run(self) -> None:
        with Client(self._url, timeout=20) as client:
            while not self.over.wait(0.5):
                self.accepted.append(client.inbetween(*KEYFRAMES, method="flow", frames=2, formats=["gif"]).id)


def test_nothing_accepted_is_lost_or_doubled_when_the_primary_is_killed(replicated: Replicated, service: Open) -> None:
    # A lease as long as the service's own is: that of a site is shorter than a busy machine's failover may take.
    with service(**replicated.settings, lease_ttl="10") as running:
        site = running.site
        customer = Customer(running.url)
        customer.start()
        try:
            long = site.submit("flow", LARGE, frames=8)
            site.until(long, "progress", stage="sampling")
            before = replicated.primary()
            before.kill()
            until("another is the primary", lambda: replicated.primary() is not before)
            known = len(customer.accepted)
            until("jobs are accepted again", lambda: len(customer.accepted) >= known + 3)
        finally:
            customer.over.set()
            customer.join(60)
        done = site.ended(long)
        assert (done.state, done.deaths, done.errors) == (State.succeeded, 0, 0), site.log()
        for job_id in customer.accepted:
            job = site.jobs.get(job_id)
            assert job is not None, f"{job_id} was accepted and is gone"
            ended = site.ended(job)
            states = [data["state"] for kind, data in events(site.redis, site.jobs, job_id) if kind == "state"]
            assert (ended.state, states.count("succeeded")) == (State.succeeded, 1), site.log()
        made = [job.id for job in site.jobs.list("local", 1000).jobs]
        assert sorted(made) == sorted([long.id, *customer.accepted])
        # All find the new one while the old one is still down, those too that had nothing to do meanwhile.
        running.whole_job()
        # It has no say any more when it is back, and follows.
        before.start()
        until("the old primary follows the new one", lambda: replicated.following(replicated.primary()) == 2)
        running.whole_job()


def test_a_command_that_is_sent_again_goes_to_the_new_primary(replicated: Replicated) -> None:
    settings = ServiceSettings(_env_file=None, **replicated.settings)
    backoff, tries = ConstantBackoff(0.1), 300

    async def push(waits: Callable[[], bool]) -> None:
        async with connect_async(settings, most=1, timeout=5, retry=AsyncRetry(backoff, tries)) as connection:
            await connection.set("greeting", "hello")
            until("a worker waits", waits)
            replicated.primary().kill()
            await connection.rpush("line", "first")

    with (
        connect(settings, timeout=None, retry=OutageRetry(backoff, tries)) as connection,
        connect(settings) as other,
        ThreadPoolExecutor(1) as worker,
    ):
        popped = worker.submit(connection.blpop, ["line"], 30)
        asyncio.run(push(lambda: other.info("clients")["blocked_clients"] == 1))
        assert popped.result() == (b"line", b"first")


def test_a_silent_sentinel_is_asked_once(replicated: Replicated) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{replicated.sentinels[1].port}"
        settings = ServiceSettings(
            _env_file=None, **{**replicated.settings, "redis_url": f"redis+sentinel://{hosts}/{SERVICE}/0"}
        )

        def asked() -> int:
            times = 0
            while True:
                try:
                    silent.accept()[0].close()
                except BlockingIOError:
                    return times
                times += 1

        async def ping() -> None:
            retry = AsyncRetry(NoBackoff(), 0)
            async with connect_async(settings, most=1, timeout=5, retry=retry) as connection:
                await connection.set("greeting", "hello")

        with connect(settings) as connection:
            assert connection.ping()
        assert asked() == 1
        asyncio.run(ping())
        assert asked() == 1


def test_a_planned_failover_ends_no_process(replicated: Replicated, service: Open) -> None:
    with service(**replicated.settings) as running:
        site = running.site
        launcher = running.processes["worker"]
        site.below(launcher, 3)  # a worker for jobs, one for webhooks and RQ's scheduler

        def heartbeats() -> list[object]:
            return [site.redis.hget(key, "last_heartbeat") for key in site.redis.keys("rq:scheduler:*")]

        until("the scheduler lives", lambda: any(heartbeats()))
        # RQ's workers and its scheduler: work-horses come and go.
        lasting = launcher.children(recursive=True)
        before = replicated.primary()
        with replicated.sentinels[0].client() as sentinel:
            sentinel.sentinel_failover(SERVICE)
        until("another is the primary", lambda: replicated.primary() is not before)
        until("all follow it", lambda: replicated.following(replicated.primary()) == 2)
        for _ in range(2):
            last = heartbeats()
            until("the scheduler lives on", lambda last=last: heartbeats() != last)  # type: ignore[misc]
        running.whole_job()
        assert all(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in lasting), site.log()


def events(connection: redis.Redis, jobs: Jobs, job_id: str) -> list[tuple[str, dict[str, str]]]:
    found: Any = connection.xrange(jobs.keys.events(job_id))
    return [(fields[b"type"].decode(), json.loads(fields[b"data"])) for _, fields in found]


def test_a_transition_counts_once_replicas_have_it(tmp_path: Path) -> None:
    primary, replica = (RedisServer(tmp_path / name, *DURABLE) for name in ("primary", "replica"))
    primary.start()
    replica.start()
    url = f"redis://127.0.0.1:{primary.port}/0"
    try:
        with connect(ServiceSettings(_env_file=None, redis_url=url)) as connection:
            jobs = Jobs(connection, ServiceSettings(_env_file=None, redis_url=url, redis_replicas=1))
            new = NewJob("local", {}, [], "cpu", result_ttl=600)
            with pytest.raises(redis.ConnectionError, match="0 of 1 replicas"):
                jobs.submit(new)
            with replica.client() as client:
                client.replicaof("127.0.0.1", primary.port)
                until("it follows", lambda: client.info("replication")["master_link_status"] == "up")
            job = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
            started = jobs.start(job.id, job.attempt, "this-1")
            primary.kill()
            with replica.client() as client:
                assert client.hget(jobs.keys.job(job.id), "state") == b"running"
            assert started.state is State.running
    finally:
        primary.kill()
        replica.kill()


def test_a_killed_work_horse_waits_for_the_replicas_too(tmp_path: Path) -> None:
    primary, replica = (RedisServer(tmp_path / name, *DURABLE) for name in ("primary", "replica"))
    primary.start()
    replica.start()
    settings = ServiceSettings(_env_file=None, redis_url=f"redis://127.0.0.1:{primary.port}/0", redis_replicas=1)

    def follow() -> None:
        with replica.client() as client:
            client.replicaof("127.0.0.1", primary.port)
            until("it follows", lambda: client.info("replication")["master_link_status"] == "up")

    try:
        with listener.connect(settings) as connection, ThreadPoolExecutor(1) as worker:
            jobs = Jobs(connection, settings)
            follow()
            job = jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600))
            jobs.start(job.id, job.attempt, holder(os.getpid()))
            replica.kill()
            carried = SimpleNamespace(func_name=TASK, args=(job.id, job.attempt))
            reclaimed = worker.submit(listener.reclaim(jobs), carried, os.getpid(), 9, None)
            until("the primary has it", lambda: jobs.get(job.id).state is State.queued)  # type: ignore[union-attr]
            assert not reclaimed.done()
            replica.start()
            follow()
            assert reclaimed.exception() is None
            with replica.client() as client:
                assert client.hmget(jobs.keys.job(job.id), "state", "deaths") == [b"queued", b"1"]
    finally:
        primary.kill()
        replica.kill()
