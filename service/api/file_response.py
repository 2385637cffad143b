"""A stored file as an HTTP answer: whole or one range of it, HEAD, and validators (RFC 9110).

Knows nothing of jobs or of who may have the file.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from email.utils import formatdate

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.problems import Problem
from service.storage import ObjectDamaged, Storage, disposition

_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


def deliver(
    storage: Storage,
    key: str,
    method: str,
    headers: Mapping[str, str],
    *,
    content_type: str | None = None,
    filename: str | None = None,
    size: int | None = None,
) -> Response:
    """Answer a GET or HEAD with the object. `headers` are the request's, their names in lower case.

    size: in bytes, where it is known. Raises `ObjectMissing`, `ObjectDamaged` for an object of another size, and
    `Problem` 416 for a range outside the file. Several ranges at once are answered with the whole file, as RFC 9110
    allows.
    """
    stat = storage.stat(key)
    if size not in (None, stat.size):
        raise ObjectDamaged(f"{key} has {stat.size} bytes, and was stored with {size}")
    etag = f'"{stat.etag}"'
    answer = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": formatdate(stat.modified, usegmt=True),
        "Cache-Control": "private, max-age=3600",
        "Content-Type": content_type or stat.content_type,
    }
    if filename is not None:
        answer["Content-Disposition"] = disposition(filename)
    if _matches(headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=answer)
    wanted = headers.get("range", "")
    # A range of another version than the one the client has parts of would make a mixed file.
    part = parse_range(wanted, stat.size) if headers.get("if-range", etag) == etag else None
    start, stop = part or (0, stat.size)
    answer["Content-Length"] = str(stop - start)
    if part is not None:
        answer["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.size}"
    status = 200 if part is None else 206
    if method == "HEAD" or start == stop:
        return Response(status_code=status, headers=answer)
    return _Streamed(_pieces(storage.read(key, start, stop)), status, headers=answer)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Read (start, stop) of a single byte range of a file of `size` bytes; None when the header asks for none.

    Raises `Problem` 416 for one that the file does not have.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= stop:
        detail = f"The file has {size} bytes, and {header!r} asks for none of them."
        headers = {"Content-Range": f"bytes */{size}"}
        raise Problem(416, "range-not-satisfiable", detail, remedy=f"Ask within 0-{size - 1}.", headers=headers)
    return start, stop


def _matches(header: str, etag: str) -> bool:
    """Tell whether an If-None-Match header has this tag: any of a list, or `*`; weak validators count."""
    return any(part.strip().removeprefix("W/") in ("*", etag) for part in header.split(",") if part.strip())


class _Streamed(StreamingResponse):
    """Is done with its source once it is over, also when the reader left: an open file or a connection to the storage
    does not wait for the garbage collector.
    """

    def __init__(self, source: Generator[bytes, None, None], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(source, status, headers=headers)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._source.close)


def _pieces(source: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Pass the pieces on, and close the source even when the reader leaves early."""
    try:
        yield from source
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()
