"""Many readers of jobs' event streams, one connection to Redis.

`Fanout` reads every watched stream with one XREAD and hands each entry to whom it concerns. Knows nothing of what the
entries mean.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from service.redis_keys import RedisKeys

READ_SECONDS = 5.0
"""Seconds for which one read waits."""

MOST_HELD = 128
"""Entries that wait for a slow reader. One that is further behind reads on from where it is once it has time."""

_WAKER_TTL = 60
"""Seconds that a process's own stream outlives its last use."""

START = "0-0"
"""Before the first entry of a stream."""


@dataclass(frozen=True)
class Entry:
    """One entry of a job's stream."""

    job: str
    position: str
    type: str
    #: As the record's transition wrote it, decoded once for all readers.
    data: dict[str, Any]


class Watcher:
    """One reader's share: where it stands in each of its jobs' streams, and what has come for it since.

    after: the last entry it has taken from each stream. given: the last that was put by for it.
    """

    def __init__(self, after: dict[str, str]) -> None:
        self.after = dict(after)
        self.given = dict(after)
        self.behind = False
        """Whether entries were left out because too many were waiting."""
        self.error: RedisError | None = None
        self._entries: deque[Entry] = deque()
        self._news = asyncio.Event()

    def give(self, entry: Entry, since: str) -> None:
        """Keep an entry for this reader, unless it was kept before. since: where the read began that found it.

        A read that began further on than this reader stands would leave a gap: the next one, from there, will not.
        """
        given = _order(self.given[entry.job])
        if self.behind or given < _order(since) or _order(entry.position) <= given:
            return
        if len(self._entries) >= MOST_HELD:
            self.behind = True
        else:
            self._entries.append(entry)
            self.given[entry.job] = entry.position
        self._news.set()

    def catch_up(self) -> None:
        """Begin again after what was taken, which is all that was put by."""
        self.given = dict(self.after)
        self.behind = False

    def fail(self, error: RedisError) -> None:
        self.error = error
        self._news.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for entries, and tell whether any came in this time."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def take(self) -> Iterable[Entry]:
        """Give what has come, oldest first. Raises redis' errors."""
        self._news.clear()
        if self.error is not None:
            raise self.error
        while self._entries:
            entry = self._entries.popleft()
            self.after[entry.job] = entry.position
            yield entry


class Fanout:
    """Waits on one connection for the events of all jobs that anybody in this process watches.

    Every watched stream has one position, that of the watcher who is furthest behind: who joins sets it back to where
    they stand, and everybody leaves out what they have. So there is no moment in which an event can be missed.
    A stream of the process's own is among those waited for; an entry there ends the wait when the set has changed.

    Of one event loop: not for threads.
    """

    def __init__(self, connection: redis.asyncio.Redis, keys: RedisKeys) -> None:
        self.connection = connection
        self.keys = keys
        self._waker = keys.waker(secrets.token_hex(8))
        self._woken = START
        self._watchers: dict[str, set[Watcher]] = {}
        self._positions: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._waking = False

    async def join(self, watcher: Watcher, jobs: Iterable[str]) -> None:
        """Have the entries of these jobs handed over, from where the watcher stands in each."""
        watcher.catch_up()
        for job in jobs:
            self._watchers.setdefault(job, set()).add(watcher)
            here, there = watcher.after[job], self._positions.get(job)
            self._positions[job] = here if there is None or _order(here) < _order(there) else there
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        else:
            await self._wake()

    def leave(self, watcher: Watcher, jobs: Iterable[str]) -> None:
        """Have these jobs' entries handed over no more; the wait with them in it goes on until it ends by itself."""
        for job in jobs:
            watching = self._watchers.get(job, set())
            watching.discard(watcher)
            if not watching:
                self._watchers.pop(job, None)
                self._positions.pop(job, None)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Read entries until nobody watches, or Redis fails.

        Where it fails everybody hears of it, and the next to join begins anew.
        """
        try:
            while self._positions:
                await self._read()
        except RedisError as error:
            for watcher in {each for watching in self._watchers.values() for each in watching}:
                watcher.fail(error)
        finally:
            self._task = None

    async def _read(self) -> None:
        asked = dict(self._positions)
        streams: dict[Any, Any] = {self.keys.events(job): position for job, position in asked.items()}
        streams[self._waker] = self._woken
        of_stream = {self.keys.events(job): job for job in asked}
        found = entries_of(await self.connection.xread(streams, block=int(READ_SECONDS * 1000)))
        for stream, entries in found.items():
            if stream == self._waker:
                self._woken = entries[-1][0]
                continue
            job = of_stream[stream]
            # Somebody further behind may have joined meanwhile: then their position stands, and this comes once more.
            if self._positions.get(job) == asked[job]:
                self._positions[job] = entries[-1][0]
            for position, fields in entries:
                entry = Entry(job, position, fields["type"], json.loads(fields["data"]))
                for watcher in self._watchers.get(job, ()):
                    watcher.give(entry, asked[job])

    async def _wake(self) -> None:
        """End the wait, by one call for all who join before it is sent."""
        if self._waking:
            return
        self._waking = True
        await asyncio.sleep(0)
        self._waking = False
        async with self.connection.pipeline(transaction=False) as pipe:
            pipe.xadd(self._waker, {"": ""}, maxlen=1, approximate=False)
            pipe.expire(self._waker, _WAKER_TTL)
            await pipe.execute()


def _order(position: str) -> tuple[int, int]:
    """Order stream ids as Redis sorts them."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number)


def entries_of(found: Any) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Read what XREAD gave, as text; RESP2 and RESP3 shape it differently."""
    pairs = found.items() if isinstance(found, dict) else found or []
    read: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for stream, entries in pairs:
        # RESP3 wraps the list of entries once more.
        listed = entries[0] if entries and isinstance(entries[0], list) else entries
        read[_text(stream)] = [
            (_text(entry), {_text(name): _text(value) for name, value in fields.items()}) for entry, fields in listed
        ]
    return read


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
