"""A job's events as they happen, for Server-Sent Events: state, progress, preview.

Reads the streams that the job's transitions write, by way of `fanout`. The stream is a hint and the record is the
truth: a reader that missed something asks for the job. Knows nothing of who may read what.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from service.api.streams.fanout import START, Entry, Fanout, Watcher, entries_of
from service.jobs.record import State
from service.problems import Problem

LOOK_AFTER = 5.0
"""Seconds after which a silent stream's job is looked at: its end may have been written before we came."""

MOST_STREAMS = 400
"""Of one owner in one process. One stream can carry fifty jobs."""

_POSITION = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True)
class Event:
    """One event of a job, on its way to a reader."""

    #: `state`, `progress` or `preview`.
    type: str
    data: dict[str, Any]
    #: Where each stream stands after it; see `positions`.
    position: str


def positions(text: str | None, count: int) -> list[str] | None:
    """Read from a `Last-Event-ID` where each of `count` streams stood, in the order of the jobs.

    None if it is no such id. None as text is the beginning of all.
    """
    if text is None:
        return [START] * count
    parts = text.split(",")
    return parts if len(parts) == count and all(_POSITION.fullmatch(part) for part in parts) else None


class Readers:
    """How many streams each owner has open in this process: each takes a connection of the server's for as long as it
    lasts.

    Belongs to one event loop.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, owner: str) -> Iterator[None]:
        """Count one more stream of this owner until it ends. Raises `Problem` 429 for one too many."""
        if self._open[owner] >= self._most:
            detail = f"{self._most} streams of this key's owner are open."
            raise Problem(429, "too-many-streams", detail, limit=self._most, headers={"Retry-After": "5"})
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]


async def follow(fanout: Fanout, ids: Sequence[str], after: Sequence[str]) -> AsyncIterator[Event]:
    """Give the events of several jobs, from `after` on, until each job is over and its last event was given."""
    watcher = Watcher(dict(zip(ids, after, strict=True)))
    open_ids = set(ids)
    try:
        await fanout.join(watcher, ids)
        # A job may be over, and all that it had to say have been read before: nothing will come to show it.
        look = True
        while True:
            if look:
                open_ids -= await _over(fanout, watcher, open_ids)
            if not open_ids:
                return
            look = not await watcher.wait(LOOK_AFTER)
            for entry in watcher.take():
                look = look or _ends(entry)
                where = ",".join(watcher.after[job] for job in ids)
                yield Event(entry.type, {"job": entry.job, **entry.data}, where)
            if watcher.behind:
                await fanout.join(watcher, ids)
    finally:
        fanout.leave(watcher, ids)


def _ends(entry: Entry) -> bool:
    """Tell whether an entry says that the job is over."""
    return entry.type == "state" and State(entry.data["state"]).is_terminal


async def _over(fanout: Fanout, watcher: Watcher, jobs: Iterable[str]) -> set[str]:
    """Find which of these jobs are over, or gone, with their streams read to the end."""
    named = list(jobs)
    async with fanout.connection.pipeline(transaction=False) as pipe:
        for job in named:
            pipe.hget(fanout.keys.job(job), "state")
            pipe.xread({fanout.keys.events(job): watcher.after[job]}, count=1)
        answers = await pipe.execute()
    return {
        job
        for job, state, unread in zip(named, answers[::2], answers[1::2], strict=True)
        if (state is None or State(state.decode()).is_terminal) and not entries_of(unread)
    }
