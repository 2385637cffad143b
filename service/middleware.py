"""What surrounds every request: its id and its log line, the cap on its body, headers that keep browsers careful.

Plain ASGI, so that bodies and answers stream through.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Problem
from service.routes.dependencies import ANSWERED
from service.routes.problems import response

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset(("/livez", "/readyz", "/metrics"))
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

log = structlog.get_logger("request")


class Frame:
    """The outermost layer: gives the request an id, logs how it ended, and turns what nobody caught into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        scope["request_id"] = request_id
        scope[ANSWERED] = {}
        status = 0
        started = time.monotonic()

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.update(scope[ANSWERED])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                await self.app(scope, receive, framed)
            except Exception:
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
        return None


class BodyCap:
    """Refuses a body beyond `limit` bytes: by its announced length at once, else where it passes the limit.

    An answer that comes while much of a body is still to come closes the connection: else the server would go on
    reading to its end only to throw it away.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        announced = int(length) if length.isdecimal() else 0
        coming = announced > _WORTH_DRAINING or "transfer-encoding" in headers
        seen = 0

        async def counted() -> Message:
            nonlocal seen, coming
            message = await receive()
            seen += len(message.get("body", b""))
            coming = coming and message.get("more_body", False)
            if seen > self.limit:
                raise self._too_large()
            return message

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and coming:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        if announced > self.limit:
            return await response(self._too_large())(scope, receive, closing)
        return await self.app(scope, counted, closing)

    def _too_large(self) -> Problem:
        remedy = "Send smaller keyframes, or send them through POST /uploads first."
        return Problem(
            413, "body-too-large", f"The body has more than {self.limit} bytes.", remedy=remedy, limit=self.limit
        )


_WORTH_DRAINING = 65_536
"""Bytes of an unread body for which a connection is kept rather than opened anew."""


def _path(scope: Scope) -> str:
    """The path as it is logged: no longer than it can mean anything, and without a signed link's token."""
    path: str = scope["path"]
    return "/objects/…" if path.startswith("/objects/") else path[:200]
