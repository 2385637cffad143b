"""A job's events as they happen, for Server-Sent Events: state, progress, preview.

Reads the streams that the job's transitions write. The stream is a hint and the record is the truth: a reader that
missed something asks for the job. Knows nothing of who may read what.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from service.errors import Problem
from service.records import Keys, State

BLOCK = 5.0
"""Seconds after which a silent stream's job is looked at: its end may have been written before we came."""

MOST_STREAMS = 100
"""Of one owner in one process. One stream can carry fifty jobs."""

_POSITION = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True)
class Event:
    """type: state, progress, preview. position: where each stream stands after it; see `positions`."""

    type: str
    data: dict[str, Any]
    position: str


def positions(text: str | None, count: int) -> list[str] | None:
    """From a `Last-Event-ID`: where each of `count` streams stood, in the order of the jobs; None if it is no such id.

    None as text is the beginning of all.
    """
    if text is None:
        return ["0-0"] * count
    parts = text.split(",")
    return parts if len(parts) == count and all(_POSITION.fullmatch(part) for part in parts) else None


class Readers:
    """How many streams each owner has open in this process: each takes a connection to Redis for as long as it lasts.

    Belongs to one event loop.
    """

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, owner: str) -> Iterator[None]:
        """Raises `Problem` 429 for one too many."""
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


async def follow(
    connection: redis.asyncio.Redis, keys: Keys, ids: Sequence[str], after: Sequence[str]
) -> AsyncIterator[Event]:
    """Events of several jobs, from `after` on, until each job is over and its last event was given."""
    position = dict(zip(ids, after, strict=True))
    of_stream = {keys.events(job_id): job_id for job_id in ids}
    open_ids = list(ids)
    block: int | None = None
    while open_ids:
        streams: dict[Any, Any] = {keys.events(job_id): position[job_id] for job_id in open_ids}
        # The first read does not wait, so that a job that is over answers at once.
        found = _entries(await connection.xread(streams, block=block))
        for stream, entries in found.items():
            job_id = of_stream[stream]
            for entry, fields in entries:
                position[job_id] = entry
                data = {"job": job_id, **json.loads(fields["data"])}
                yield Event(fields["type"], data, ",".join(position[name] for name in ids))
        if not found or any(_ends(entries) for entries in found.values()):
            open_ids = [job_id for job_id in open_ids if not await _over(connection, keys, job_id, position[job_id])]
        block = int(BLOCK * 1000)


def _ends(entries: Sequence[tuple[str, dict[str, str]]]) -> bool:
    """Whether a job's last news is that it is over."""
    kind = entries[-1][1]["type"]
    return kind == "state" and State(json.loads(entries[-1][1]["data"])["state"]).is_terminal


async def _over(connection: redis.asyncio.Redis, keys: Keys, job_id: str, position: str) -> bool:
    """Whether the job is over, or gone, and its stream was read to the end."""
    state = await _awaited(connection.hget(keys.job(job_id), "state"))
    if state is not None and not State(_text(state)).is_terminal:
        return False
    return not _entries(await connection.xread({keys.events(job_id): position}, count=1))


def _entries(found: Any) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """What XREAD gave, as text; RESP2 and RESP3 shape it differently."""
    pairs = found.items() if isinstance(found, dict) else found or []
    read: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for stream, entries in pairs:
        # RESP3 wraps the list of entries once more.
        listed = entries[0] if entries and isinstance(entries[0], list) else entries
        read[_text(stream)] = [
            (_text(entry), {_text(name): _text(value) for name, value in fields.items()}) for entry, fields in listed
        ]
    return read


async def _awaited(value: Any) -> Any:
    return await value


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
