"""What the server can be asked, as exchanges: each a request or a few, with retries. Knows no connection."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx

from inbetween import images
from inbetween.errors import NotFound, ProblemError, Unreachable, error_of
from inbetween.images import Part
from inbetween.protocol import Emit, Exchange, Open, Pause, Read, Request, Send
from inbetween.retries import STATUSES, Retries, retry_after

PAGE = 100


@dataclass(frozen=True)
class Operations:
    """All of them ask again, as `retries` says, where that is safe; and every one of these is."""

    retries: Retries
    #: On the monotonic clock: no pause goes beyond it.
    deadline: float = math.inf

    def answered(self, request: Request, stream: bool = False) -> Exchange[httpx.Response]:
        """Ask until a response of success comes. Raises `ProblemError`, and `Unreachable` when there is none."""
        tries = 0
        while True:
            tries += 1
            try:
                response: httpx.Response = yield Open(request) if stream else Send(request)
                if response.is_success:
                    return response
                content = (yield from rest()) if stream else response.content
            except httpx.RequestError as error:
                pause = self._pause(tries) if _passing(error) else None
                if pause is None:
                    raise Unreachable(_said(error)) from error
            else:
                problem = problem_in(response, content)
                again = problem.status in STATUSES or problem.slug == "idempotency-in-flight"
                pause = self._pause(tries, problem.retry_after) if again else None
                if pause is None:
                    raise problem
            yield Pause(pause)

    def submit(
        self, parts: Sequence[Part], options: Mapping[str, Any], idempotency_key: str | None
    ) -> Exchange[dict[str, Any]]:
        """Submit a job and give it as accepted.

        Without a key of the caller's own, a new one makes sending it again harmless.
        Where the images are too much for one request, they are uploaded first.
        """
        key = idempotency_key or str(uuid.uuid4())
        request = Request("POST", "/inbetween", headers={"Idempotency-Key": key})
        request = replace(request, files=_form(parts, options))
        try:
            return (yield from self._json(request))
        except ProblemError as problem:
            if (
                problem.status != 413
                or problem.slug == "image-too-large"
                or not any(isinstance(part.source, bytes) for part in parts)
            ):
                raise
        uploaded = []
        for part in parts:
            uploaded.append((yield from self.upload(part)) if isinstance(part.source, bytes) else part)
        return (yield from self._json(replace(request, files=_form(uploaded, options))))

    def estimate(self, parts: Sequence[Part], options: Mapping[str, Any]) -> Exchange[dict[str, Any]]:
        return (yield from self._json(Request("POST", "/inbetween/estimate", files=_form(parts, options))))

    def upload(self, part: Part) -> Exchange[Part]:
        """Send a keyframe's bytes to the server, and give the same keyframe as `upload:ID`."""
        content = part.source if isinstance(part.source, bytes) else b""
        asked = {"content_type": part.content_type, "size": len(content)}
        place = yield from self._json(Request("POST", "/uploads", json=asked))
        headers = dict(place["headers"])
        put = Request(place["method"], place["url"], headers=headers, content=content, with_key=False)
        yield from self.answered(put)
        return replace(part, source=str(place["image"]))

    def job(self, job_id: str) -> Exchange[dict[str, Any]]:
        found, _ = yield from self.look(job_id)
        return found

    def look(self, job_id: str) -> Exchange[tuple[dict[str, Any], float]]:
        """Fetch the job, and the seconds after which the server says it is worth looking again."""
        response = yield from self.answered(Request("GET", path(job_id)))
        return response.json(), retry_after(response.headers.get("retry-after")) or 1.0

    def cancel(self, job_id: str) -> Exchange[dict[str, Any]]:
        return (yield from self._json(Request("POST", path(job_id, "cancel"))))

    def delete(self, job_id: str) -> Exchange[None]:
        """Erase a job.

        One that is not there is what was asked for: an earlier try may have been heard, its answer lost.
        """
        with suppress(NotFound):
            yield from self.answered(Request("DELETE", path(job_id)))

    def listing(self, state: str | None, limit: int | None) -> Exchange[None]:
        """Emit each job, newest first; a page is asked for when the one before is through."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            asked = {"limit": PAGE if left is None else min(PAGE, left), "state": state, "cursor": cursor}
            params = {name: value for name, value in asked.items() if value is not None}
            page = yield from self._json(Request("GET", "/inbetween", params=params))
            for job in page["jobs"][:left]:
                yield Emit(job)
            left = None if left is None else left - len(page["jobs"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def methods(self) -> Exchange[dict[str, Any]]:
        return (yield from self._json(Request("GET", "/methods")))

    def _pause(self, tries: int, asked: float | None = None) -> float | None:
        pause = self.retries.pause(tries, asked)
        return None if pause is None or time.monotonic() + pause > self.deadline else pause

    def _json(self, request: Request) -> Exchange[dict[str, Any]]:
        response = yield from self.answered(request)
        found: dict[str, Any] = response.json()
        return found


def rest() -> Exchange[bytes]:
    """Read what is left of an open response."""
    content = b""
    while piece := (yield Read()):
        content += piece
    return content


def path(job_id: str, *more: str) -> str:
    """Give the path of a job, below the server's URL. Raises `ValueError` for what cannot be an id or a name."""
    for part in (job_id, *more):
        if not part.strip("."):
            raise ValueError(f"{part!r} is no id and no name")
    return "/".join(("/inbetween", *(quote(part, safe="") for part in (job_id, *more))))


def problem_in(response: httpx.Response, content: bytes) -> ProblemError:
    """Read the problem that an answer without success tells."""
    headers = response.headers
    wait = retry_after(headers.get("retry-after"))
    return error_of(response.status_code, response.reason_phrase, content, headers.get("x-request-id"), wait)


def _form(parts: Sequence[Part], options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [*images.form(parts), ("options", (None, json.dumps(options)))]


def _passing(error: httpx.RequestError) -> bool:
    """Tell whether an error may be gone the next time: not so for a URL that no transport takes."""
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)


def _said(error: httpx.RequestError) -> str:
    """Say who did not answer, which may be the storage that the server sent us to; nothing that opens a signed link."""
    url = error.request.url
    where = f"{url.scheme}://{url.netloc.decode()}"
    return f"{where} does not answer {error.request.method} {url.path}: {str(error) or type(error).__name__}"
