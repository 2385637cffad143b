"""The one reader of URLs that callers chose: text in, a `Target` out, and nobody reads the text again.

Parsers of URLs disagree about odd ones, and whoever decides by one and connects by another can be led astray. So a URL
whose parts could be seen in two ways is refused here, and what was read is kept and used: stored with the
job, compared, connected to. Asks no resolver and knows no policy; which targets may be visited, `outbound` decides.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from service.outbound.addresses import is_address

MAX_URL = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Whitespace, control characters and the backslash are read differently by different URL parsers.
_AMBIGUOUS = re.compile(r"[\s\x00-\x20\x7f-\xa0\\]")
# RFC 3986, section 3.2, narrowed to what every parser reads alike: a bracket only around an IPv6 address and nothing
# but a port behind it, a port in plain digits without leading zeros, no user name.
_SHAPE = re.compile(
    r"https?://(?:\[[0-9a-f:.]+\]|[^\[\]@:/?#]+)(?::(?P<port>[1-9][0-9]{0,4}))?(?=[/?#]|\Z)", re.IGNORECASE | re.ASCII
)
_HAS_AUTHORITY = re.compile(r"https?://[^/?#]+", re.IGNORECASE | re.ASCII)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class UrlUnreadable(ValueError):
    """This text is no URL that can be read in one way only. The message can be shown to whoever sent it."""


@dataclass(frozen=True)
class Target:
    """A URL as it was read."""

    #: http or https.
    scheme: str
    #: Lower case, no trailing dot, an address in its canonical form without brackets.
    host: str
    #: Also where the URL named none.
    port: int
    #: What the request line asks for, query included, in ASCII.
    path: str

    @property
    def authority(self) -> str:
        """Give host and port as the Host header has them."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """Give the URL in its one canonical spelling."""
        return f"{self.scheme}://{self.authority}{self.path}"

    def to_json(self) -> dict[str, Any]:
        """Give the parts as a record keeps them; `Target(**parts)` is the way back."""
        return asdict(self)


def read_url(text: str) -> Target:
    """Read an absolute http or https URL (RFC 3986). Raises `UrlUnreadable` for any other, and for an ambiguous one."""
    if len(text) > MAX_URL:
        raise UrlUnreadable(f"the URL is longer than {MAX_URL} characters")
    if _AMBIGUOUS.search(text):
        raise UrlUnreadable("the URL contains spaces, control characters or backslashes")
    authority = _HAS_AUTHORITY.match(text)
    if authority is None:
        raise UrlUnreadable("the URL is not an absolute https URL")
    if "@" in authority[0]:
        raise UrlUnreadable("the URL contains a user name or password")
    shape = _SHAPE.match(text)
    if shape is None:
        raise UrlUnreadable("the URL's host or port cannot be read; a port is a plain number from 1 to 65535")
    try:
        parsed = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlUnreadable("the URL cannot be read") from error
    port = int(shape["port"] or _DEFAULT_PORTS[parsed.scheme])
    if port > 65535:
        raise UrlUnreadable("the URL names a port that does not exist")
    return Target(parsed.scheme, _host(parsed.raw_host.decode("ascii")), port, parsed.raw_path.decode("ascii"))


def canonical_host(host: str) -> str:
    """Give a host's one spelling: lower case, no trailing dot, no brackets, an address in its shortest form."""
    host = host.strip().lower().removesuffix(".")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return str(ipaddress.ip_address(host)) if is_address(host) else host


def _host(raw: str) -> str:
    """Give a host name or address in its canonical form; every other way to write an address is refused."""
    if "%" in raw:
        raise UrlUnreadable("the URL's host is percent-encoded or has a zone")
    host = canonical_host(raw)
    if is_address(host):
        return host
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlUnreadable("the URL's host is not a host name")
    # The resolver reads 2130706433, 0177.1 and 0x7f.1 as addresses; no public name ends in a number.
    if _NUMBER.fullmatch(labels[-1]):
        raise UrlUnreadable("the URL's host is an address in an unusual form")
    return host
