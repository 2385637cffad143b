"""Many readers of event streams on one connection: each gets what is its own, in order, nothing twice, no gap."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import redis
import redis.asyncio

from service.api.services import STREAMING_CONNECTIONS
from service.api.streams import events, fanout
from service.api.streams.events import Event, follow
from service.api.streams.fanout import START, Entry, Fanout, Watcher
from service.redis_keys import RedisKeys
from tests.service.conftest import Api
from tests.service.test_api_events import stream

KEYS = RedisKeys("fanout-test")
Story = Callable[[Fanout], Coroutine[Any, Any, None]]


def run(redis_url: str, story: Story) -> None:
    async def opened() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as connection:
            shared = Fanout(connection, KEYS)
            try:
                await asyncio.wait_for(story(shared), 60)
            finally:
                await shared.aclose()

    asyncio.run(opened())


async def write(shared: Fanout, job: str, *steps: int) -> None:
    for step in steps:
        await shared.connection.xadd(KEYS.events(job), {"type": "progress", "data": json.dumps({"step": step})})


async def end(shared: Fanout, job: str) -> None:
    await shared.connection.hset(KEYS.job(job), "state", "succeeded")
    await shared.connection.xadd(KEYS.events(job), {"type": "state", "data": json.dumps({"state": "succeeded"})})


async def begin(shared: Fanout, *jobs: str) -> None:
    for job in jobs:
        await shared.connection.hset(KEYS.job(job), "state", "running")


async def steps(of: AsyncIterator[Event]) -> list[Any]:
    return [event.data.get("step", event.data.get("state")) async for event in of]


def test_forty_streams_wait_on_one_connection(api: Api) -> None:
    """Each of another job; all are open before the first step is published, and one connection waits for them all."""
    ids = [api.submit({"method": "flow", "seed": seed})["id"] for seed in range(40)]
    began = threading.Barrier(len(ids) + 1)
    stories: dict[str, list[Any]] = {}

    def read(job_id: str) -> None:
        with stream(api, f"/inbetween/{job_id}/events") as got:
            next(got)
            began.wait(100)
            stories[job_id] = [(one.data["job"], one.data.get("step", one.data.get("state"))) for one in got]

    with redis.Redis.from_url(api.settings.redis_url) as client:
        readers = [threading.Thread(target=read, args=(job_id,)) for job_id in ids]
        for reader in readers:
            reader.start()
        began.wait(100)
        waiting = [each for each in client.client_list() if "b" in each["flags"]]
        assert [each["cmd"] for each in waiting] == ["xread"]
        assert api.services.streaming.connection_pool.max_connections == STREAMING_CONNECTIONS
    for number, job_id in enumerate(ids):
        job = api.start(job_id)
        api.jobs.progress(job.id, job.attempt, {"step": number})
        api.jobs.succeed(job.id, job.attempt, {})
    for reader in readers:
        reader.join(100)
    assert stories == {
        job_id: [(job_id, "running"), (job_id, number), (job_id, "succeeded")] for number, job_id in enumerate(ids)
    }


def test_who_joins_late_reads_from_the_beginning_and_the_others_nothing_twice(redis_url: str) -> None:
    async def story(shared: Fanout) -> None:
        await begin(shared, "a", "b")
        first = follow(shared, ["a", "b"], [START, START])
        await write(shared, "a", 1, 2)
        seen = [(await anext(first)).data["step"] for _ in range(2)]
        late = asyncio.create_task(steps(follow(shared, ["a"], [START])))
        await write(shared, "a", 3)
        await end(shared, "a")
        assert await late == [1, 2, 3, "succeeded"]
        await end(shared, "b")
        assert seen + await steps(first) == [1, 2, 3, "succeeded", "succeeded"]

    run(redis_url, story)


def test_a_slow_reader_keeps_little_in_memory_and_misses_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "MOST_HELD", 3)

    async def story(shared: Fanout) -> None:
        await begin(shared, "a")
        slow = follow(shared, ["a"], [START])
        await write(shared, "a", 0)
        seen = [(await anext(slow)).data["step"]]
        await write(shared, "a", *range(1, 20))
        quick = asyncio.create_task(steps(follow(shared, ["a"], [START])))
        await end(shared, "a")
        await quick
        (watcher,) = shared._watchers["a"]
        assert watcher.behind
        assert seen + await steps(slow) == [*range(20), "succeeded"]

    run(redis_url, story)


def test_an_entry_that_would_leave_a_gap_waits_for_the_next_read() -> None:
    async def story() -> None:
        watcher = Watcher({"a": "5-0"})
        watcher.give(Entry("a", "9-0", "progress", {}), since="8-0")
        assert list(watcher.take()) == []
        for number in (4, 6, 7, 7, 9):
            watcher.give(Entry("a", f"{number}-0", "progress", {}), since="3-0")
        assert [entry.position for entry in watcher.take()] == ["6-0", "7-0", "9-0"]

    asyncio.run(story())


def test_when_the_last_watcher_has_left_nothing_is_read(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "READ_SECONDS", 0.02)
    monkeypatch.setattr(events, "LOOK_AFTER", 0.02)

    async def story(shared: Fanout) -> None:
        await begin(shared, "a")
        await write(shared, "a", 1)
        for _ in range(2):
            watching: Any = follow(shared, ["a"], [START])
            assert (await anext(watching)).data["step"] == 1
            task = shared._task
            await watching.aclose()
            assert task is not None
            await task
            assert shared._task is None

    run(redis_url, story)
