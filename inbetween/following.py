"""Following a job to its end: by its event stream, and by asking where the stream does not get through."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace

import httpx

from inbetween.events import Parser
from inbetween.operations import Operations, path, problem_in, rest
from inbetween.protocol import Emit, Exchange, Open, Pause, Read, Request
from inbetween.records import OVER, Event, Record
from inbetween.retries import STATUSES

HEARTBEAT = 15.0
"""Seconds between signs of life on a silent stream."""
SILENCE = 3 * HEARTBEAT
"""Seconds without one after which the stream is taken for dead."""
STREAM_TRIES = 3
"""Streams in a row that may give nothing; after them, the job is only asked for."""
MORE_TRIES = 3
"""Tries more than a single question has: a server that restarts is waited for."""


def follow(operations: Operations, job: Record, after: str | None = None, deadline: float = math.inf) -> Exchange[None]:
    """Emit the job's events until it is over, or the deadline on the monotonic clock; `job` is brought up to each.

    after: the id of the last event seen. When the stream breaks it is taken up where it was; what the job is at the
    end is asked for, for the stream is a hint. Raises as `Operations.job` does.
    """
    retries = (
        replace(operations.retries, most=operations.retries.most + MORE_TRIES)
        if operations.retries.most
        else operations.retries
    )
    patient = Operations(retries, deadline)
    stream = _EventReader(job, after)
    barren = 0
    while True:
        streaming = barren < STREAM_TRIES and deadline - time.monotonic() > HEARTBEAT
        if streaming:
            heard = yield from stream.read(deadline)
            barren = 0 if heard else barren + 1
        job.data, pause = yield from patient.look(job.id)
        # News that the next stream will bring is left to it.
        for event in stream.unheard() if barren or not streaming or job.over else ():
            yield Emit(event)
        if job.over:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            return
        yield Pause(min(left, pause if barren or not streaming else operations.retries.first))


class _EventReader:
    """What was told of the job so far, and where in its stream that was."""

    def __init__(self, job: Record, after: str | None) -> None:
        self._job = job
        self._after = after
        self._state: str | None = None
        self._end: Event | None = None
        self._progress = job.progress

    def read(self, deadline: float) -> Exchange[bool]:
        """Emit what one connection brings, and tell whether it brought anything.

        Ends early while the deadline is near: the next sign of life might come after it.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._after} if self._after else {})
        left = deadline - time.monotonic()
        request = Request("GET", path(self._job.id, "events"), headers=headers, read=min(SILENCE, left))
        heard = False
        try:
            response: httpx.Response = yield Open(request)
            if not response.is_success and response.status_code not in STATUSES and response.status_code < 500:
                raise problem_in(response, (yield from rest()))
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                return False
            parser = Parser()
            while deadline - time.monotonic() > HEARTBEAT and (piece := (yield Read())):
                for event in parser.feed(piece):
                    heard = True
                    self._after = event.id or self._after
                    if event.state in OVER:
                        # Told when the job has been asked for: an end without its result is of no use.
                        self._end = event
                        return True
                    self._job.heard(event)
                    self._state, self._progress = self._job.state, self._job.progress
                    yield Emit(event)
        except httpx.RequestError:
            return heard
        return heard

    def unheard(self) -> list[Event]:
        """List the news in the job as it was just asked for."""
        job, found = self._job, [self._end] if self._end else []
        if self._end:
            self._state, self._end = self._end.state, None
        if job.state != self._state:
            found.append(Event("state", {"job": job.id, "state": job.state, "position": job.position}))
        elif job.progress not in (None, self._progress):
            found.append(Event("progress", {"job": job.id, **asdict(job.progress)} if job.progress else {}))
        self._state, self._progress = job.state, job.progress
        return found
