"""Requests to addresses that callers chose, against real servers on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme

from service.outbound.addresses import is_public
from service.outbound.client import (
    Answer,
    BadAnswer,
    Fetched,
    HostRefused,
    HostUnreachable,
    Outbound,
    OutboundError,
    TooLarge,
    TooSlow,
    UrlRefused,
)
from service.outbound.target import MAX_URL
from tests.service.inside import written

PUBLIC = "93.184.215.14"
LOOPBACK = "127.0.0.1"


def fetch(outbound: Outbound, url: str, **limits: Any) -> Fetched:
    return outbound.fetch(outbound.check(url), **limits)


def post(outbound: Outbound, url: str, body: bytes, headers: dict[str, str], **limits: Any) -> Answer:
    return outbound.post(outbound.check(url), body, headers, **limits)


@contextmanager
def raw_server(serve: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Port of a server that hands its one connection to `serve`; the event is set when the test is over."""
    over = threading.Event()
    with socket.create_server((LOOPBACK, 0)) as listener:

        def run() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # nobody came before the test was over
            with connection:
                try:
                    serve(connection, over)
                except ConnectionError:
                    return

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def drip(first: bytes, then: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Sends `first`, then `then` again and again, never silent long enough for a read to time out."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        while not over.wait(0.02):
            connection.sendall(then)

    return serve


def silent(_: socket.socket, over: threading.Event) -> None:
    over.wait()


trusting = Outbound([LOOPBACK, "receiver.test"], resolve=lambda host, port: [LOOPBACK])
strict = Outbound()


class Names:
    """A resolver with a script: one answer per question, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Dials:
    """Remembers which addresses were connected to, and refuses."""

    def __init__(self) -> None:
        self.dialed: list[str] = []

    def __call__(self, address: str, port: int, seconds: float) -> socket.socket:
        self.dialed.append(address)
        raise ConnectionRefusedError


def test_fetch_gives_the_bytes(receiver: Any) -> None:
    fetched = fetch(trusting, f"{receiver.url}/a.png?size=1#top", max_bytes=100)
    assert fetched.body == b"picture"
    assert fetched.content_type == "image/png"
    request = receiver.received[0]
    assert (request.method, request.path) == ("GET", "/a.png?size=1")
    assert request.headers["host"] == f"{LOOPBACK}:{receiver.server_port}"
    assert request.headers["accept-encoding"] == "identity"


def test_fetch_takes_exactly_the_bytes_allowed(receiver: Any) -> None:
    assert fetch(trusting, receiver.url, max_bytes=7).body == b"picture"


@pytest.mark.parametrize("headers", [{"content-length": "7"}, {}], ids=["declared", "undeclared"])
def test_too_many_bytes(receiver: Any, headers: dict[str, str]) -> None:
    receiver.answers = [(200, headers, b"picture")]
    with pytest.raises(TooLarge):
        fetch(trusting, receiver.url, max_bytes=6)


@pytest.mark.parametrize(
    ("headers", "first"), [({"content-length": "900000"}, {900_000}), ({}, set(range(1, 300_000)))]
)
def test_what_the_host_announces_is_asked_for_at_once(receiver: Any, headers: dict[str, str], first: set[int]) -> None:
    """Else several that have a part each could wait for each other's room."""
    receiver.answers = [(200, headers, bytes(900_000))]
    told: list[int] = []
    fetch(trusting, receiver.url, max_bytes=1_000_000, holding=told.append)
    assert told[0] in first
    assert told[-1] == 900_000


def test_a_body_without_end_is_cut_off() -> None:
    with raw_server(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 50_000)) as port, pytest.raises(TooLarge):
        fetch(trusting, f"http://{LOOPBACK}:{port}/", max_bytes=1_000_000)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_not_followed(receiver: Any, status: int) -> None:
    receiver.answers = [(status, {"location": f"{receiver.url}/elsewhere"}, b"")]
    with pytest.raises(BadAnswer, match="redirect") as caught:
        fetch(trusting, receiver.url, max_bytes=100)
    assert caught.value.status == status
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [204, 206, 404, 500])
def test_only_200_is_an_answer(receiver: Any, status: int) -> None:
    receiver.answers = [(status, {}, b"")]
    with pytest.raises(BadAnswer) as caught:
        fetch(trusting, receiver.url, max_bytes=100)
    assert caught.value.status == status


def test_a_compressed_body_is_refused(receiver: Any) -> None:
    receiver.answers = [(200, {"content-encoding": "gzip"}, b"\x1f\x8b")]
    with pytest.raises(BadAnswer, match="compressed"):
        fetch(trusting, receiver.url, max_bytes=100)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nx-slow: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "headers", "informational"],
)
def test_a_server_that_drips_meets_the_total_time_limit(first: bytes, then: bytes) -> None:
    with raw_server(drip(first, then)) as port, pytest.raises(TooSlow):
        fetch(trusting, f"http://{LOOPBACK}:{port}/", max_bytes=10_000_000, timeout=0.3)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_silent_server_meets_the_total_time_limit(scheme: str) -> None:
    with raw_server(silent) as port, pytest.raises(TooSlow):
        fetch(trusting, f"{scheme}://{LOOPBACK}:{port}/", max_bytes=100, timeout=0.3)


