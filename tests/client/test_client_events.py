"""Server-sent events come in pieces cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest

from inbetween import Event
from inbetween.events import Parser

STREAM = (
    ": a comment\r\n\r\n"
    'id: 1-0\nevent: state\ndata: {"state": "queued"}\n\n'
    'event: progress\rid: 2-0\rdata: {\rdata: "stage": "für"}\r\r'
    ": still there\n\n"
    'event: late\r\nretry: 10\r\nid:3-0\r\ndata:{"a":1}\r\n\r\n'
    "data: no json\n\ndata: [1]\n\nevent: state\n\n"
    'id: 4-0\nevent: cut\ndata: {"off": true}\n'
).encode()
EVENTS = [
    Event("state", {"state": "queued"}, "1-0"),
    Event("progress", {"stage": "für"}, "2-0"),
    Event("late", {"a": 1}, "3-0"),
]


def parsed(*ends: int) -> list[Event]:
    """The events of the stream, cut there."""
    parser = Parser()
    pieces = (STREAM[start:end] for start, end in pairwise((0, *ends, len(STREAM))))
    return [event for piece in pieces for event in parser.feed(piece)]


def test_events_are_whole_wherever_the_stream_is_cut() -> None:
    assert all(parsed(cut) == EVENTS for cut in range(len(STREAM)))
    assert parsed(*range(len(STREAM))) == EVENTS


def test_what_an_event_means() -> None:
    assert Event("progress", {"step": 3, "steps": 8, "new": 1}).progress.step == 3  # type: ignore[union-attr]
    assert Event("state", {"state": "running"}).progress is None
    assert Event("state", {"state": "running"}).state == "running"
    assert Event("preview", {"image": "data:image/jpeg;base64,/9j/"}).preview == b"\xff\xd8\xff"
    assert Event("state").preview is None


@pytest.mark.parametrize("kind", ["preview", "progress", "state", "later"])
def test_an_event_with_nothing_in_it_is_no_error(kind: str) -> None:
    event = Event(kind)
    assert not event.preview
    assert event.state is None
