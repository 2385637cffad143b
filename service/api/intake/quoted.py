"""The long texts of a JSON body, cut out before it is parsed: images as data URIs, up to a hundred megabytes of them.

A parser would make a second copy of each, in Python's widest form if one character asks for it, while nobody else gets
a word in. So they stay in the body as they were written, to be read in pieces, and a stand-in goes where they were: as
much too long as they are for every field but an image. Knows nothing of images.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping

from service.problems import Problem
from service.validation import FieldFault, refused

PIECE = 262_144
"""Bytes that are looked at in one go: a millisecond at the most."""

LONG = 524_288
"""Bytes of a text that is cut out; longer than any field but an image can be right."""
LONG_URI = 65_536
"""Bytes of one that begins as a data URI does."""
STAND_IN = 40_000
"""Characters of what stands in for a text: more than any field but an image may have."""

MOST_LONG = 40
MOST_TEXTS = 20_000
MOST_QUOTES = 50_000
"""Quotation marks within texts."""
MOST_REST = 4_194_304
"""Bytes of a body beside its long texts."""


class Quoted:
    """A JSON string that is still in its body, from `start` to `end`, without the marks around it."""

    def __init__(self, body: bytes | bytearray, start: int, end: int) -> None:
        self._body = body
        self._start = start
        self._end = end

    def __len__(self) -> int:
        """Return the bytes of the text as it was written."""
        return self._end - self._start

    def pieces(self) -> Iterator[bytes]:
        """Read in pieces what the text says. Raises `ValueError` where that is not ASCII, or no JSON string."""
        at = self._start
        while at < self._end:
            end = min(at + PIECE, self._end)
            if end < self._end:
                end = self._whole(at, end)
            yield json.loads(b'"' + self._body[at:end] + b'"').encode("ascii")
            at = end

    def _whole(self, at: int, end: int) -> int:
        """Find where a piece ends that breaks no escape in two: `end`, or a little before it."""
        last = self._body.rfind(b"\\", max(at, end - 6), end)
        if last < 0 or not backslashes(self._body, at, last + 1) % 2:
            return end
        length = 6 if self._body[last + 1 : last + 2] == b"u" else 2
        return end if last + length <= end else last


def cut(body: bytes | bytearray) -> tuple[bytes | bytearray, Mapping[str, Quoted]]:
    """Put stand-ins for the long texts of a body, and give the body and the texts by their stand-ins.

    Raises `Problem` 400 for a text without end, and 422 for a body that would take long to parse without its images.
    """
    if len(body) <= LONG_URI:
        return body, {}
    found: dict[str, Quoted] = {}
    kept: list[bytes] = []
    token = secrets.token_hex(16)
    copied = rest = quotes = texts = 0
    start = body.find(b'"') + 1
    while start:
        end, escaped = _end(body, start, MOST_QUOTES - quotes)
        quotes += escaped
        texts += 1
        long = end - start > (LONG_URI if body[start : start + 5].lower() == b"data:" else LONG)
        if long:
            stand_in = f"{token}-{len(found):02}-".ljust(STAND_IN, "-")
            kept += [bytes(body[copied:start]), stand_in.encode()]
            found[stand_in] = Quoted(body, start, end)
            rest += start - copied
            copied = end
        if texts > MOST_TEXTS or len(found) > MOST_LONG or rest + (end - copied) > MOST_REST:
            raise _too_much()
        start = body.find(b'"', end + 1) + 1
    if rest + len(body) - copied > MOST_REST:
        raise _too_much()
    if not found:
        return body, {}
    kept.append(bytes(body[copied:]))
    return b"".join(kept), found


def backslashes(body: bytes | bytearray, start: int, end: int) -> int:
    """Count the backslashes in a row before `end`, and not before `start`."""
    count, step = 0, 16
    while end > start:
        block = body[max(start, end - step) : end]
        run = len(block) - len(block.rstrip(b"\\"))
        count += run
        end -= len(block)
        if run < len(block):
            break
        step = PIECE
    return count


def _end(body: bytes | bytearray, start: int, most: int) -> tuple[int, int]:
    """Find where the text that begins at `start` ends, and how many quotation marks are in it."""
    at, escaped = start, 0
    while True:
        end = body.find(b'"', at)
        if end < 0:
            remedy = "Send a JSON object in UTF-8."
            raise Problem(400, "malformed-body", "The body is not JSON: a text in it has no end.", remedy=remedy)
        if not backslashes(body, at, end) % 2:
            return end, escaped
        escaped += 1
        if escaped > most:
            raise _too_much()
        at = end + 1


def _too_much() -> Problem:
    remedy = "Send only the fields that the reference under `/docs` lists."
    detail = f"The JSON has more than {MOST_REST} bytes, or {MOST_TEXTS} texts, beside its images."
    return refused([FieldFault("body", detail, remedy)])