def test_a_server_that_does_not_read_meets_the_total_time_limit() -> None:
    with raw_server(silent) as port, pytest.raises(TooSlow):
        post(trusting, f"http://{LOOPBACK}:{port}/", b"x" * 50_000_000, {}, timeout=0.3)


def test_a_resolver_that_hangs_meets_the_total_time_limit() -> None:
    over = threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        over.wait()
        return [PUBLIC]

    with pytest.raises(TooSlow):
        fetch(Outbound(resolve=hangs), "https://example.com/", max_bytes=100, timeout=0.3)
    over.set()


def test_nonsense_instead_of_http() -> None:
    serve = drip(b"SSH-2.0-nonsense\r\n\r\n", b"")
    with raw_server(serve) as port, pytest.raises(HostUnreachable):
        fetch(trusting, f"http://{LOOPBACK}:{port}/", max_bytes=100)


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        with pytest.raises(HostUnreachable):
            fetch(trusting, f"http://{LOOPBACK}:{unused.getsockname()[1]}/", max_bytes=100)


def test_post_sends_the_body_and_gives_status_and_headers(receiver: Any) -> None:
    receiver.answers = [(503, {"Retry-After": "7"}, b"busy")]
    answer = post(trusting, f"{receiver.url}/hook", b"{}", {"content-type": "application/json"})
    assert answer.status == 503
    assert answer.headers["retry-after"] == "7"
    request = receiver.received[0]
    assert (request.method, request.path, request.body) == ("POST", "/hook", b"{}")
    assert request.headers["content-type"] == "application/json"


def test_post_does_not_follow_a_redirect(receiver: Any) -> None:
    receiver.answers = [(307, {"location": f"{receiver.url}/elsewhere"}, b"")]
    assert post(trusting, receiver.url, b"{}", {}).status == 307
    assert len(receiver.received) == 1


def test_proxy_variables_are_not_read(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, receiver.url)
    outbound = Outbound(["receiver.test"], resolve=lambda host, port: [LOOPBACK])
    fetch(outbound, f"http://receiver.test:{receiver.server_port}/direct", max_bytes=100)
    assert receiver.received[0].path == "/direct"


@pytest.mark.parametrize("host", written())
def test_every_way_to_write_an_inner_address_is_refused(host: str) -> None:
    names, dials = Names([PUBLIC]), Dials()
    outbound = Outbound(resolve=names, dial=dials)
    for url in (f"https://{host}/", f"https://{host}:8443/latest/meta-data"):
        with pytest.raises(UrlRefused):
            outbound.check(url)
        with pytest.raises(UrlRefused):
            fetch(outbound, url, max_bytes=100)
    assert names.asked == dials.dialed == []


@pytest.mark.parametrize("host", [host.strip("[]") for host in written()])
def test_a_name_that_resolves_to_an_inner_address_is_refused(host: str) -> None:
    dials = Dials()
    with pytest.raises(HostRefused):
        fetch(Outbound(resolve=Names([host]), dial=dials), "https://example.com/", max_bytes=100)
    assert dials.dialed == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/relative",
        "//example.com/",
        "https:///path",
        "https://",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "unix:///run/socket",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://127.0.0.1\\.example.com/",
        "https://example.com /",
        " https://example.com/",
        "https://exam\tple.com/",
        "https://example.com/\r\nHost: inside",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:-1/",
        "https://example.com:/",
        "https://example.com:+443/",
        "https://example.com:4_43/",
        "https://example.com:٤٤٣/",
        "https://example.com:0443/",
        "https://example.com:443:443/",
        "https://[2606:4700::1111]443/x",
        "https://[2606:4700::1111]x/",
        "https://[2606:4700::1111].example.com/",
        "https://x[2606:4700::1111]/",
        "https://2606:4700::1111/",
        "https://@example.com/",
        "https://:@example.com/",
        "https://exa_mple-.com/",
        "https://-example.com/",
        "https://example..com/",
        f"https://{'a' * 64}.com/",
        f"https://{'a.' * 130}com/",
        "https://[::1/",
        "https://[v1.fe80]/",
        "https://[2606:4700::1%25eth0]/",
        "https://8.8.8.%38/",
        "https://exam<ple>.com/",
        f"https://example.com/{'a' * MAX_URL}",
    ],
)
def test_urls_that_are_not_requested(url: str) -> None:
    with pytest.raises(UrlRefused):
        strict.check(url)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com", "example.com", 443),
        ("https://EXAMPLE.com.:8443/hook?a=b", "example.com", 8443),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ("https://a_b.example/", "a_b.example", 443),
        ("https://8.8.8.8/", "8.8.8.8", 443),
        ("https://[2606:4700:4700:0::1111]/", "2606:4700:4700::1111", 443),
        ("https://[64:ff9b::8.8.8.8]/", "64:ff9b::808:808", 443),
        ("https://3com.example/", "3com.example", 443),
    ],
)
def test_urls_that_are_requested(url: str, host: str, port: int) -> None:
    target = strict.check(url)
    assert (target.host, target.port, strict.trusts(target)) == (host, port, False)


