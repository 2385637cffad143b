"""Who may have sent a request where there are no keys: AUTH=off, on the machine's own addresses.

Every web page that is open on the machine can make its browser send requests here. A page of another origin must not
make jobs (the Origin header gives it away), and a page whose own name was made to lead to 127.0.0.1 must not read them
(its name stands in the Host header). Where callers need a key, no browser has one to be tricked out of, and this layer
is not there.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.edge.problem_response import response
from service.auth import is_loopback
from service.problems import Problem
from service.settings import ServiceSettings

_READING = ("GET", "HEAD", "OPTIONS")


class OwnMachine:
    """Lets through what a program of this machine, or a page that the settings name, has sent."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        public = urlsplit(settings.public_url or "")
        self._public_host = public.hostname
        self._origins = {*settings.cors_origins, f"{public.scheme}://{public.netloc}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._fault(scope) if scope["type"] == "http" else None
        if problem is not None:
            return await response(problem)(scope, receive, send)
        return await self.app(scope, receive, send)

    def _fault(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _name(host)
        if host and not (name is not None and (is_loopback(name) or name == self._public_host)):
            return Problem(421, "wrong-host", f"The Host header says {host[:100]!r}.")
        origin = headers.get("origin")
        if origin is None or scope["method"] in _READING:
            return None
        if origin in self._origins or origin in (f"http://{host}", f"https://{host}"):
            return None
        return Problem(403, "wrong-origin", f"The request comes from a page of {origin[:100]!r}.")


def _name(host: str) -> str | None:
    """Read the host name or address from a Host header; None when there is none in it."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
