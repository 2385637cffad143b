"""The one reader of URLs: what it lets in, every other reader sees as it does; the rest it refuses."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from service.outbound.target import Target, UrlUnreadable, read_url

_ODD = "[ ] ::1 2606:4700::1111 443 :443 : @ / ? # . a.example 8.8.8.8 %41 +443 4_43 ٤٤٣ 0 x - _ \\ ; & bücher xn-- //"
PIECES = st.sampled_from([*_ODD.split(), "\u2024"])
AUTHORITIES = st.lists(PIECES, max_size=6).map("".join)


@given(st.sampled_from(["https://", "HTTP://", "http:", "https:///", "ftp://"]), AUTHORITIES)
@example("https://", "[2606:4700::1111]443/x")
@example("https://", "a.example:٤٤٣/")
@example("https://", "a.example:+443")
def test_what_is_let_in_every_reader_sees_alike(scheme: str, rest: str) -> None:
    try:
        target = read_url(scheme + rest)
    except UrlUnreadable:
        return
    seen = urlsplit(target.url)
    assert (seen.scheme, seen.hostname, seen.port or {"http": 80, "https": 443}[seen.scheme]) == (
        target.scheme,
        target.host,
        target.port,
    )
    assert (seen.username, seen.password, seen.fragment) == (None, None, "")
    third = parse_url(target.url)
    assert ((third.host or "").strip("[]"), third.port or seen.port, third.auth) == (target.host, seen.port, None)
    assert read_url(target.url) == target, "reading what was read changes nothing"
    # The text as it was sent means the same to readers of another make, those that read it at all.
    try:
        sent, again = httpx.URL(scheme + rest), urlsplit(scheme + rest)
    except (httpx.InvalidURL, ValueError):
        return
    assert sent.port in (None, target.port)
    assert (again.port or target.port) == target.port
    if rest.isascii():
        assert (again.hostname or "").removesuffix(".").strip("[]") in (
            target.host,
            sent.raw_host.decode().removesuffix("."),
        )


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("HTTPS://EXAMPLE.com.:443", "https://example.com/"),
        ("https://a.example:8443?x=1#part", "https://a.example:8443/?x=1"),
        ("https://[2606:4700:4700:0::1111]:443/a b".replace(" ", "%20"), "https://[2606:4700:4700::1111]/a%20b"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("http://a.example:443/", "http://a.example:443/"),
    ],
)
def test_a_url_has_one_spelling(text: str, url: str) -> None:
    target = read_url(text)
    assert target.url == url
    assert Target(**target.to_json()) == target
