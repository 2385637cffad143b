"""Files of a job, brought home whole: taken up where a connection broke, checked, and only then put in their place."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import httpx

from inbetween.errors import DownloadFailed, RequestRefused
from inbetween.operations import Operations, path
from inbetween.protocol import Exchange, Pause, Read, Request
from inbetween.records import File


def file(operations: Operations, job_id: str, wanted: File, into: BinaryIO) -> Exchange[None]:
    """Download a file of the result.

    Raises `DownloadFailed` when it comes otherwise than the job says, as often as we try.
    """
    yield from _Download(operations, into, wanted.size, wanted.sha256).run(path(job_id, "files", wanted.name))


def frame(operations: Operations, job_id: str, number: int, take: int, into: BinaryIO) -> Exchange[None]:
    """Download a single frame as a JPEG; frames are numbered from 0, takes from 1."""
    yield from _Download(operations, into).run(path(job_id, "frames", str(number)), take=take)


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file beside `target`, which becomes `target` at the end of the block, or vanishes if that raises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with unfinished.open("xb") as opened:
            yield opened
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


class _Download:
    """One file on its way. size, sha256: None where nobody said."""

    def __init__(
        self, operations: Operations, into: BinaryIO, size: int | None = None, sha256: str | None = None
    ) -> None:
        self._operations = operations
        self._into = into
        self._size = size
        self._sha256 = sha256
        self._start_again()

    def run(self, url: str, **params: int) -> Exchange[None]:
        request = Request("GET", url, params=params or None)
        tries, furthest = 0, 0
        while True:
            fault = yield from self._attempt(request)
            if fault is None:
                return
            # A broken connection that brought something is no failed try.
            tries, furthest = (1, self._got) if self._got > furthest else (tries + 1, furthest)
            pause = self._operations.retries.pause(tries)
            if pause is None:
                raise DownloadFailed(f"{url}: {fault}")
            yield Pause(pause)

    def _attempt(self, request: Request) -> Exchange[str | None]:
        """Try once, and say what went wrong; None when all is here."""
        # Compressed on the way, its bytes could not be counted.
        headers = {"Accept-Encoding": "identity"}
        if self._got and self._etag:
            headers |= {"Range": f"bytes={self._got}-", "If-Range": self._etag}
        try:
            response = yield from self._operations.answered(replace(request, headers=headers), stream=True)
            if not self._begin(response):
                return "another part of the file came than was asked for"
            while piece := (yield Read()):
                self._into.write(piece)
                self._digest.update(piece)
                self._got += len(piece)
        except httpx.RequestError as error:
            return str(error) or type(error).__name__
        except RequestRefused as problem:
            if problem.status != 416:
                raise
            self._start_again()
            return str(problem)
        fault = self._fault()
        if fault is not None:
            self._start_again()
        return fault

    def _begin(self, response: httpx.Response) -> bool:
        """Tell whether what comes now belongs where we are."""
        follows = response.headers.get("content-range", "").startswith(f"bytes {self._got}-")
        partial = response.status_code == 206
        if not (partial and follows):
            self._start_again()
        etag = response.headers.get("etag", "")
        self._etag = "" if etag.startswith("W/") else etag
        return follows or not partial

    def _fault(self) -> str | None:
        if self._size is not None and self._got != self._size:
            return f"{self._got} bytes came where the job says {self._size}"
        if self._sha256 is not None and self._digest.hexdigest() != self._sha256:
            return "its SHA-256 is not the one that the job says"
        return None

    def _start_again(self) -> None:
        self._into.seek(0)
        self._into.truncate()
        self._digest = hashlib.sha256()
        self._got = 0
        self._etag = ""
