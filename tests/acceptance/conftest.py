"""The whole service as `make up` starts it, around the tiny random model, and a plain HTTP client of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mpd import tiny
from trials.processes import stack

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
    with stack(area, DEVICE="cpu", MODEL=str(tiny.build(area / "tiny"))) as running:
        caller = Caller(running.url)
        yield caller
        caller.http.close()
