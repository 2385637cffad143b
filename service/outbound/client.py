"""HTTP requests to addresses that callers chose: keyframes by URL and webhooks.

Such a request must not become a way into the network this service runs in. A host is resolved once, every address of
the answer is checked, and the connection goes to a checked address and nowhere else, so a resolver that changes its
answer gains nothing. Redirects are not followed, proxy variables are not read, bytes and total time are capped, and
no resolved address appears in an error. Hosts in FETCH_ALLOW_HOSTS are the deployer's own: they may be private and
plain http.

Knows nothing of jobs, images or signatures.

    OutboundError         its message and its `kind` can be shown to the caller
    ├── UrlRefused        a URL this service does not request
    ├── HostRefused       a host that does not resolve, or not to public addresses only
    ├── HostUnreachable   no connection, failed TLS, or no HTTP
    ├── TooSlow           the total time limit passed
    ├── TooLarge          more bytes than allowed
    └── BadAnswer         a status or an encoding that is of no use; `status`
"""

from __future__ import annotations

import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import httpcore
import httpx

from service.outbound.addresses import is_address, is_public
from service.outbound.target import Target, UrlUnreadable, canonical_host, read_url

Resolver = Callable[[str, int], Sequence[str]]
"""(host name, port) → addresses as text; raises OSError when there are none."""
Dialer = Callable[[str, int, float], socket.socket]
"""(address, port, seconds) → connected TCP socket; raises OSError."""

CONNECT_SECONDS = 5.0
"""Longest wait for one address, so that the next one still gets its turn within the total."""
MAX_ADDRESSES = 4


class OutboundError(Exception):
    """A request to another host did not give what was asked for. `kind` names the class for a log or an API."""

    kind: ClassVar[str]


class UrlRefused(OutboundError):
    """This URL is not one the service requests."""

    kind = "url-refused"


class HostRefused(OutboundError):
    """The host of this URL does not resolve to public addresses."""

    kind = "host-refused"

    def __init__(self) -> None:
        super().__init__("the host does not resolve to a public address")


class HostUnreachable(OutboundError):
    """No connection, a failed TLS handshake, or an answer that is not HTTP."""

    kind = "unreachable"


class TooSlow(OutboundError):
    """The total time limit passed."""

    kind = "too-slow"

    def __init__(self) -> None:
        super().__init__("the answer was not complete within the time limit")


class TooLarge(OutboundError):
    """More bytes than allowed."""

    kind = "too-large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the answer has more than {max_bytes} bytes")


class BadAnswer(OutboundError):
    """The answer is of no use: not 200, or encoded."""

    kind = "bad-answer"

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


@dataclass(frozen=True)
class Fetched:
    """What a GET has brought."""

    #: The bytes as sent.
    body: bytes
    #: What the server called them, which proves nothing.
    content_type: str


@dataclass(frozen=True)
class Answer:
    """What a POST was answered. Its body is not read."""

    #: Of the answer, redirects included.
    status: int
    #: Names are in lower case.
    headers: dict[str, str]


def resolve(host: str, port: int) -> list[str]:
    """Look up the addresses of a host name, in the order the system prefers. Raises OSError when there are none."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """Open a TCP connection to an address (not a name)."""
    connection = socket.create_connection((address, port), timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Outbound:
    """Makes requests to hosts that callers chose.

    allow_hosts: host names and addresses that may be private and plain http, as they are written in the URL.
    resolve, dial, tls: how names become addresses, addresses connections, and connections trusted ones.
    """

    def __init__(
        self,
        allow_hosts: Iterable[str] = (),
        *,
        resolve: Resolver = resolve,
        dial: Dialer = dial,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = frozenset(canonical_host(host) for host in allow_hosts)
        self._resolve = resolve
        self._dial = dial
        self._tls = tls

    def check(self, url: str) -> Target:
        """Read a URL that may be requested. Raises `UrlRefused`.

        Asks no resolver: a name's addresses count when it is connected to.
        """
        try:
            target = read_url(url)
        except UrlUnreadable as error:
            raise UrlRefused(str(error)) from error
        self._admit(target)
        return target

    def trusts(self, target: Target) -> bool:
        """Tell whether the target's host is in FETCH_ALLOW_HOSTS."""
        return target.host in self._allowed

    def _admit(self, target: Target) -> None:
        """Refuse what may not be requested from here and now. Raises `UrlRefused`."""
        if self.trusts(target):
            return
        if target.scheme == "http":
            raise UrlRefused("the URL is plain http, and its host is not one this service may reach without TLS")
        if is_address(target.host) and not is_public(target.host):
            raise UrlRefused("the URL names an address that is not public")

    def fetch(
        self,
        target: Target,
        *,
        max_bytes: int,
        timeout: float = 20.0,
        holding: Callable[[int], None] = lambda size: None,
    ) -> Fetched:
        """GET the bytes of a target, at most `max_bytes` of them, within `timeout` seconds in all.

        holding: told how many there are in hand, before there are, and of all at once where the host says how many
        will come; what it raises passes through. Raises one of the `OutboundError`s; `BadAnswer` for every status but
        200, redirects included.
        """
        headers = {"accept": "image/*", "accept-encoding": "identity"}
        with self._request("GET", target, headers, None, timeout) as response:
            status, answered = response.status, _headers(response)
            if 300 <= status < 400:
                raise BadAnswer(status, "the host answered with a redirect, which is not followed")
            if status != 200:
                raise BadAnswer(status, f"the host answered with status {status}")
            # A compressed body could unpack to any size.
            if answered.get("content-encoding", "identity").lower() != "identity":
                raise BadAnswer(status, "the host compressed its answer although asked not to")
            return Fetched(_body(response, answered, max_bytes, holding), answered.get("content-type", ""))

    def post(
        self,
        target: Target,
        body: bytes,
        headers: dict[str, str],
        *,
        timeout: float = 20.0,
        connecting: Callable[[str], object] | None = None,
    ) -> Answer:
        """POST `body` and give the answer's status and headers, whatever they are, within `timeout` seconds in all.

        connecting: is told each address before it is connected to; what it raises ends the request and comes out.
        Raises one of the `OutboundError`s.
        """
        with self._request("POST", target, headers, body, timeout, connecting) as response:
            return Answer(response.status, _headers(response))

    @contextmanager
    def _request(
        self,
        method: str,
        target: Target,
        headers: dict[str, str],
        body: bytes | None,
        timeout: float,
        connecting: Callable[[str], object] | None = None,
    ) -> Iterator[httpcore.Response]:
        # Once more, since what may be visited can have changed since the URL was let in.
        self._admit(target)
        deadline = _Deadline(timeout)
        sent = [("host", target.authority), ("user-agent", "inbetween"), ("connection", "close"), *headers.items()]
        network = _Network(target, self.trusts(target), deadline, self._resolve, self._dial, connecting)
        core_url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        try:
            with (
                httpcore.HTTPConnection(
                    core_url.origin,
                    ssl_context=self._context() if target.scheme == "https" else None,
                    network_backend=network,
                ) as connection,
                connection.stream(method, core_url, headers=sent, content=body) as response,
            ):
                yield response
        except httpcore.TimeoutException as error:
            raise TooSlow from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise HostUnreachable("the host could not be reached, or did not speak HTTP as expected") from error

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        return self._tls


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _body(
    response: httpcore.Response, headers: dict[str, str], max_bytes: int, holding: Callable[[int], None]
) -> bytes:
    declared = headers.get("content-length", "")
    if declared.isdecimal():
        if int(declared) > max_bytes:
            raise TooLarge(max_bytes)
        # At once: of several that hold a part and wait for the rest, none would get on.
        holding(int(declared))
    body = io.BytesIO()
    for chunk in response.iter_stream():
        if body.tell() + len(chunk) > max_bytes:
            raise TooLarge(max_bytes)
        holding(body.tell() + len(chunk))
        body.write(chunk)
    # A BytesIO gives its bytes away where a bytearray would copy them.
    return body.getvalue()


