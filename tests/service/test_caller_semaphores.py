"""One caller's many or endless requests keep nobody else waiting."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.caller_semaphores import CallerSemaphore, ThreadCallerSemaphore
from service.api.edge import fairness
from service.api.edge.fairness import AT_WORK, FairShare
from service.api.services import SUBMISSIONS, open_services
from service.settings import ServiceSettings
from service.storage import LocalStorage
from tests.service.conftest import Make
from tests.service.test_limits import FLOW, Call, call, post

__all__ = ["call"]


def test_the_next_begins_when_one_is_done_and_others_do_not_wait() -> None:
    async def story() -> None:
        line, order = CallerSemaphore(2), []
        leave = {name: anyio.Event() for name in ("a1", "a2", "a3", "b1")}

        async def work(name: str) -> None:
            async with line.of(name[0]):
                order.append(name)
                await leave[name].wait()

        async with anyio.create_task_group() as group:
            for name in leave:
                group.start_soon(work, name)
            await anyio.wait_all_tasks_blocked()
            assert order == ["a1", "a2", "b1"]
            leave["a2"].set()
            await anyio.wait_all_tasks_blocked()
            assert order[-1] == "a3"
            for event in leave.values():
                event.set()
        assert line._lines == {}

    anyio.run(story)


def test_threads_of_one_caller_work_one_after_the_other_and_others_do_not_wait() -> None:
    turns = ThreadCallerSemaphore(1)
    began = {name: threading.Event() for name in ("a2", "b1")}

    def work(name: str) -> None:
        with turns.of(name[0]):
            began[name].set()

    with ThreadPoolExecutor(3) as pool:
        with turns.of("a"):
            held = pool.submit(work, "a2")
            pool.submit(work, "b1").result(10)
            assert not began["a2"].wait(0.1)
        held.result(10)
    assert began["a2"].is_set()
    assert turns._lines == {}


def test_who_gives_up_waiting_leaves_the_line() -> None:
    async def story() -> None:
        line = CallerSemaphore(1)
        async with line.of("a"):
            with anyio.move_on_after(0) as gone:
                async with line.of("a"):
                    raise AssertionError
            assert gone.cancelled_caught
            assert line._lines["a"].length == 1
        async with line.of("a"):
            pass
        assert line._lines == {}

    anyio.run(story)


def test_a_line_is_not_endless_and_who_is_turned_away_hears_it_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.caller_semaphores.MOST_WAITING", 2)
    late = list[bool]()

    async def hold(_: FairShare) -> None:
        late.append(True)

    monkeypatch.setattr(FairShare, "_hold", hold)

    async def story() -> None:
        begin, statuses = anyio.Event(), list[int]()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await begin.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        share = FairShare(app)

        async def ask(key: bytes) -> None:
            headers = [(b"authorization", key)]
            await share({"type": "http", "method": "GET", "path": "/", "headers": headers}, none, note)

        async with anyio.create_task_group() as group:
            for number in range(AT_WORK + 2):
                group.start_soon(ask, [b"Bearer x", b"bearer  x"][number % 2])
            await anyio.wait_all_tasks_blocked()
            await ask(b"Bearer x")
            assert (statuses, late) == ([429], [True])
            group.start_soon(ask, b"Bearer y")
            await anyio.wait_all_tasks_blocked()
            begin.set()
        assert statuses == [429] + [200] * (AT_WORK + 3)

    anyio.run(story)


def test_a_turn_ends_where_the_answer_begins() -> None:
    """Streams of one key do not use up its turns; only requests with a key have turns, those of the paths apart only
    until they ask for their body, and in a line of their own.
    """

    async def story() -> None:
        working, streaming, begin, end = Counter[str](), Counter[str](), anyio.Event(), anyio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/apart":
                await receive()
            working[scope["path"]] += 1
            await begin.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            streaming[scope["path"]] += 1
            await end.wait()

        share = FairShare(app, apart=[("POST", "/apart"), ("POST", "/asks-late")])

        async def ask(path: str, method: str = "GET", key: bytes | None = b"Bearer x") -> None:
            headers = [(b"authorization", key)] if key else []
            await share({"type": "http", "method": method, "path": path, "headers": headers}, none, drop)

        async with anyio.create_task_group() as group:
            for _ in range(AT_WORK + 3):
                group.start_soon(ask, "/mine")
                group.start_soon(ask, "/apart", "POST")
                group.start_soon(ask, "/asks-late", "POST", b"Bearer z")
                group.start_soon(ask, "/open", "GET", None)
            group.start_soon(ask, "/theirs", "GET", b"Bearer y")
            group.start_soon(ask, "/apart", "GET")
            await anyio.wait_all_tasks_blocked()
            all_of_them = dict.fromkeys(("/apart", "/open"), AT_WORK + 3)
            assert working == all_of_them | {"/mine": AT_WORK, "/asks-late": AT_WORK, "/theirs": 1}
            begin.set()
            await anyio.wait_all_tasks_blocked()
            assert streaming["/mine"] == AT_WORK + 3
            assert streaming["/apart"] == AT_WORK + 4
            end.set()

    anyio.run(story)


async def none() -> Message:
    return {"type": "http.disconnect"}


async def drop(_: Message) -> None:
    """Nobody listens."""


def test_slow_keyframes_of_one_key_do_not_hold_up_anothers(make_api: Make, call: Call) -> None:
    api = make_api(auth="keys", fetch_allow_hosts="127.0.0.1")
    ann, bob = call(api), call(api)
    with ExitStack() as stack, ThreadPoolExecutor(24) as pool:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        image = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        asked = [pool.submit(ann.post, "/inbetween", json={"start": image, "end": image}) for _ in range(24)]
        fetching = [stack.enter_context(silent.accept()[0]) for _ in range(SUBMISSIONS // 4)]
        assert post(bob, FLOW).status_code == 202
        assert ann.get("/inbetween").json()["jobs"] == []
        assert not any(answer.done() for answer in asked)
        silent.close()
        for connection in fetching:
            connection.close()
    assert {answer.result().status_code for answer in asked} == {422}


@pytest.mark.parametrize(("url", "together"), [("", 1), ("s3://bucket/prefix", AT_WORK)], ids=["folder", "s3"])
def test_only_on_a_disk_of_this_machine_one_request_of_a_key_after_the_other_stores_its_keyframes(
    tmp_path: Path, url: str, together: int
) -> None:
    services = open_services(ServiceSettings(_env_file=None, auth="keys", storage_url=url or str(tmp_path)))
    inside = threading.Semaphore(0)

    def store() -> None:
        with services.submission.storing.of("a"):
            inside.release()
            assert over.wait(10)

    over = threading.Event()
    with ThreadPoolExecutor(AT_WORK) as pool:
        stored = [pool.submit(store) for _ in range(AT_WORK)]
        for _ in range(together):
            assert inside.acquire(timeout=10)
        assert inside.acquire(timeout=0.1) is False
        over.set()
        for each in stored:
            each.result(10)


@pytest.mark.parametrize("local", [True, False], ids=["folder", "elsewhere"])
def test_keyframes_of_one_key_meet_in_storage_only_where_that_is_elsewhere(
    make_api: Make, call: Call, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    meeting, met = threading.Barrier(2), list[bool]()
    put = LocalStorage.put

    def meet(storage: LocalStorage, key: str, source: bytes | Path, content_type: str) -> None:
        if not key.startswith("jobs/"):
            return put(storage, key, source, content_type)
        try:
            meeting.wait(0.2 if local else 10)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)
        return put(storage, key, source, content_type)

    monkeypatch.setattr(LocalStorage, "put", meet)
    if not local:
        monkeypatch.setattr("service.api.services.LocalStorage", type("AnotherStorage", (), {}))
    ann = call(make_api(auth="keys"))
    with ThreadPoolExecutor(2) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: post(ann, FLOW), range(2))} == {202}
    assert met == [not local] * 4


@pytest.mark.parametrize(
    "ask", [lambda client: post(client, FLOW), lambda client: client.get("/inbetween")], ids=["submissions", "lists"]
)
def test_a_flood_leaves_others_answered(
    make_api: Make,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[httpx.Client], httpx.Response],
) -> None:
    monkeypatch.setattr(fairness, "HELD_SECONDS", 0.05)
    api = make_api(auth="keys", max_active_jobs=4, rate_limit=30)
    ann, bob = call(api), call(api, rate=0)
    job = post(bob, FLOW).json()["links"]["self"]
    over = threading.Event()
    with ThreadPoolExecutor(1) as other, ThreadPoolExecutor(16) as flood:
        watched = other.submit(watch, bob, job, over)
        answers = Counter(answer.status_code for answer in flood.map(lambda _: ask(ann), range(200)))
        over.set()
    assert answers[429] >= 170
    assert set(answers) <= {200, 202, 429}
    assert answers[202] in (0, 4)
    statuses = watched.result()
    assert set(statuses) == {200}
    assert len(statuses) > 5


def watch(client: httpx.Client, url: str, over: threading.Event) -> list[int]:
    statuses = []
    while not over.is_set():
        statuses.append(client.get(url).status_code)
    return statuses
