"""Deliveries as a stock RQ worker with its scheduler makes them, to a real receiver."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from rq.registry import FailedJobRegistry, ScheduledJobRegistry
from standardwebhooks import Webhook
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from service.auth import ApiKeys
from service.jobs.record import Job, NewJob
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.webhooks.deliveries import Webhooks, announce, queue_name
from service.webhooks.record import Delivery, Outcome


@pytest.fixture
def settings(redis_url: str) -> ServiceSettings:
    return ServiceSettings(redis_url=redis_url, namespace="hooks", fetch_allow_hosts=("127.0.0.1",))


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def hooks(connection: redis.Redis, settings: ServiceSettings) -> Webhooks:
    return Webhooks(connection, settings)


@contextmanager
def worker(settings: ServiceSettings, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A stock RQ worker of the webhook queue, as the settings would have it started."""
    environment = os.environ | {
        "REDIS_URL": settings.redis_url,
        "NAMESPACE": settings.namespace,
        "FETCH_ALLOW_HOSTS": ",".join(settings.fetch_allow_hosts),
    }
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", settings.redis_url, "--with-scheduler"]
    command += ["--serializer", "rq.serializers.JSONSerializer", *options, queue_name(settings)]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, process_group=0)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)


def succeeded(connection: redis.Redis, settings: ServiceSettings, url: str, owner: str = "ann") -> Job:
    jobs = Jobs(connection, settings)
    webhook = {"url": url, "events": ["inbetween.succeeded"]}
    job = jobs.submit(NewJob(owner, {"reference": "é"}, [], "cpu", 3600, webhook=webhook))
    jobs.start(job.id, job.attempt, "horse")
    job = jobs.succeed(job.id, job.attempt, {})
    assert announce(jobs, settings, job)
    return job


@retry(retry=retry_if_result(lambda found: found is None), stop=stop_after_delay(30), wait=wait_fixed(0.05))
def settled(hooks: Webhooks, state: Outcome) -> Delivery | None:
    """The only delivery, once it is in this state and its last try is written down."""
    (delivery,) = hooks.deliveries(None, 10).deliveries
    return delivery if delivery.state is state and delivery.log else None


def test_a_receiver_that_fails_first_gets_the_same_event_again(
    connection: redis.Redis, settings: ServiceSettings, hooks: Webhooks, receiver: Any, tmp_path: Path
) -> None:
    receiver.answers = [(503, {}, b"down"), (200, {}, b"")]
    job = succeeded(connection, settings, f"{receiver.url}/hook")
    with worker(settings, tmp_path):
        first, second = receiver.wait_for(2)
        delivery = settled(hooks, Outcome.delivered)
    assert delivery is not None
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery.id
    waited = int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"])
    assert waited >= 4
    (secret,) = ApiKeys(connection, settings).webhook_secrets("ann")
    for request in (first, second):
        body = Webhook(secret).verify(request.body, request.headers)
        assert (body["type"], body["data"]["id"]) == ("inbetween.succeeded", job.id)
        assert body["data"]["reference"] == "é"
    assert [(one.status, one.error) for one in delivery.log] == [(503, None), (200, None)]
    assert hooks.queue.get_job_ids() == []
    assert ScheduledJobRegistry(queue=hooks.queue).count == FailedJobRegistry(queue=hooks.queue).count == 0


def test_rq_comes_back_when_the_receiver_says(
    connection: redis.Redis, settings: ServiceSettings, hooks: Webhooks, receiver: Any, tmp_path: Path
) -> None:
    """In bursts, the second of which finds the scheduled try due because the test has moved it."""
    receiver.answers = [(429, {"retry-after": "1000"}, b""), (200, {}, b"")]
    succeeded(connection, settings, f"{receiver.url}/hook")
    with worker(settings, tmp_path, "--burst") as process:
        process.wait(60)
    scheduled = ScheduledJobRegistry(queue=hooks.queue)
    found: Any = connection.zrange(scheduled.key, 0, -1, withscores=True)
    ((name, moment),) = found
    (delivery,) = hooks.deliveries(None, 10).deliveries
    assert name.decode() == f"{delivery.id}-1"
    assert abs(moment - delivery.log[0].at - 1000) < 30
    assert delivery.next_at is not None
    assert abs(moment - delivery.next_at) < 30

    connection.zadd(scheduled.key, {name: 1})
    with worker(settings, tmp_path, "--burst") as process:
        process.wait(60)
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert settled(hooks, Outcome.delivered)


def test_a_receiver_inside_the_network_is_not_reached(
    connection: redis.Redis, settings: ServiceSettings, hooks: Webhooks, receiver: Any, tmp_path: Path
) -> None:
    succeeded(connection, settings, f"{receiver.url}/hook")
    with worker(settings.model_copy(update={"fetch_allow_hosts": ()}), tmp_path, "--burst") as process:
        process.wait(60)
    (delivery,) = hooks.deliveries(None, 10).deliveries
    assert [(one.status, one.error) for one in delivery.log] == [(None, "url-refused")]
    assert receiver.received == []


def test_a_delivery_that_is_gone_ends_quietly(
    connection: redis.Redis, settings: ServiceSettings, hooks: Webhooks, receiver: Any, tmp_path: Path
) -> None:
    succeeded(connection, settings, f"{receiver.url}/hook")
    (delivery,) = hooks.deliveries(None, 10).deliveries
    connection.delete(f"hooks:delivery:{delivery.id}")
    with worker(settings, tmp_path, "--burst") as process:
        assert process.wait(60) == 0
    assert FailedJobRegistry(queue=hooks.queue).count == 0
    assert receiver.received == []


def test_the_silent_receivers_of_one_owner_hold_up_nobody_else(
    connection: redis.Redis, settings: ServiceSettings, hooks: Webhooks, receiver: Any, tmp_path: Path
) -> None:
    """Three processes, as `inbetween-server webhooks` runs them; SIGTERM ends them all, a try that is made first."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(8)]
        ports = [server.getsockname()[1] for server in silent]
        for port in ports:
            succeeded(connection, settings, f"http://127.0.0.1:{port}/")
        succeeded(connection, settings, f"{receiver.url}/hook", owner="bob")
        environment = os.environ | {
            "REDIS_URL": settings.redis_url,
            "NAMESPACE": settings.namespace,
            "FETCH_ALLOW_HOSTS": "127.0.0.1",
            "WEBHOOK_WORKERS": "3",
            "STORAGE_URL": str(tmp_path / "storage"),
        }
        process = psutil.Popen([sys.executable, "-m", "server.cli", "webhooks"], env=environment)
        stack.callback(lambda: process.is_running() and process.kill())
        assert receiver.wait_for(1)
        theirs = hooks.deliveries("ann", 10).deliveries
        assert sum(delivery.tries for delivery in theirs) < len(ports), "it did not wait for all of them"
        below = process.children(recursive=True)
        process.terminate()
        assert process.wait(60) == 0
        assert not psutil.wait_procs(below, timeout=10)[1]