class _Deadline:
    """One time limit over name resolution, connecting, TLS, sending and every read."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, more than 0, or raise `TooSlow`."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TooSlow
        return seconds


class _Network(httpcore.NetworkBackend):
    """Connects to checked addresses of one target; httpcore's own idea of hosts and time-outs is not asked."""

    def __init__(
        self,
        target: Target,
        trusted: bool,
        deadline: _Deadline,
        resolve: Resolver,
        dial: Dialer,
        connecting: Callable[[str], object] | None,
    ) -> None:
        self._connecting = connecting
        self._target = target
        self._trusted = trusted
        self._deadline = deadline
        self._resolve = resolve
        self._dial = dial

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: OSError | None = None
        addresses = self._addresses()[:MAX_ADDRESSES]
        for number, address in enumerate(addresses):
            if self._connecting is not None:
                self._connecting(address)
            try:
                # So that the last one has its turn too, however little time there is in all.
                seconds = min(CONNECT_SECONDS, self._deadline.left() / (len(addresses) - number))
                return _SocketStream(self._dial(address, self._target.port, seconds), self._deadline)
            except OSError as error:
                failure = error
        raise httpcore.ConnectError("no address answered") from failure

    def _addresses(self) -> Sequence[str]:
        """List the addresses to try. One that is not public condemns the whole answer. Raises `HostRefused`."""
        if is_address(self._target.host):
            return [self._target.host]
        try:
            addresses = _within(self._deadline, lambda: self._resolve(self._target.host, self._target.port))
        except (OSError, UnicodeError) as error:
            raise HostRefused from error
        # A name without addresses and one with private addresses look alike, or callers could map the network inside.
        if not addresses or not (self._trusted or all(is_public(address) for address in addresses)):
            raise HostRefused
        return addresses


def _within(deadline: _Deadline, work: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Return the result of `work`, which cannot be interrupted.

    Past the deadline it is left alone in its own thread.
    """
    results: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except Exception as error:  # noqa: BLE001  it is raised again by the thread that waits
            results.put(error)

    threading.Thread(target=run, name="resolve", daemon=True).start()
    try:
        result = results.get(timeout=deadline.left())
    except queue.Empty:
        raise TooSlow from None
    if isinstance(result, Exception):
        raise result
    return result


class _SocketStream(httpcore.NetworkStream):
    """A connected socket whose every operation ends by the deadline."""

    def __init__(self, connection: socket.socket, deadline: _Deadline) -> None:
        self._socket = connection
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(self._deadline.left())
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise TooSlow from error
        except OSError as error:
            raise httpcore.ReadError("reading failed") from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            while buffer:
                self._socket.settimeout(self._deadline.left())
                buffer = buffer[self._socket.send(buffer) :]
        except TimeoutError as error:
            raise TooSlow from error
        except OSError as error:
            raise httpcore.WriteError("writing failed") from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._socket.settimeout(self._deadline.left())
            return _SocketStream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._deadline)
        except TimeoutError as error:
            self.close()
            raise TooSlow from error
        except (OSError, ValueError) as error:
            self.close()
            raise httpcore.ConnectError("TLS failed") from error

    def get_extra_info(self, info: str) -> object:
        return self._socket if info == "socket" else None
