"""The engines at work: what each can do, published by itself and gone when it no longer says so.

A hint for people and for estimates. Which jobs run is decided by queues and leases, never from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import redis
import structlog

from mpd.schedule import Schedule
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

ENGINE_ID = "INBETWEEN_ENGINE_ID"
"""Environment variable below a launcher: the name under which its engine is published and its workers are known."""

log = structlog.get_logger(__name__)


class EngineState(StrEnum):
    """failed: the engine gave up, such as for a missing model; `error` says why."""

    starting = "starting"
    ready = "ready"
    failed = "failed"


class WorkerState(StrEnum):
    """An engine's state as it is counted: a ready one is idle or busy."""

    starting = "starting"
    idle = "idle"
    busy = "busy"
    failed = "failed"


@dataclass(frozen=True)
class Engine:
    """One engine as it describes itself."""

    id: str
    state: EngineState
    #: Empty where it holds the learned interpolator alone.
    model: str
    device: str
    started_at: float
    revision: str | None = None
    license: str | None = None
    methods: tuple[str, ...] = ()
    native_frames: int | None = None
    #: (width, height).
    native_size: tuple[int, int] | None = None
    size_multiple: int | None = None
    #: Of one segment; None is unlimited, as of the two limits that follow.
    max_frames: int | None = None
    #: Width × height of one frame.
    max_pixels: int | None = None
    #: Pixels of all frames of one segment, as a GPU's memory holds.
    max_volume: int | None = None
    #: Measured time of one denoiser call per megapixel of one frame: a call on N frames of P megapixels takes about
    #: N·P times as long.
    seconds_per_call: float | None = None
    #: The one for requests that name none, as the model's card has it; None where it says nothing.
    default_method: str | None = None
    #: The noise levels that its model is sampled at; None where they are of another kind.
    schedule: Schedule | None = None
    #: Numbers of a latent for each pixel of its frames.
    latent_share: float | None = None
    #: Whether its model has a calibration of motion by motion bucket; None where it does not say.
    calibrated: bool | None = None
    #: The ticket being sampled.
    busy_with: str | None = None
    error: str | None = None
    #: Bytes of the whole GPU; None without a GPU, or where its driver does not say.
    gpu_memory_used: int | None = None
    gpu_memory_total: int | None = None
    #: From 0 to 1; None as above.
    gpu_utilization: float | None = None

    @property
    def holds_model(self) -> bool:
        """Tell whether it has, or loads, a base model; the learned interpolator alone is none."""
        return bool(self.model)

    @property
    def worker_state(self) -> WorkerState:
        if self.state is EngineState.ready:
            return WorkerState.busy if self.busy_with else WorkerState.idle
        return WorkerState(self.state.value)


def shown_name(model: str) -> str:
    """Return what callers see of MODEL: a hub id as it is, of a folder its last component alone, nothing of nothing."""
    if not model:
        return ""
    path = Path(model)
    is_folder = model.startswith(("/", ".", "~")) or path.is_dir()
    return path.expanduser().resolve().name if is_folder else model


def publish(connection: redis.Redis, settings: ServiceSettings, engine: Engine, ttl: int = 15) -> None:
    """Make `engine` known for `ttl` seconds; to be repeated well before they are over."""
    with connection.pipeline() as pipe:
        pipe.set(RedisKeys(settings.namespace).engine(engine.id), json.dumps(asdict(engine)), ex=ttl)
        pipe.sadd(RedisKeys(settings.namespace).engines, engine.id)
        pipe.execute()


def withdraw(connection: redis.Redis, settings: ServiceSettings, engine_id: str) -> None:
    """Take an engine out at once; one that is not there is no error."""
    connection.delete(RedisKeys(settings.namespace).engine(engine_id))
    connection.srem(RedisKeys(settings.namespace).engines, engine_id)


def live(connection: redis.Redis, settings: ServiceSettings) -> list[Engine]:
    """List the engines heard of within their time, by id. Forgets the others."""
    ids = sorted(_text(member) for member in connection.smembers(RedisKeys(settings.namespace).engines))
    if not ids:
        return []
    found = dict(zip(ids, connection.mget([RedisKeys(settings.namespace).engine(name) for name in ids]), strict=True))
    silent = [name for name, value in found.items() if value is None]
    if silent:
        connection.srem(RedisKeys(settings.namespace).engines, *silent)
    return [engine for name, value in found.items() if value is not None and (engine := _read(name, value))]


def has_others(found: Iterable[Engine], but: str) -> bool:
    """Tell whether engines of a base model are there, ready or starting, beside the one called `but`."""
    return any(one.holds_model and one.id != but and one.state is not EngineState.failed for one in found)


def _read(name: str, value: bytes | str) -> Engine | None:
    """Give what one engine published, or None for what this version cannot read: the others are there all the same."""
    try:
        return _decode(value)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("what an engine publishes cannot be read", engine=name, error=str(error))
        return None


def _decode(value: bytes | str) -> Engine:
    """Read what an engine published. A newer engine may say more than this version knows."""
    known = {field.name for field in fields(Engine)}
    read: dict[str, Any] = {name: part for name, part in json.loads(value).items() if name in known}
    read["state"] = EngineState(read["state"])
    read["methods"] = tuple(read["methods"])
    read["native_size"] = tuple(read["native_size"]) if read["native_size"] else None
    if read.get("schedule") is not None:
        read["schedule"] = Schedule(**read["schedule"])
    return Engine(**read)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
