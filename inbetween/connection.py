"""Where the server is and how it is spoken to; what both clients make of their arguments and of a `Request`."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Any

import httpx

from inbetween.protocol import Request

__version__ = "0.1.0"
URL = "INBETWEEN_URL"
API_KEY = "INBETWEEN_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Endpoint:
    """A server and how it is spoken to."""

    #: Without a slash at its end.
    url: str
    api_key: str | None
    #: Seconds of silence that are an error.
    timeout: float

    @classmethod
    def named(cls, url: str | None, api_key: str | None, timeout: float) -> Endpoint:
        """Find the server; what is not given comes from the environment. Raises `ValueError` for a URL that is none."""
        where = (url or os.environ.get(URL) or DEFAULT_URL).strip().rstrip("/")
        try:
            parsed = httpx.URL(where)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{where!r} is no URL of a server; it looks like https://inbetween.example.com")
        return cls(where, api_key or os.environ.get(API_KEY) or None, timeout)

    def settings(self) -> dict[str, Any]:
        """Give the settings for either of httpx's clients."""
        return {
            # A proxy named in the environment is for the way to others, not to this machine itself.
            "trust_env": not _here(httpx.URL(self.url).host),
        }

    def request(self, http: httpx.Client | httpx.AsyncClient, asked: Request) -> httpx.Request:
        """Build a request. The key goes to the server alone, never to a storage that it links to."""
        inside = asked.url.startswith("/")
        headers = {"User-Agent": f"inbetween-python/{__version__}", **asked.headers}
        if self.api_key is not None and inside and asked.with_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return http.build_request(
            asked.method,
            self.url + asked.url if inside else asked.url,
            params=asked.params,
            headers=headers,
            json=asked.json,
            files=asked.files,
            content=asked.content,
            timeout=httpx.Timeout(self.timeout, connect=CONNECT_SECONDS, read=asked.read or self.timeout),
        )


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
