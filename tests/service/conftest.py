"""The API as its callers meet it: a real uvicorn on a port, a real Redis, files in a real folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvicorn

from service.api.app import create_app
from service.api.edge.server import Config
from service.api.services import Services
from service.jobs.record import Job, files_prefix
from service.settings import ServiceSettings
from trials.pictures import photo

Make = Callable[..., "Api"]


class LiveServer(uvicorn.Server):
    """A uvicorn in a thread of the test's process."""

    def __init__(self, app: Any, settings: ServiceSettings) -> None:
        super().__init__(Config(settings, app, port=0, timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.run, name="server")
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.up.set()

    def install_signal_handlers(self) -> None:
        """The test's process keeps its own."""


class Api:
    """A running API, a client of it, and its parts, with which a test plays the worker."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.app = create_app(settings)
        self.services: Services = self.app.state.services
        self.jobs = self.services.jobs
        self.storage = self.services.storage
        self.client = httpx.Client(timeout=120)

    @contextmanager
    def running(self) -> Iterator[Api]:
        self._server = server = LiveServer(self.app, self.settings)
        server.thread.start()
        assert server.up.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client.base_url = httpx.URL(self.url)
        try:
            yield self
        finally:
            self.stop()
            self.client.close()

    def stop(self) -> None:
        """As SIGTERM does."""
        self._server.should_exit = True
        self._server.thread.join(30)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._server.loop

    @property
    def requests(self) -> int:
        """How many are being answered."""
        return len(self._server.server_state.tasks)

    def post(self, options: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """Two small photos as a form."""
        files = {"start": ("a.png", photo(), "image/png"), "end": ("b.png", photo(colour="teal"), "image/png")}
        return self.client.post("/inbetween", files=files, data={"options": json.dumps(options or {})}, **more)

    def submit(self, options: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """The accepted job."""
        answer = self.post(options, **more)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def start(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        assert job is not None
        return self.jobs.start(job_id, job.attempt, "test")

    def succeed(self, job_id: str) -> Job:
        """What a worker does: files in storage, then the commit."""
        job = self.start(job_id)
        return self.jobs.succeed(job.id, job.attempt, self.store(job))

    def store(self, job: Job, frames: int = 3) -> dict[str, Any]:
        """The files of a result in storage; what the commit would say of them."""
        prefix = f"{files_prefix(job.id)}{job.attempt}/"
        files = []
        for name, take, form, content_type, data in (
            ("take-1.mp4", 1, "mp4", "video/mp4", bytes(range(256)) * 8),
            ("take-1.gif", 1, "gif", "image/gif", b"GIF89a" * 10),
            ("poster.jpg", 1, "jpg", "image/jpeg", photo(format="JPEG")),
            ("contact-sheet.jpg", 1, "jpg", "image/jpeg", photo(format="JPEG")),
            ("metadata.json", None, "json", "application/json", b"{}"),
        ):
            self.storage.put(prefix + name, data, content_type)
            digest = hashlib.sha256(data).hexdigest()
            files.append(
                {
                    "name": name,
                    "take": take,
                    "format": form,
                    "content_type": content_type,
                    "size": len(data),
                    "sha256": digest,
                }
            )
        for number in range(frames):
            self.storage.put(f"{prefix}take-1/frame-{number:04d}.jpg", photo(format="JPEG"), "image/jpeg")
        return {
            "frames": frames,
            "fps": 7,
            "width": 64,
            "height": 48,
            "duration": frames / 7,
            "seeds": [0],
            "job": job.id,
            "attempt": job.attempt,
            "settings": {"method": "flow"},
            "model": None,
            "timings": {"sampling": 0.1},
            "keyframes": [],
            "files": files,
        }


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem in an answer, checked to be of this status and type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert body["type"] == f"/problems/{slug}", body
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


@pytest.fixture(scope="session", autouse=True)
def log_of_the_test() -> None:
    """Our log lines go where pytest keeps them, and are shown with a failed test."""
    structlog.stdlib.recreate_defaults(log_level=None)
    # Those with the values of all variables take seconds.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.fixture
def make_api(redis_url: str, tmp_path: Path) -> Iterator[Make]:
    """Start an API with settings of the test's own; several may share the Redis and the folder."""
    with_all: list[Any] = []

    def make(**settings: Any) -> Api:
        values = {"auth": "off", "redis_url": redis_url, "storage_url": str(tmp_path / "storage")} | settings
        running = Api(ServiceSettings(_env_file=None, **values)).running()
        with_all.append(running)
        return running.__enter__()

    yield make
    for running in reversed(with_all):
        running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def shared_api(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("storage")
    settings = ServiceSettings(
        _env_file=None, auth="off", redis_url=redis_server.replace("/0", "/1"), storage_url=str(folder)
    )
    with Api(settings).running() as running:
        yield running


@pytest.fixture
def api(shared_api: Api, redis_url: str) -> Api:
    """An API with the default settings and nothing in it."""
    shared_api.services.database.adopt()  # the server of all tests was emptied for this one
    # What the tests before have left to be counted is not this one's.
    shared_api.services.traffic.flush()
    shared_api.services.redis.delete(shared_api.jobs.keys.counters)
    for folder in ("jobs", "uploads"):
        shared_api.storage.delete_prefix(folder)
    return shared_api
