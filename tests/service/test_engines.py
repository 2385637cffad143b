"""Engines publish themselves, and vanish when they stop doing so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from mpd.schedule import Schedule
from service.fleet import engines
from service.fleet.engines import Engine, EngineState
from service.settings import ServiceSettings

ENGINE = Engine(
    id="a",
    state=EngineState.ready,
    model="tiny",
    device="cpu",
    started_at=1.5,
    methods=("mpd", "svd"),
    native_frames=8,
    native_size=(64, 32),
    seconds_per_call=0.25,
    busy_with="job_0-1",
    schedule=Schedule(0.002, 700.0, own_steps=15, own_sigma_max=40.0),
    latent_share=0.0625,
    calibrated=True,
)


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def settings(redis_url: str) -> ServiceSettings:
    return ServiceSettings(_env_file=None, redis_url=redis_url)


def test_what_is_published_is_read(connection: redis.Redis, settings: ServiceSettings) -> None:
    assert engines.live(connection, settings) == []
    starting = replace(ENGINE, id="b", state=EngineState.starting, native_size=None, methods=())
    engines.publish(connection, settings, starting)
    engines.publish(connection, settings, ENGINE)
    assert engines.live(connection, settings) == [ENGINE, starting]
    assert 0 < connection.ttl("inbetween:engine:a") <= 15
    engines.publish(connection, settings, replace(ENGINE, busy_with=None))
    assert engines.live(connection, settings)[0].busy_with is None


def test_a_model_is_shown_without_the_servers_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "svd").mkdir()
    monkeypatch.chdir(tmp_path)
    shown = [engines.shown_name(name) for name in (str(tmp_path / "svd"), "svd", "./svd", "/gone/svd/", "stable/svd")]
    assert shown == ["svd", "svd", "svd", "svd", "stable/svd"]


def test_a_silent_engine_is_forgotten(connection: redis.Redis, settings: ServiceSettings) -> None:
    for name in ("a", "b", "c"):
        engines.publish(connection, settings, replace(ENGINE, id=name))
    connection.delete("inbetween:engine:a")  # as when its time is over
    engines.withdraw(connection, settings, "b")
    assert [engine.id for engine in engines.live(connection, settings)] == ["c"]
    assert connection.smembers("inbetween:engines") == {b"c"}


def test_a_newer_engine_may_say_more(connection: redis.Redis, settings: ServiceSettings) -> None:
    engines.publish(connection, settings, ENGINE)
    said = json.loads(connection.get("inbetween:engine:a") or b"")
    connection.set("inbetween:engine:a", json.dumps(said | {"colour": "green"}), ex=5)
    assert engines.live(connection, settings) == [ENGINE]
