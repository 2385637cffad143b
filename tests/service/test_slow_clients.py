"""Clients that are slow, silent, greedy or broken, on raw sockets: each is given up, and others are answered."""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay

from service.api.edge.middleware import SMALL_BODY, BodyCap
from service.api.edge.server import MOST_HEADER_BYTES
from service.api.intake import byte_budget
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo

SECONDS = 0.6
"""CLIENT_SECONDS of these tests. None asserts how long anything took: a socket that is not given up times out."""

FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="start"; filename="a"\r\n\r\n'


@pytest.fixture
def hurried(make_api: Make) -> Api:
    return make_api(client_seconds=SECONDS, client_rate=100_000_000)


@pytest.fixture
def patient(make_api: Make) -> Api:
    return make_api(client_seconds=60)


@contextmanager
def connected(api: Api, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    url = httpx.URL(api.url)
    with socket.socket() as connection:
        connection.settimeout(30)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect((url.host, url.port or 80))
        yield connection


def head(line: str, *headers: bytes) -> bytes:
    return line.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + b"".join(headers) + b"\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def to_the_end(connection: socket.socket) -> bytes:
    """What the server sends until it closes, or resets, the connection. A TimeoutError when it does neither."""
    answer = b""
    with suppressed():
        while piece := connection.recv(65_536):
            answer += piece
    return answer


def refused(answer: bytes, status: int, slug: str) -> dict[str, Any]:
    """The problem in raw bytes of one answer."""
    start, _, rest = answer.partition(b"\r\n\r\n")
    assert start.startswith(f"HTTP/1.1 {status} ".encode()), answer[:300]
    assert b"application/problem+json" in start
    body = dict(json.loads(rest))
    assert body["type"] == f"/problems/{slug}"
    assert body["field"]
    assert body["remedy"]
    return body


def dribble(connection: socket.socket, over: threading.Event) -> None:
    """A byte now and then, for as long as the server takes them."""
    with suppressed():
        while not over.wait(SECONDS / 10):
            connection.send(b"x")


@contextmanager
def dribbling(connection: socket.socket) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=dribble, args=(connection, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_headers_that_never_end(hurried: Api) -> None:
    with connected(hurried) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        with dribbling(connection):
            refused(to_the_end(connection), 408, "too-slow")


def test_a_connection_on_which_nothing_comes(hurried: Api) -> None:
    with connected(hurried) as connection:
        assert to_the_end(connection) == b""


def test_a_second_request_that_never_ends(hurried: Api) -> None:
    with connected(hurried) as connection:
        connection.sendall(head("HEAD /livez"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        with dribbling(connection):
            refused(to_the_end(connection), 408, "too-slow")


@pytest.mark.parametrize("length", [b"Content-Length: 100000\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize(
    ("path", "kind"), [("/inbetween", FORM), ("/inbetween", b"Content-Type: application/json\r\n"), ("/uploads", b"")]
)
def test_a_body_that_stops(hurried: Api, path: str, kind: bytes, length: bytes) -> None:
    if path == "/uploads" and b"Length" in length:
        length = b"Content-Length: 1000\r\n"
    with connected(hurried) as connection:
        connection.sendall(head(f"POST {path}", kind, length))
        connection.sendall(PART if kind is FORM and b"Length" in length else b"")
        refused(to_the_end(connection), 408, "too-slow")


def test_a_body_that_dribbles(hurried: Api) -> None:
    with connected(hurried) as connection:
        connection.sendall(head("POST /inbetween", FORM, b"Content-Length: 100000\r\n") + PART)
        with dribbling(connection):
            refused(to_the_end(connection), 408, "too-slow")


def test_an_upload_that_stops_leaves_no_file(hurried: Api, patient: Api) -> None:
    upload = patient.client.post("/uploads", json={"content_type": "image/png", "size": 1000}).json()
    path = httpx.URL(upload["url"]).path
    with connected(hurried) as connection:
        connection.sendall(head(f"PUT {path}", b"Content-Type: image/png\r\nContent-Length: 1000\r\n") + b"x" * 500)
        refused(to_the_end(connection), 408, "too-slow")
    assert list(hurried.storage.list("uploads")) == []
    assert list(Path(hurried.settings.storage_url, "tmp").iterdir()) == []


def test_a_body_that_keeps_its_rate_may_take_as_long_as_it_needs(make_api: Make) -> None:
    """Each piece earns ten seconds, so that pauses which are together far longer than CLIENT_SECONDS pass."""
    api = make_api(client_seconds=SECONDS, client_rate=1)
    body = b" " * 40 + b"{}"
    with connected(api) as connection:
        connection.sendall(
            head("POST /uploads", b"Content-Type: application/json\r\nContent-Length: 42\r\n") + body[:10]
        )
        for start in range(10, 42, 10):
            threading.Event().wait(SECONDS / 2)
            connection.sendall(body[start : start + 10])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 422 ")


def test_a_client_that_leaves_halfway(patient: Api) -> None:
    """It closes its side, or all of it: nothing of it stays."""
    for half in (True, False):
        with connected(patient) as connection:
            connection.sendall(head("POST /inbetween", FORM, b"Content-Length: 100000\r\n") + PART)
            if half:
                connection.shutdown(socket.SHUT_WR)
                assert to_the_end(connection) == b""
        assert alive(patient)
    await_none(patient)


@retry(stop=stop_after_delay(30), retry=retry_if_exception_type(httpx.TransportError), reraise=True)
def alive(api: Api) -> bool:
    """Asked on a connection of its own; again where this process is too busy to ask within CLIENT_SECONDS."""
    return httpx.get(f"{api.url}/livez", timeout=30).status_code == 200


def await_none(api: Api) -> None:
    """Wait until no body is held and no connection is open but our client's."""
    for _ in range(600):
        if body_cap(api).held == 0 and open_connections(api) <= 1:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{body_cap(api).held} bytes, {open_connections(api)} connections")


def body_cap(api: Api) -> BodyCap:
    layer: Any = api.app.middleware_stack
    while not isinstance(layer, BodyCap):
        layer = layer.app
    return layer


def open_connections(api: Api) -> int:
    port = httpx.URL(api.url).port
    ours = psutil.Process().net_connections("tcp")
    return sum(1 for each in ours if each.laddr and each.laddr.port == port and each.status == "ESTABLISHED")


def test_a_megabyte_of_headers(patient: Api) -> None:
    for line in (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Big: ", b"GET /livez?"):
        with connected(patient) as connection:
            answer = flood(connection, line, b"y" * 1_000_000)
            assert refused(answer, 431, "headers-too-large")["limit"] == MOST_HEADER_BYTES
    with connected(patient) as connection:
        connection.sendall(head("GET /livez", b"X-Large: " + b"y" * (MOST_HEADER_BYTES - 1000) + b"\r\n"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def flood(connection: socket.socket, start: bytes, rest: bytes) -> bytes:
    """Send what the server takes, in pieces small enough that its answer is not lost with what it does not read."""
    with suppressed():
        connection.sendall(start)
        for piece in range(0, len(rest), MOST_HEADER_BYTES):
            connection.sendall(rest[piece : piece + MOST_HEADER_BYTES])
            if select.select([connection], [], [], 0.01)[0]:
                break
    return to_the_end(connection)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /uploads HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"POST /uploads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /uploads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_as_a_problem(patient: Api, nonsense: bytes) -> None:
    with connected(patient) as connection:
        connection.sendall(nonsense)
        refused(to_the_end(connection), 400, "bad-request")


def test_length_and_chunks_at_once_smuggle_nothing(patient: Api) -> None:
    """Two programs in a row could read such a request differently (RFC 9112, 6.3): it is the connection's last."""
    both = head("POST /uploads", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")
    with connected(patient) as connection:
        connection.sendall(both + chunk(b"{}") + chunk(b"") + head("GET /livez"))
        refused(to_the_end(connection), 400, "bad-request")


def test_a_million_tiny_chunks_are_refused_where_they_pass_the_limit(patient: Api) -> None:
    with connected(patient) as connection:
        connection.sendall(head("POST /uploads", b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"))
        tiny = chunk(b" ") * 10_000
        with suppressed():
            for _ in range(100):
                connection.sendall(tiny)
                assert alive(patient)
        answer = to_the_end(connection)
        assert answer == b"" or refused(answer, 413, "body-too-large")["limit"] == SMALL_BODY
    await_none(patient)


def suppressed() -> suppress:
    """The errors of a connection that the server has closed while we still send."""
    return suppress(BrokenPipeError, ConnectionResetError)


def test_pipelined_requests_are_answered_one_after_another(patient: Api) -> None:
    with connected(patient) as connection:
        connection.sendall(head("GET /livez") * 49 + head("GET /livez", b"Connection: close\r\n"))
        assert to_the_end(connection).count(b"HTTP/1.1 200 ") == 50


def test_who_sends_requests_and_reads_no_answer_is_given_up(hurried: Api) -> None:
    asked = head("GET /openapi.json")
    with connected(hurried, receive_buffer=4096) as connection:
        connection.setblocking(False)
        sent = 0
        with suppressed():
            while sent < 50_000_000:
                try:
                    sent += connection.send(asked * 100)
                except BlockingIOError:
                    # It reads no further requests while its answers are not read.
                    if not select_writable(connection):
                        break
        assert sent < 50_000_000
        assert alive(hurried)
        await_closed(hurried, connection)
    await_none(hurried)


def select_writable(connection: socket.socket) -> bool:
    return bool(select.select([], [connection], [], 0.2)[1])


def await_closed(api: Api, connection: socket.socket) -> None:
    """Wait until the server's end of this connection has gone, without reading from ours."""
    ours = connection.getsockname()
    for _ in range(600):
        found = psutil.Process().net_connections("tcp")
        if not any(each.raddr == ours and each.status == "ESTABLISHED" for each in found):
            return
        threading.Event().wait(0.05)
    raise AssertionError("the connection is still there")


def test_a_download_that_nobody_reads_is_given_up(hurried: Api, patient: Api) -> None:
    patient.storage.put("jobs/big", os.urandom(1 << 24), "video/mp4")
    link = patient.storage.sign_get("jobs/big", expires=600)
    with connected(hurried, receive_buffer=4096) as connection:
        connection.sendall(head(f"GET {link}"))
        assert connection.recv(10, socket.MSG_PEEK)
        await_closed(hurried, connection)
    assert patient.client.get(link).status_code == 200
    await_none(hurried)


def test_events_that_nobody_reads_are_given_up(hurried: Api, patient: Api, caplog: pytest.LogCaptureFixture) -> None:
    job = patient.start(patient.submit({"method": "flow"})["id"])
    with connected(hurried, receive_buffer=4096) as connection:
        connection.sendall(head(f"GET /inbetween/{job.id}/events"))
        assert connection.recv(10, socket.MSG_PEEK)
        gone = threading.Event()

        def report() -> None:
            while not gone.is_set():
                hurried.jobs.progress(job.id, job.attempt, {"stage": "sampling"}, preview="data:," + "x" * 24_000)

        thread = threading.Thread(target=report)
        thread.start()
        try:
            await_closed(hurried, connection)
        finally:
            gone.set()
            thread.join()
    await_none(hurried)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_events_that_are_read_outlive_every_limit(hurried: Api, patient: Api) -> None:
    """A stream may be silent: what counts is that what comes is read."""
    job = patient.start(patient.submit({"method": "flow"})["id"])
    with connected(hurried) as connection:
        connection.sendall(head(f"GET /inbetween/{job.id}/events"))
        assert b"200 OK" in connection.recv(65_536)
        threading.Event().wait(3 * SECONDS)
        hurried.jobs.progress(job.id, job.attempt, {"stage": "a step"})
        seen = b""
        while b"a step" not in seen:
            piece = connection.recv(65_536)
            assert piece, "the stream was cut"
            seen += piece


def test_idle_connections_make_room_for_new_ones(make_api: Make) -> None:
    api = make_api(client_seconds=60, max_connections=20)
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(api)) for _ in range(60)]
        assert httpx.get(f"{api.url}/livez").status_code == 200
        assert to_the_end(idle[0]) == b"", "the oldest goes first"
        idle[-1].sendall(head("GET /livez"))
        assert idle[-1].recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_each_of_many_that_come_in_one_go_ends_another(make_api: Make) -> None:
    """All are made before any that was ended is gone: the server is kept from looking until they are there."""
    api = make_api(client_seconds=60, max_connections=10)
    url, held, go_on = httpx.URL(api.url), threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        assert go_on.wait(60)

    api.loop.call_soon_threadsafe(hold)
    assert held.wait(30)
    with ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection((url.host, url.port or 80))) for _ in range(40)]
        go_on.set()
        for each in crowd[:30]:
            each.settimeout(30)
            assert to_the_end(each) == b""
        for each in crowd[30:]:
            each.settimeout(30)
            each.sendall(head("GET /livez"))
            assert each.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_where_all_connections_are_at_work_a_new_one_is_told_so(make_api: Make) -> None:
    api = make_api(client_seconds=60, max_connections=3)
    job = api.start(api.submit({"method": "flow"})["id"])
    api.client.close()
    with ExitStack() as stack:
        for _ in range(3):
            stream = stack.enter_context(connected(api))
            stream.sendall(head(f"GET /inbetween/{job.id}/events"))
            assert b"200 OK" in stream.recv(65_536)
        with connected(api) as late:
            answer = to_the_end(late)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"/problems/busy" in answer
        assert b"retry-after" in answer.lower()
    api.client = httpx.Client(base_url=api.url, timeout=30)


def test_bodies_held_at_once_have_a_limit(make_api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is announced counts from the first byte on: room is never found to be missing in the middle."""
    monkeypatch.setattr(byte_budget, "ROOM_PATIENCE", 0.2)
    api = make_api(client_seconds=60, max_bodies_bytes=4_000_000)
    held = b"Content-Type: application/json\r\nContent-Length: 600000\r\n"
    with connected(api) as first, connected(api) as second:
        first.sendall(head("POST /inbetween", held) + b" " * 300_000)
        for _ in range(600):
            if body_cap(api).held == 300_000:
                break
            threading.Event().wait(0.05)
        assert api.services.bodies.ledger.held == 600_000
        second.sendall(head("POST /inbetween", held))
        answer = to_the_end(second)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"/problems/busy" in answer
        assert b"retry-after: 5" in answer.lower()
        assert alive(api)
        assert api.post({"method": "flow"}).status_code == 202, "a small one has room"
        first.sendall(b" " * 300_000)
        assert first.recv(65_536).startswith(b"HTTP/1.1 400 ")
    await_none(api)
    assert api.services.bodies.ledger.held == 0


def test_a_body_of_unknown_length_takes_room_as_it_comes(make_api: Make) -> None:
    api = make_api(client_seconds=60, max_bodies_bytes=4_000_000)
    length = b"Content-Type: application/json\r\nContent-Length: 600000\r\n"
    chunked = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    with connected(api) as first, connected(api) as second:
        first.sendall(head("POST /inbetween", length))
        for _ in range(600):
            if api.services.bodies.ledger.held:
                break
            threading.Event().wait(0.05)
        with suppressed():
            second.sendall(head("POST /inbetween", chunked) + chunk(b" " * 100_000) * 4)
        answer = to_the_end(second)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert api.services.bodies.ledger.held == 600_000, "what it had is free again"


def test_no_body_is_larger_than_there_is_ever_room_for(make_api: Make) -> None:
    api = make_api(max_bodies_bytes=1_600_000)
    body = problem(api.client.post("/inbetween", content=b" " * 400_000), 413, "body-too-large")
    assert body["limit"] == api.services.bodies.ledger.largest == 375_000


def test_what_carries_no_image_is_small(patient: Api) -> None:
    for path in ("/uploads", "/nothing", "/inbetween/x/cancel"):
        body = problem(patient.client.post(path, content=b" " * (SMALL_BODY + 1)), 413, "body-too-large")
        assert body["limit"] == SMALL_BODY


def test_a_form_needs_no_disk(make_api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder for temporary files may be full, or not there at all."""
    api = make_api()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(FileNotFoundError), tempfile.TemporaryFile():
        pass
    files = {"start": photo(900, 900, format="BMP"), "end": photo()}
    answer = api.client.post("/inbetween", files=files)
    assert problem(answer, 422, "invalid-image")["field"] == "start"
    assert len(files["start"]) > 2_000_000


def test_memory_stays_flat_under_all_of_them(hurried: Api) -> None:
    """Dozens of each kind, after a first round in which the process grows to its size."""

    def round_of(count: int) -> None:
        for _ in range(count):
            with ExitStack() as stack:
                crowd = [stack.enter_context(connected(hurried)) for _ in range(24)]
                for number, connection in enumerate(crowd):
                    with suppressed():
                        connection.sendall(EVIL[number % len(EVIL)])
                assert alive(hurried)
        await_none(hurried)

    round_of(1)
    before = psutil.Process().memory_info().rss
    round_of(4)
    assert psutil.Process().memory_info().rss < 1.1 * before


EVIL = (
    b"GET /livez HTTP/1.1\r\nX-Slow: ",
    b"GET /livez?" + b"y" * 100_000,
    head("POST /inbetween", FORM, b"Content-Length: 1000000\r\n") + PART + b"x" * 300_000,
    head("POST /inbetween", b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n") + chunk(b" ") * 5_000,
    head("GET /openapi.json") * 20,
    head("POST /inbetween", FORM, b"Content-Length: 100000\r\n") + photo(),
)
