"""Files come whole or not at all: against a real server that breaks off, lies and forgets."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from inbetween import AsyncJob, Client, DownloadFailed, Job, NoResult, Retries
from tests.client.conftest import Either
from trials.receiver import Receiver

CONTENT = bytes(range(256)) * 1000
CUT = 100_000
WHOLE = {"content-length": str(len(CONTENT)), "etag": '"v1"'}
REST = {
    "content-length": str(len(CONTENT) - CUT),
    "content-range": f"bytes {CUT}-{len(CONTENT) - 1}/{len(CONTENT)}",
    "etag": '"v1"',
}


def finished(either: Either, url: str, **about: Any) -> Any:
    """A job with one video."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    video = {"name": "take-1.mp4", "take": 1, "format": "mp4", "content_type": "video/mp4", "url": ""}
    deep = {**video, "name": "take-1-4444.mov", "format": "prores4444"}
    files = [
        {"size": len(CONTENT), "sha256": sha256, **video, **about},
        {"size": len(CONTENT), "sha256": sha256, **deep},
    ]
    known = {"frames": 2, "fps": 7, "width": 8, "height": 8, "duration": 0.3, "seeds": [0], "settings": {}}
    client = either.client(url, retries=Retries(most=2, first=0.001))
    kind = Job if either.kind is Client else AsyncJob
    return kind(client, {"id": "job_1", "state": "succeeded", "result": {**known, "files": files}})


def test_taken_up_where_it_broke(receiver: Receiver, either: Either, tmp_path: Path) -> None:
    receiver.answers = [(200, WHOLE, CONTENT[:CUT]), (503, {}, b""), (206, REST, CONTENT[CUT:])]
    job = finished(either, receiver.url)
    assert either.do(job.save(tmp_path / "a.mp4")).read_bytes() == CONTENT
    _, again, last = receiver.received
    assert again.headers["range"] == last.headers["range"] == f"bytes={CUT}-"
    assert last.headers["if-range"] == '"v1"'


@pytest.mark.parametrize(
    "second",
    [
        (200, WHOLE, CONTENT),
        (206, {**REST, "content-range": "bytes 5-9/10"}, CONTENT[CUT:]),
        (416, {}, b""),
        (206, REST, b"\0" * (len(CONTENT) - CUT)),
    ],
    ids=["no ranges", "another range", "no such range", "another file"],
)
def test_begun_anew_where_the_rest_does_not_fit(
    receiver: Receiver, either: Either, tmp_path: Path, second: tuple[int, dict[str, str], bytes]
) -> None:
    receiver.answers = [(200, WHOLE, CONTENT[:CUT]), second, (200, WHOLE, CONTENT)]
    job = finished(either, receiver.url)
    assert either.do(job.save(tmp_path / "a.mp4")).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("second", [(206, {**REST, "content-range": "bytes 5-9/10"}, CONTENT[CUT:]), (416, {}, b"")])
def test_a_frame_of_which_nobody_said_what_it_is(
    receiver: Receiver, either: Either, second: tuple[int, dict[str, str], bytes]
) -> None:
    receiver.answers = [(200, WHOLE, CONTENT[:CUT]), second, (200, WHOLE, CONTENT)]
    assert either.do(finished(either, receiver.url).frame(7, take=2)) == CONTENT
    assert [request.path for request in receiver.received] == ["/inbetween/job_1/frames/7?take=2"] * 3


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT + b"!", CONTENT[:-1] + b"!"])
def test_what_is_not_as_the_job_says_is_never_left(
    receiver: Receiver, either: Either, tmp_path: Path, wrong: bytes
) -> None:
    receiver.answers = [(200, {"content-length": str(len(wrong))}, wrong)]
    (tmp_path / "a.mp4").write_bytes(b"from before")
    job = finished(either, receiver.url)
    with pytest.raises(DownloadFailed, match=r"take-1\.mp4"):
        either.do(job.save(tmp_path / "a.mp4"))
    assert len(receiver.received) == 3
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.mp4", b"from before")]


def test_a_connection_that_always_breaks_is_given_up(receiver: Receiver, either: Either, tmp_path: Path) -> None:
    receiver.answers = [(200, WHOLE, CONTENT[:CUT])]
    job = finished(either, receiver.url)
    with pytest.raises(DownloadFailed):
        either.do(job.save(tmp_path / "a.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_chooses_among_the_jobs_formats(receiver: Receiver, either: Either, tmp_path: Path) -> None:
    receiver.answers = [(200, WHOLE, CONTENT)]
    job = finished(either, receiver.url)
    either.do(job.save(tmp_path / "a.mov"))
    assert receiver.received[-1].path == "/inbetween/job_1/files/take-1-4444.mov"
    for path, take in (("a.gif", 1), ("a", 1), ("a.mp4", 2)):
        with pytest.raises(NoResult, match=r"mp4, prores4444|it has 1"):
            either.do(job.save(tmp_path / path, take))
    with pytest.raises(NoResult, match=r"take-1\.mp4"):
        either.do(job.read("other.json"))


def test_names_of_the_server_lead_nowhere_else(receiver: Receiver, either: Either, tmp_path: Path) -> None:
    receiver.answers = [(200, WHOLE, CONTENT)]
    job = finished(either, receiver.url, name="take-1/../../../escape.mp4")
    saved = either.do(job.save_all(tmp_path / "here"))
    assert {path.parent for path in saved} == {tmp_path / "here"}
    assert receiver.received[0].path.count("/") == 4
