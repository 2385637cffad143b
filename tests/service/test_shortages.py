"""A machine short of files or disk: told as its own fault, briefly, and no owner takes all that there is."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from contextlib import ExitStack
from typing import Any

import anyio
import httpx
import pytest

from service.api.edge import server
from service.machine import FILES_KEPT, most_connections
from service.settings import ServiceSettings
from tests.service.conftest import Api, Make, problem
from tests.service.test_slow_clients import connected, head
from trials.pictures import photo


@pytest.mark.parametrize(
    ("files", "most"), [(256, 128), (200, 100), (1, 1), (1024, 896), (65_536, 1000), (resource.RLIM_INFINITY, 1000)]
)
def test_connections_leave_files_for_everything_else(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections(1000) == most
    config = server.Config(ServiceSettings(max_connections=1000), None)
    assert config.most_connections == most
    assert config.backlog <= FILES_KEPT // 2, "what is taken in one go has room"


def test_one_owners_streams_leave_connections_for_others(make_api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 20))
    api = make_api(auth="keys", rate_limit=0)
    from service.auth import Scope

    keys = {
        owner: {"Authorization": f"Bearer {api.services.keys.create(owner, (Scope.submit, Scope.read), owner)[1]}"}
        for owner in ("ann", "bob")
    }
    api.client.headers.update(keys["ann"])
    job = api.submit({"method": "flow"})["id"]
    key = f"Authorization: {keys['ann']['Authorization']}\r\n".encode()
    with ExitStack() as open_streams:
        answers = []
        for _ in range(12):
            one = open_streams.enter_context(connected(api))
            one.sendall(head(f"GET /inbetween/{job}/events", key))
            answers.append(one.recv(65_536)[:12])
        assert answers.count(b"HTTP/1.1 200") == 5, "half of ten"
        assert set(answers) == {b"HTTP/1.1 200", b"HTTP/1.1 429"}
        assert httpx.get(f"{api.url}/livez").status_code == 200
        assert httpx.get(f"{api.url}/inbetween", headers=keys["bob"]).status_code == 200


def test_connections_that_cannot_be_taken_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """By a real accept() without a file left; asyncio says it for each connection of its backlog, with a traceback."""

    async def main() -> None:
        handler = server._Shortages()
        others: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handler)
        asked = asyncio.Event()

        async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            writer.close()

        listening = await asyncio.start_server(hello, "127.0.0.1", 0, backlog=server.BACKLOG)
        with socket.socket() as client:
            client.setblocking(False)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, limits[1]))
            try:
                await loop.sock_connect(client, listening.sockets[0].getsockname())
                with anyio.fail_after(30):
                    while not caplog.records:
                        await anyio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            with anyio.fail_after(30):
                await asked.wait()
        listening.close()
        loop.set_exception_handler(None)
        setattr(loop, "default_exception_handler", others.append)  # noqa: B010
        handler(loop, {"exception": ValueError("another"), "message": "x"})
        assert [str(each["exception"]) for each in others] == ["another"]

    asyncio.run(main())
    assert len(caplog.records) == 1
    assert "no new connections" in str(caplog.records[0].msg)
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC, errno.ENOMEM, None])
def test_what_the_machine_lacks_is_no_fault_of_the_request(
    api: Api, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    error = MemoryError() if number is None else OSError(number, "no more")

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(api.storage, "put", fails)
    answer = api.client.post("/inbetween", files={"start": photo(), "end": photo()})
    assert problem(answer, 503, "unavailable")["remedy"]
    assert int(answer.headers["retry-after"]) > 0


def test_any_other_error_of_the_system_is_not_explained_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EBADF, "a mistake of ours")

    monkeypatch.setattr(api.storage, "put", fails)
    problem(api.client.post("/inbetween", files={"start": photo(), "end": photo()}), 500, "internal")
