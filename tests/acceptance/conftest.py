"""The whole service as `make up` starts it, around the tiny random model, and a plain HTTP client of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mpd import tiny
from server.up import Stack
from service.settings import Settings

Files = list[tuple[str, tuple[str, bytes, str]]]


class Caller:
    """A caller of the API who knows nothing but its answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def submit(self, files: Files, **options: Any) -> dict[str, Any]:
        answer = self.http.post("/inbetween", files=files, data={"options": json.dumps(options)})
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"].endswith(answer.json()["id"])
        assert int(answer.headers["retry-after"]) > 0
        return dict(answer.json())

    def finished(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job once its event stream has ended."""
        with self.http.stream("GET", job["links"]["events"], timeout=200) as stream:
            stream.read()
        return dict(self.http.get(job["links"]["self"]).json())

    def video(self, files: Files, **options: Any) -> tuple[dict[str, Any], bytes]:
        """The job's result and the bytes of its video."""
        job = self.finished(self.submit(files, **options))
        assert job["state"] == "succeeded", job
        answer = self.http.get(job["links"]["video"], follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return job["result"], answer.content


@pytest.fixture(scope="session")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller of a running service that can do every method."""
    area = tmp_path_factory.mktemp("stack")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(_env_file=None, host="127.0.0.1", port=port, drain_grace=0)
    model: Path = tiny.build(area / "tiny")
    environment = {
        "AUTH": "off",
        "DEVICE": "cpu",
        "DRAIN_GRACE": "0",
        "MODEL": str(model),
        "OMP_NUM_THREADS": "1",
        "STORAGE_URL": str(area / "storage"),
    }
    with Stack(settings, area / "kept", environment, logs=area) as stack:
        caller = Caller(stack.url)
        yield caller
        caller.http.close()
