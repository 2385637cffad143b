"""Every error is a problem of the table, whoever raised it, and tells nothing of the inside."""

from __future__ import annotations

import ast
import errno
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from structlog.testing import capture_logs

from service import problem_types
from service.api import erasure, services
from service.jobs.reconcile import erase_due
from service.jobs.record import NewJob
from service.problem_types import PROBLEMS, reference
from service.storage import StorageFull, StorageUnavailable
from tests.odd_s3 import refusal, serving
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo
from trials.servers import RedisProcess

ROOT = Path(__file__).parents[2]


def test_the_frameworks_own_errors(api: Api) -> None:
    problem(api.client.get("/nothing"), 404, "not-found")
    problem(api.client.get("/inbetween/"), 404, "not-found")
    answer = api.client.patch("/inbetween")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, POST"
    answer = api.client.post("/inbetween/job_x/video")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    headers = {"content-type": "application/json"}
    problem(api.client.post("/uploads", content=b"{", headers=headers), 400, "malformed-body")
    body = problem(api.client.post("/uploads", json={"content_type": "image/gif", "size": "1", "x": 1}), 422, INVALID)
    assert {error["field"] for error in body["errors"]} == {"content_type", "size", "x"}
    assert "image/png" in body["errors"][0]["remedy"]
    assert problem(api.client.post("/uploads", content=b"x"), 422, INVALID)
    problem(api.client.post("/uploads"), 422, INVALID)


INVALID = "invalid-request"


def test_an_error_nobody_foresaw_tells_nothing_but_its_request(make_api: Make) -> None:
    api = make_api()

    @api.app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the secret of /home/someone")

    @api.app.get("/broken-sooner")
    async def broken_sooner(request: Request) -> None:
        raise KeyError("secret")

    for path in ("/broken", "/broken-sooner"):
        answer = api.client.get(path, headers={"X-Request-ID": "abc-1"})
        body = problem(answer, 500, "internal")
        assert body["request_id"] == answer.headers["x-request-id"] == "abc-1"
        assert "secret" not in answer.text
        assert "RuntimeError" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_request_id_of_odd_characters_is_replaced(api: Api) -> None:
    answer = api.client.get("/livez", headers={"X-Request-ID": "a b\tc"})
    assert len(answer.headers["x-request-id"]) == 32


def test_redis_away(make_api: Make, redis_process: RedisProcess) -> None:
    api = make_api(redis_url=redis_process.url)
    assert api.client.get("/readyz").json() == {"status": "ready"}
    redis_process.kill()
    for answer in (
        api.client.get("/readyz"),
        api.client.get("/inbetween"),
        api.post({"method": "flow"}),
        api.client.get("/metrics"),
        api.client.get("/methods"),
    ):
        body = problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"]
        assert "127.0.0.1" not in answer.text
        assert body["request_id"]
    assert api.client.get("/livez").json() == {"status": "alive"}
    redis_process.start()
    assert api.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space", "/private/tmp/part"), MemoryError()])
def test_a_fault_of_the_apis_own_machine(make_api: Make, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    api = make_api()

    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api.storage, "put", failing)
    answer = api.post({"method": "flow"})
    assert problem(answer, 503, "unavailable")["detail"].startswith("The server's machine")
    assert answer.headers["retry-after"]
    assert "/private" not in answer.text


def test_storage_away(make_api: Make, tmp_path: Path) -> None:
    api = make_api()
    shutil.rmtree(tmp_path / "storage")
    (tmp_path / "storage").write_text("no folder")
    for answer in (api.client.get("/readyz"), api.post({"method": "flow"})):
        problem(answer, 503, "unavailable")
        assert str(tmp_path) not in answer.text
    assert api.client.get("/livez").status_code == 200
    assert api.client.get("/inbetween").json()["jobs"] == [], "nothing was submitted"


def test_what_an_s3_server_says_is_for_the_operator(make_api: Make) -> None:
    """Its words are in the log, its code at /readyz, and neither in a caller's answer."""
    with serving() as server:
        api = make_api(**server.settings)
        server.odd = lambda method, key, headers: refusal(400, "ExpiredToken", "Of arn:inner expired")
        with capture_logs() as logged:
            ready, answer = api.client.get("/readyz"), api.post({"method": "flow"})
        assert problem(ready, 503, "unavailable")["detail"] == "The storage does not answer: ExpiredToken."
        assert problem(answer, 503, "unavailable")["detail"] == "The storage does not answer."
        for told in (ready.text, answer.text):
            assert "arn:inner" not in told
            assert "bucket" not in told
            assert server.endpoint not in told
        errors = [entry["error"] for entry in logged if entry["event"] == "unavailable"]
        assert len(errors) == 2
        assert all("ExpiredToken Of arn:inner expired" in error for error in errors)
        server.odd = lambda method, key, headers: refusal(507, "XMinioStorageFull") if method == "PUT" else None
        assert problem(api.post({"method": "flow"}), 503, "unavailable")["detail"] == "The storage is full."


