"""Events as they happen, by Server-Sent Events.

What can be refused is refused by a dependency, before the stream begins: afterwards the status is out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.exceptions import RedisError

from service.api.routes.dependencies import ONE_JOB, Here, ReadableJob, Reader, find, problems
from service.api.services import Services
from service.api.streams.events import follow, positions
from service.problems import Problem

MOST_JOBS = 50

log = structlog.get_logger(__name__)
router = APIRouter(tags=["events"])

_POSITION = "[0-9]{1,19}-[0-9]{1,19}"
_ID = "job_[0-9a-z]{26}"


def _last_seen(pattern: str) -> Any:
    """Document the header `Last-Event-ID`; nothing in it is as good as none."""
    text = "The `id` of the last event seen: the stream goes on after it. Browsers send it by themselves."
    return Header(description=text, json_schema_extra={"pattern": f"^({pattern})?$"})


LastEventId = Annotated[str | None, _last_seen(_POSITION)]
LastEventIds = Annotated[str | None, _last_seen(f"{_POSITION}(,{_POSITION})*")]


def _resumed(last_event_id: str | None, count: int) -> list[str]:
    after = positions(last_event_id or None, count)
    if after is None:
        remedy = "Send the `id` of an event of this same stream, or leave the header out."
        raise Problem(
            422, "invalid-request", "This is no event id of this stream.", field="Last-Event-ID", remedy=remedy
        )
    return after


def one_position(_: ReadableJob, last_event_id: LastEventId = None) -> list[str]:
    return _resumed(last_event_id, 1)


def several(
    here: Here,
    key: Reader,
    ids: Annotated[
        str,
        Query(
            description=f"Ids of up to {MOST_JOBS} jobs, separated by commas.",
            json_schema_extra={"pattern": f"^{_ID}(,{_ID}){{0,{MOST_JOBS - 1}}}$"},
        ),
    ],
    last_event_id: LastEventIds = None,
) -> tuple[list[str], list[str]]:
    """Read the jobs' ids and where to go on in each stream."""
    names = list(dict.fromkeys(name for name in ids.split(",") if name))
    if not 1 <= len(names) <= MOST_JOBS:
        detail = f"{len(names)} ids were sent."
        raise Problem(422, "invalid-request", detail, field="ids", remedy=f"Send 1 to {MOST_JOBS} ids.")
    return [find(here, key, name).id for name in names], _resumed(last_event_id, len(names))


async def one_reader(here: Here, key: Reader) -> AsyncIterator[None]:
    """Count the stream until it has ended."""
    with here.readers.one_more(key.owner):
        yield


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`event` is `state`, `progress` or `preview`; `data` is JSON with the job's id as `job`. A "
        "comment comes every 15 seconds while nothing happens. The stream ends when every job is over.",
        "content": {
            "text/event-stream": {
                "examples": {
                    "a step": {
                        "value": 'id: 1767607200000-0\nevent: progress\ndata: {"job": "job_06b3…", "stage": '
                        '"sampling", "step": 3, "steps": 25, "fraction": 0.12}\n\n'
                    }
                }
            }
        },
    }
}


@router.get(
    "/inbetween/{job_id}/events",
    operation_id="streamInbetween",
    summary="One job as it happens",
    response_class=EventSourceResponse,
    responses={**_STREAM, **problems(*ONE_JOB, "invalid-request", "too-many-streams")},
    dependencies=[Depends(one_reader)],
)
async def stream_inbetween(
    here: Here, job: ReadableJob, after: Annotated[list[str], Depends(one_position)]
) -> AsyncIterator[ServerSentEvent]:
    """Stream all events from the job's beginning, or from `Last-Event-ID` on.

    An event is a hint: `GET /inbetween/{id}` is the truth.
    """
    async for event in _events(here, [job.id], after):
        yield event


@router.get(
    "/events",
    operation_id="streamInbetweens",
    summary="Several jobs in one stream",
    response_class=EventSourceResponse,
    responses={**_STREAM, **problems(*ONE_JOB, "invalid-request", "too-many-streams")},
    dependencies=[Depends(one_reader)],
)
async def stream_inbetweens(
    here: Here, asked: Annotated[tuple[list[str], list[str]], Depends(several)]
) -> AsyncIterator[ServerSentEvent]:
    """Stream the events of several jobs as those of a single one; `data.job` says whose event it is.

    To resume, send the same `ids` in the same order.
    """
    async for event in _events(here, *asked):
        yield event


async def _events(here: Services, ids: Sequence[str], after: Sequence[str]) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in follow(here.fanout, ids, after):
            yield ServerSentEvent(data=event.data, event=event.type, id=event.position)
    except RedisError as error:
        # The reader comes again with Last-Event-ID; a cut stream is how it learns to.
        log.warning("stream cut", jobs=list(ids), error=f"{type(error).__name__}: {error}")
