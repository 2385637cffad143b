"""What surrounds every request: its id and its log line, the cap on its body, headers that keep browsers careful.

Plain ASGI, so that bodies and answers stream through.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import NoReturn

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.edge.problem_response import response
from service.api.edge.request_metrics import RequestMetrics
from service.api.edge.scope import ANSWERED, TRACEPARENT
from service.observe import tracing
from service.problems import Problem
from service.settings import ServiceSettings

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset(("/livez", "/readyz", "/metrics"))
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # What answers a key is nobody else's; files say for themselves how long they keep.
    "Cache-Control": "no-store",
}

log = structlog.get_logger("request")


class RequestBoundary:
    """The outermost layer: gives the request an id, logs and counts it, and turns what nobody caught into a 500."""

    def __init__(self, app: ASGIApp, traffic: RequestMetrics) -> None:
        self.app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        scope["request_id"] = request_id
        scope[ANSWERED] = {}
        status = 0
        started = time.monotonic()
        began = 0.0

        async def framed(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], time.monotonic()
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.update(scope[ANSWERED])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        trace = tracing.current() or tracing.given(Headers(scope=scope).get("traceparent")) or tracing.fresh()
        scope[TRACEPARENT] = trace
        with structlog.contextvars.bound_contextvars(request=request_id, trace=tracing.trace_id(trace)):
            try:
                await self.app(scope, receive, framed)
            except Exception as error:
                if status and _reader_left(error):
                    return None
                log.exception("unforeseen", method=scope["method"], path=_path(scope))
                if status:
                    # Half an answer is out; closing the connection is all that is left to say.
                    raise
                detail = "An error that nobody foresaw. It was logged with this request's id."
                await response(Problem(500, "internal", detail), request_id)(scope, receive, framed)
            finally:
                level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
                milliseconds = round(1000 * (time.monotonic() - started), 1)
                log.log(level, "request", method=scope["method"], path=_path(scope), status=status, ms=milliseconds)
                if status:
                    self._traffic.count(_route(scope), scope["method"], status, began - started)
        return None


class BodyCap:
    """What a request's body may cost: how many bytes it has, how long it takes.

    A body beyond its route's limit is refused by its announced length at once, else where it passes the limit. Only
    the time in which we wait for the client counts; it has CLIENT_SECONDS, and one more for each CLIENT_RATE bytes.

    An answer that comes while much of a body is still to come closes the connection: else the server would go on
    reading to its end only to throw it away.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, largest: int) -> None:
        """Put the limits of bodies around an application. largest: bytes of a body that there is ever room for."""
        self.app = app
        self.settings = settings
        self._largest = min(settings.max_body_bytes, largest)
        self.held = 0
        """Bytes of the bodies of all requests that are being answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body = _Body(self, scope, receive, send)
        try:
            if body.fault is not None:
                return await response(body.fault)(scope, receive, body.send)
            return await self.app(scope, body.receive, body.send)
        finally:
            self.held -= body.seen

    def limit(self, path: str) -> int:
        """Return the bytes that a request to `path` may have. What no route expects is not worth reading."""
        if path in _WITH_IMAGES:
            return self._largest
        return self.settings.max_image_bytes if path.startswith("/objects/") else SMALL_BODY


class _Body:
    """The body of one request on its way in, and the answer to it on its way out."""

    def __init__(self, cap: BodyCap, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        announced = int(length) if length.isdecimal() else 0
        self.limit = cap.limit(scope["path"])
        self.fault: Problem | None = None
        """What can be told from the headers."""
        self.seen = 0
        self._cap = cap
        self._scope = scope
        self._receive = receive
        self._send = send
        chunked = "transfer-encoding" in headers
        self._coming = announced > 0 or chunked
        self._much = announced > _WORTH_DRAINING or chunked
        self._waited = 0.0
        self._answering = False
        self._refusal: Problem | None = None
        if announced > self.limit:
            self.fault = too_large(self.limit)
        elif announced and chunked:
            # A proxy before us may have gone by the other one, and seen another end of this request (RFC 9112, 6.3).
            self.fault = Problem(400, "bad-request", "The request has both a Content-Length and a Transfer-Encoding.")

    async def receive(self) -> Message:
        if not self._coming or self._answering:
            # All of it is here, or nobody wants it any more: now one waits for the client to leave.
            return await self._receive()
        patience = self._cap.settings.client_seconds + self.seen / self._cap.settings.client_rate
        began = time.monotonic()
        try:
            with anyio.fail_after(max(0.0, patience - self._waited)):
                message = await self._receive()
        except TimeoutError:
            self._refuse(Problem(408, "too-slow", f"{self.seen} bytes of the body came in {patience:.0f} seconds."))
        self._waited += time.monotonic() - began
        size = len(message.get("body", b""))
        self.seen += size
        self._cap.held += size
        self._coming = message["type"] == "http.request" and message.get("more_body", False)
        if self.seen > self.limit:
            self._refuse(too_large(self.limit))
        return message

    async def send(self, message: Message) -> None:
        if self._refusal is not None and not self._answering:
            # Whatever was made of the exception, this is the answer.
            self._answering = True
            return await response(self._refusal)(self._scope, self._receive, self._send_closing)
        if self._refusal is None:
            self._answering = True
            await self._send_closing(message)
        return None

    async def _send_closing(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._coming and self._much:
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)

    def _refuse(self, problem: Problem) -> NoReturn:
        self._much = True
        self._refusal = problem
        raise problem


def too_large(limit: int) -> Problem:
    remedy = "Send smaller keyframes, or send them through POST /uploads first."
    return Problem(413, "body-too-large", f"The body has more than {limit} bytes.", remedy=remedy, limit=limit)


SMALL_BODY = 65_536
"""Bytes a request may have where it carries no image."""

_WITH_IMAGES = ("/inbetween", "/inbetween/estimate", "/v1/videos")

_WORTH_DRAINING = 65_536
"""Bytes of an unread body for which a connection is kept rather than opened anew."""


def _reader_left(error: Exception) -> bool:
    """Tell whether an error only says that FastAPI held an event in hand when the reader of a stream left."""
    return isinstance(error, ExceptionGroup) and error.split(anyio.BrokenResourceError)[1] is None


def _route(scope: Scope) -> str:
    """Return the template of the path, of which there are few however many paths strangers make up."""
    return getattr(scope.get("route"), "path_format", "none")


def _path(scope: Scope) -> str:
    """Return the path as it is logged: no longer than it can mean anything, and without a signed link's token."""
    path: str = scope["path"]
    return "/objects/…" if path.startswith("/objects/") else path[:200]
