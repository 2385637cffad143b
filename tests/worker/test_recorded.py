"""What a version before this one left in Redis and storage: it is read, run, announced and expired as it was meant."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from mpd.methods import Settings
from service.jobs.options import settings_of
from service.jobs.record import State
from service.jobs.store import Jobs
from service.outbound.target import read_url
from service.settings import ServiceSettings
from service.storage import open_storage
from tests.redis.servers import until
from tests.service.conftest import Api
from trials import recording
from trials.pictures import photo
from trials.processes import LONGEST_WAIT, Processes
from trials.receiver import Receiver

RECORDED = Path(__file__).parents[1] / "service" / "recorded" / "redis-0.1.0.json"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return dict(json.loads(RECORDED.read_text()))


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(
        _env_file=None,
        redis_url=redis_url,
        namespace=recording.NAMESPACE,
        storage_url=str(tmp_path / "storage"),
        auth="off",
        fetch_allow_hosts=("127.0.0.1",),
    )


@pytest.fixture
def api(settings: ServiceSettings, recorded: dict[str, Any]) -> Iterator[Api]:
    """An API that comes up on what was recorded."""
    with redis.Redis.from_url(settings.redis_url) as connection:
        recording.play(recorded, connection, open_storage(settings, connection))
    with Api(settings).running() as running:
        yield running


def named(api: Api) -> dict[str, dict[str, Any]]:
    """The jobs that are listed, by their own names."""
    return {job["reference"]: job for job in api.client.get("/inbetween").json()["jobs"]}


def test_every_job_is_what_it_was(api: Api, recorded: dict[str, Any]) -> None:
    jobs = named(api)
    assert {name: job["state"] for name, job in jobs.items()} == {
        name: name for name in ("succeeded", "queued", "running", "canceled")
    }
    assert jobs["queued"]["position"] == 0
    assert jobs["running"]["progress"]["step"] == 3
    assert jobs["running"]["options"]["steps"] == 10
    for name, file in (("video", "take-1.mp4"), ("poster", "poster.jpg"), ("metadata", "metadata.json")):
        answer = api.client.get(jobs["succeeded"]["links"][name], follow_redirects=True)
        (key,) = (key for key in recorded["files"] if key.endswith(f"/1/{file}"))
        assert answer.content == api.storage.get(key)
    (expired,) = (key for key, value in recorded["keys"].items() if value["value"] and '"expired"' in str(value))
    assert api.client.get(f"/inbetween/{expired.rpartition(':')[2]}").status_code == 410


def test_a_picture_that_was_asked_for_stays_the_one_that_is_made(api: Api) -> None:
    """With every default as the version before had it."""
    job = api.jobs.get(named(api)["queued"]["id"])
    assert job is not None
    assert settings_of(job.options) == Settings(
        method="mpd-vibid",
        frames=3,
        seeds=(7, 8),
        gamma=0.3,
        steps=25,
        fps=7,
        motion_bucket_id=127,
        background="#000000",
    )


def test_a_request_that_is_sent_again_finds_its_job(api: Api) -> None:
    done = named(api)["succeeded"]
    hook = done["webhook"]["url"]
    asked = {
        "method": "flow",
        "frames": 3,
        "reference": "succeeded",
        "result_ttl": 31_536_000,
        "webhook": {"url": hook},
    }
    files = {"start": photo(), "end": photo(colour="teal")}

    def again(**more: Any) -> httpx.Response:
        data = {"options": json.dumps(asked | more)}
        return api.client.post("/inbetween", files=files, data=data, headers={"Idempotency-Key": "a-key"})

    found = again()
    assert (found.status_code, found.json()["id"]) == (202, done["id"])
    assert found.headers["idempotent-replayed"] == "true"
    assert again(frames=4).status_code == 422


def test_a_lease_that_nobody_renews_is_taken_back_and_an_event_on_its_way_arrives(
    api: Api, settings: ServiceSettings, receiver: Receiver, tmp_path: Path
) -> None:
    """By a keeper and a webhook worker of this version, which find the queues as the version before left them."""
    running = named(api)["running"]["id"]
    jobs, connection = Jobs(api.services.redis, settings), api.services.redis
    (delivery,) = api.client.get("/webhooks/deliveries").json()["deliveries"]
    # The receiver that did not answer is there now, on the port that this machine has free.
    target = json.dumps(read_url(f"{receiver.url}/hook").to_json())
    connection.hset(jobs.keys.delivery(delivery["id"]), mapping={"url": f"{receiver.url}/hook", "target": target})
    connection.delete(*connection.keys(f"{settings.namespace}:webhook-resting:*"))
    variables = {
        "REDIS_URL": settings.redis_url,
        "NAMESPACE": settings.namespace,
        "STORAGE_URL": settings.storage_url,
        "FETCH_ALLOW_HOSTS": "127.0.0.1",
        "LEASE_TTL": "6",
        "MODEL": "",
        "RIFE": "off",
    }
    with Processes(tmp_path, variables) as processes:
        processes.start("keeper")
        processes.start("webhooks")
        api.client.post(f"/webhooks/deliveries/{delivery['id']}/redrive").raise_for_status()
        (event,) = receiver.wait_for(1, LONGEST_WAIT)
        until("the lease is taken back", lambda: _attempt(jobs, running) == (State.queued, 2, 1))
    assert json.loads(event.body)["data"]["reference"] == "succeeded"


def test_names_in_queues_lead_to_functions() -> None:
    """RQ has them written down: `worker.tasks.run` and `worker.deliveries.deliver` stay where they are."""
    for name in ("worker.tasks.run", "worker.deliveries.deliver"):
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def _attempt(jobs: Jobs, job_id: str) -> tuple[State, int, int]:
    job = jobs.get(job_id)
    assert job is not None
    return job.state, job.attempt, job.deaths