@pytest.mark.parametrize("address", ["8.8.8.8", "192.0.1.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def test_the_checked_address_is_the_one_connected_to() -> None:
    names, dials = Names([PUBLIC], [LOOPBACK]), Dials()
    outbound = Outbound(resolve=names, dial=dials)
    with pytest.raises(HostUnreachable):
        fetch(outbound, "https://rebinding.example/", max_bytes=100)
    assert names.asked == [("rebinding.example", 443)]
    assert dials.dialed == [PUBLIC]
    with pytest.raises(HostRefused):
        fetch(outbound, "https://rebinding.example/", max_bytes=100)
    assert dials.dialed == [PUBLIC]


def test_one_inner_address_condemns_the_whole_answer() -> None:
    dials = Dials()
    with pytest.raises(HostRefused):
        fetch(Outbound(resolve=Names([PUBLIC, LOOPBACK]), dial=dials), "https://example.com/", max_bytes=100)
    assert dials.dialed == []


def test_the_next_address_is_tried() -> None:
    dials = Dials()
    with pytest.raises(HostUnreachable):
        fetch(Outbound(resolve=Names(["2606:4700::1", PUBLIC]), dial=dials), "https://example.com/", max_bytes=100)
    assert dials.dialed == ["2606:4700::1", PUBLIC]


def test_an_inner_server_is_never_connected_to(receiver: Any) -> None:
    outbound = Outbound(resolve=Names([LOOPBACK]))
    with pytest.raises(HostRefused):
        fetch(outbound, f"https://example.com:{receiver.server_port}/", max_bytes=100)
    with pytest.raises(UrlRefused):
        fetch(outbound, receiver.url, max_bytes=100)
    assert receiver.received == []


def test_a_name_without_addresses_and_one_with_inner_addresses_look_alike() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    messages = set()
    for resolver in (unknown, Names([LOOPBACK]), Names([])):
        with pytest.raises(HostRefused) as caught:
            fetch(Outbound(resolve=resolver), "https://example.com/", max_bytes=100)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_no_error_echoes_an_address() -> None:
    for resolver in (Names(["10.1.2.3"]), Names([PUBLIC])):
        with pytest.raises(OutboundError) as caught:
            fetch(Outbound(resolve=resolver, dial=Dials()), "https://example.com/", max_bytes=100)
        assert "10.1.2.3" not in str(caught.value)
        assert PUBLIC not in str(caught.value)


def test_the_allow_list_names_hosts_not_addresses() -> None:
    outbound = Outbound(["inside.example", "[FD00::1]", "10.0.0.5"])
    assert outbound.trusts(outbound.check("http://INSIDE.example:8080/hook"))
    assert outbound.trusts(outbound.check("http://[fd00:0::1]/hook"))
    assert outbound.trusts(outbound.check("https://10.0.0.5/hook"))
    for url in ("http://sub.inside.example/", "http://inside.example.com/", "http://10.0.0.6/", "http://167772165/"):
        with pytest.raises(UrlRefused):
            outbound.check(url)


class TestTls:
    """A receiver with a certificate for `receiver.test`, on loopback."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def names_asked_for(self) -> list[str | None]:
        return []

    @pytest.fixture
    def secure(self, receiver: Any, authority: trustme.CA, names_asked_for: list[str | None]) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("receiver.test").configure_cert(context)
        context.sni_callback = lambda connection, name, _: names_asked_for.append(name)
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        return receiver

    def outbound(self, authority: trustme.CA) -> Outbound:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return Outbound(["receiver.test", "other.test"], resolve=lambda host, port: [LOOPBACK], tls=context)

    def test_the_name_stays_the_name(
        self, authority: trustme.CA, secure: Any, names_asked_for: list[str | None]
    ) -> None:
        answer = post(self.outbound(authority), f"https://receiver.test:{secure.server_port}/hook", b"{}", {})
        assert answer.status == 200
        assert names_asked_for == ["receiver.test"]
        assert secure.received[0].headers["host"] == f"receiver.test:{secure.server_port}"

    def test_a_certificate_for_another_name_is_refused(self, authority: trustme.CA, secure: Any) -> None:
        with pytest.raises(HostUnreachable):
            post(self.outbound(authority), f"https://other.test:{secure.server_port}/hook", b"{}", {})
        assert secure.received == []

    def test_a_certificate_nobody_vouches_for_is_refused(self, secure: Any) -> None:
        with pytest.raises(HostUnreachable):
            post(trusting, f"https://receiver.test:{secure.server_port}/hook", b"{}", {})
        assert secure.received == []
