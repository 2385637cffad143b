"""Servers for the client to speak to: an API whose worker is the test, and the whole service as `make up` starts it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from inbetween import AsyncClient, Client, Retries
from service.auth import ApiKeys
from service.settings import ServiceSettings
from tests.service import conftest as of_the_service
from tests.service.conftest import Api
from trials.processes import stack

QUICK = Retries(first=0.001)

make_api = of_the_service.make_api
log_of_the_test = of_the_service.log_of_the_test


class Either:
    """One of the two clients, called the same way: `do` waits where there is something to wait for."""

    def __init__(self, kind: type[Client] | type[AsyncClient]) -> None:
        self.kind = kind
        self._runner = asyncio.Runner()
        self._open: list[Client | AsyncClient] = []

    def client(self, url: str | None, **more: Any) -> Any:
        made = self.kind(url, **{"retries": QUICK, **more})
        self._open.append(made)
        return made

    def do(self, given: Any) -> Any:
        if inspect.isasyncgen(given):
            return self._runner.run(_listed(given))
        if inspect.iscoroutine(given):
            return self._runner.run(given)
        return list(given) if inspect.isgenerator(given) else given

    def close(self) -> None:
        for client in self._open:
            self.do(client.close())
        self._runner.close()


async def _listed(given: Any) -> list[Any]:
    return [each async for each in given]


@pytest.fixture(params=[Client, AsyncClient])
def either(request: pytest.FixtureRequest) -> Iterator[Either]:
    either = Either(request.param)
    yield either
    either.close()


@pytest.fixture(scope="session")
def shared_api(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("storage")
    settings = ServiceSettings(
        _env_file=None, auth="off", redis_url=redis_server.replace("/0", "/2"), storage_url=str(folder)
    )
    with Api(settings).running() as running:
        yield running


@pytest.fixture
def api(shared_api: Api, redis_url: str) -> Api:
    """An API with nothing in it, of which the test itself is the worker."""
    shared_api.services.database.adopt()  # the server of all tests was emptied for this one
    return shared_api


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, retries=QUICK) as client:
        yield client


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small keyframes."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{name}.png" for name in "abc"]
    for path, colour in zip(paths, ("navy", "teal", "gold"), strict=True):
        Image.new("RGB", (64, 48), colour).save(path)
    return paths


@dataclass(frozen=True)
class Live:
    """The whole service on a port, with `flow`. secret: with which its webhooks are signed."""

    url: str
    secret: str


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    area = tmp_path_factory.mktemp("stack")
    with stack(area, FETCH_ALLOW_HOSTS="127.0.0.1") as running:
        with redis.Redis.from_url(running.redis_url) as connection:
            secret = ApiKeys(connection, ServiceSettings(_env_file=None)).webhook_secrets("local")[0]
        yield Live(running.url, secret)