def test_a_storage_that_hangs_keeps_nobody_waiting(make_api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and says nothing; with a worker's patience a call would take a minute."""
    monkeypatch.setattr(services, "STORAGE_TIMEOUT", 0.3)
    monkeypatch.setattr(erasure, "MOST", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        keys = {"storage_access_key": "a", "storage_secret_key": "b"}
        api = make_api(storage_url="s3://bucket/home", storage_endpoint=endpoint, **keys)
        began = time.monotonic()
        problem(api.post({"method": "flow"}), 503, "unavailable")
        assert time.monotonic() - began < 10

        entered, leave = threading.Event(), threading.Event()

        def hangs(prefix: str) -> None:
            entered.set()
            leave.wait(60)

        monkeypatch.setattr(api.storage, "delete_prefix", hangs)
        gone = [api.jobs.submit(NewJob("local", {}, [], "cpu", result_ttl=600)).id for _ in range(2)]
        for job_id in gone:
            assert api.client.delete(f"/inbetween/{job_id}").status_code == 204
            assert api.jobs.get(job_id) is None
        assert entered.is_set()
        members: Any = api.services.redis.zrange(api.jobs.keys.erasures, 0, -1)
        due = {member.decode() for member in members}
        assert due >= set(gone), "the keeper erases them"
        assert time.monotonic() - began < 20
        leave.set()


def test_a_storage_that_fails_midway_leaves_no_file(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = api.storage.put, []

    def second_fails(key: str, source: bytes | Path, content_type: str) -> None:
        calls.append(key)
        if len(calls) == 2:
            raise StorageUnavailable("disk full")
        put(key, source, content_type)

    monkeypatch.setattr(api.storage, "put", second_fails)
    headers = {"Idempotency-Key": "abc"}
    with monkeypatch.context() as away:
        # The caller does not wait for a storage that fails while what it had taken is erased.
        away.setattr(api.storage, "delete_prefix", lambda _: pytest.fail("asked again"))
        problem(api.post({"method": "flow"}, headers=headers), 503, "unavailable")
    erase_due(api.jobs, api.storage)
    assert list(api.storage.list("jobs")) == []
    assert api.post({"method": "flow"}, headers=headers).status_code == 202


def test_a_full_storage_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(key: str, source: bytes | Path, content_type: str) -> None:
        raise StorageFull("/secret/folder: No space left on device")

    monkeypatch.setattr(api.storage, "put", full)
    answer = api.post({"method": "flow"})
    assert problem(answer, 503, "unavailable")["detail"] == "The storage is full."
    assert "secret" not in answer.text


def test_a_caller_that_hangs_up_is_no_error_of_ours(api: Api) -> None:
    url = httpx.URL(api.url)
    import socket

    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(b"POST /inbetween HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: 100\r\n\r\n{")
    assert api.client.get("/livez").status_code == 200


def test_every_problem_has_its_text(api: Api) -> None:
    for slug, kind in PROBLEMS.items():
        answer = api.client.get(f"/problems/{slug}")
        assert answer.status_code == 200
        assert kind.meaning in answer.text
        assert kind.remedy in answer.text
    problem(api.client.get("/problems/none"), 404, "problem-not-found")


def test_the_list_of_problems_is_served(api: Api) -> None:
    answer = api.client.get("/problems")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.text == reference()


def test_the_documentation_is_the_table() -> None:
    written = (ROOT / "docs" / "problems.md").read_text()
    assert written == problem_types.reference(), "run: python -m service.problem_types > docs/problems.md"


def test_every_problem_raised_is_in_the_table_and_every_entry_is_raised() -> None:
    raised: set[str] = set()
    for folder in ("service", "worker", "server"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and path != ROOT / "service" / "problems.py"
                ):
                    raised.add(node.value)
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem" and len(node.args) > 1:
                    slug = node.args[1]
                    assert not isinstance(slug, ast.Constant) or slug.value in PROBLEMS, f"{path}: {slug}"
    assert set(PROBLEMS) <= raised, set(PROBLEMS) - raised


def test_an_image_too_large(make_api: Make) -> None:
    api = make_api(max_image_bytes=1024)
    noisy = photo(400, 300, format="BMP")
    body = problem(api.client.post("/inbetween", files={"start": photo(), "end": noisy}), 413, "image-too-large")
    assert body["field"] == "end"
