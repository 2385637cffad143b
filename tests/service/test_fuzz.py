"""A short run of the trial that `benchmarks/fuzz.py` makes long: odd requests, pictures and options at a real service.

What judges is tested first: a trial that finds nothing proves something only if it would find it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mpd import photographs
from service.api.app import create_app
from service.api.intake.keyframe_check import inspect
from service.problems import MEDIA_TYPE, Problem
from service.settings import ServiceSettings
from trials.fuzz.bodies import KINDS, hostile
from trials.fuzz.cost import LivenessProbe, RequestCosts
from trials.fuzz.ledger import AnswerLedger
from trials.fuzz.memory import Memory
from trials.fuzz.pictures import DAMAGES, damaged, originals, segments
from trials.fuzz.trial import FuzzPlan, run

ROOT = Path(__file__).parents[2]

PROBLEM = {
    "type": "/problems/invalid-request",
    "title": "x",
    "status": 422,
    "detail": "x",
    "field": "options.frames",
    "remedy": "x",
}
FIELD = "keyframes[1].image"
SETTINGS = ServiceSettings(_env_file=None, auth="off")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(create_app(SETTINGS).openapi())


@pytest.mark.timeout(600)
def test_nothing_a_stranger_sends_is_answered_wrongly(tmp_path: Path) -> None:
    # How long an answer takes, the machine of a test decides too.
    plan = FuzzPlan(
        2000, 300, 200, seed=7, bodies=28, silence=30, examples=2, rounds=2, warm_up=1, personas=("member",)
    )
    with warnings.catch_warnings():
        # What makes odd data warns of it; that says nothing of the service.
        warnings.simplefilter("ignore")
        report = run(tmp_path, plan)
    print(report.table())
    assert report.clean, f"{report.told()}\n{report.table()}"
    assert report.counts["contract"] >= 2000
    assert (report.counts["pictures"], report.counts["options"]) == (300, 200)
    assert report.counts["bodies"] > 28 + 2
    assert report.cost.together > 20_000_000, "a crowd was there"
    answers = report.ledger.answers
    for part in ("contract", "pictures", "options"):
        assert answers[part, 200] > 50, "some of it must be right, or nothing deep is reached"
    assert sum(answers[part, 202] for part in ("contract", "pictures", "options")) > 0
    assert answers["contract", 307] > 0, "ids that lead to a result"
    assert report.ledger.refusals["invalid-image"] > 100
    assert len(report.ledger.refusals) > 12, report.ledger.refusals


def refused(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**PROBLEM, **changes}.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("operation", "status", "content_type", "body", "sort"),
    [
        ("GET /inbetween", 500, MEDIA_TYPE, refused(type="/problems/internal", status=500), "server errors"),
        ("GET /inbetween", 418, MEDIA_TYPE, refused(status=418), "undocumented answers"),
        ("GET /inbetween", 422, "application/json", refused(), "incomplete refusals"),
        ("GET /inbetween", 422, MEDIA_TYPE, b"<html>", "incomplete refusals"),
        ("GET /inbetween", 422, MEDIA_TYPE, refused(field=None), "incomplete refusals"),
        ("GET /inbetween", 422, MEDIA_TYPE, refused(remedy=""), "incomplete refusals"),
        ("GET /inbetween", 422, MEDIA_TYPE, refused(type="about:blank"), "incomplete refusals"),
        ("GET /inbetween", 422, MEDIA_TYPE, refused(status=400), "incomplete refusals"),
        ("GET /inbetween", 422, MEDIA_TYPE, refused(errors=[{"field": "x", "remedy": ""}]), "incomplete refusals"),
        ("GET /inbetween", 422, MEDIA_TYPE, refused(detail='File "/srv/app.py", line 1'), "incomplete refusals"),
    ],
)
def test_the_ledger_sees_what_must_not_be(
    document: dict[str, Any], operation: str, status: int, content_type: str, body: bytes, sort: str
) -> None:
    ledger = AnswerLedger(document)
    ledger.hear("contract", operation, 422, {"content-type": MEDIA_TYPE}, refused())
    assert ledger.clean, ledger.told()
    ledger.hear("contract", operation, status, {"content-type": content_type}, body)
    assert ledger.breaches[sort], ledger.told()
    assert sort in ledger.told()


def test_an_estimate_is_held_to_its_word(document: dict[str, Any]) -> None:
    ledger = AnswerLedger(document)
    assert ledger.hear_estimate(json.dumps({"accepted": True, "refusals": []}).encode(), "")
    assert not ledger.hear_estimate(json.dumps({"accepted": False, "refusals": [PROBLEM]}).encode(), "")
    assert ledger.clean
    ledger.hear_estimate(json.dumps({"accepted": True, "refusals": [PROBLEM]}).encode(), "")
    assert ledger.breaches["broken promises"]


@pytest.mark.parametrize(
    ("body", "decoded", "taken", "bounded"),
    [
        (10_000_000, 0, 47_000_000, True),
        (10_000_000, 0, 49_000_000, False),
        (10_000, 200_000_000, 207_000_000, True),
        (10_000, 100_000_000, 210_000_000, False),
        (200_000_000, 0, 520_000_000, False),
    ],
)
def test_a_request_that_takes_too_much_is_seen(body: int, decoded: int, taken: int, bounded: bool) -> None:
    cost = RequestCosts(512_000_000, 1.0)
    cost.one("this one", body, decoded, taken)
    assert cost.bounded is bounded
    assert bounded or "this one" in cost.over[0]


def test_a_crowd_that_takes_too_much_and_a_long_silence_are_seen() -> None:
    crowd, silence = RequestCosts(512_000_000, 1.0), RequestCosts(512_000_000, 1.0)
    crowd.crowd(512_000_001)
    silence.longest = 1.1
    assert not crowd.bounded
    assert not silence.bounded


MEASURED = """
import os
from trials.fuzz.cost import peak
with peak(os.getpid()) as taken:
    held = bytearray(50_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held
print(taken[0])
"""


def test_memory_that_is_given_back_is_measured_all_the_same() -> None:
    """In a process of its own: one that has run many tests gives back memory of theirs meanwhile."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True, cwd=ROOT)
    assert 45_000_000 < int(done.stdout) < 80_000_000


def test_a_server_that_is_silent_is_measured() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent, over = threading.Event(), threading.Event()

        def serve() -> None:
            while not over.is_set():
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    if silent.is_set():
                        over.wait(0.7)
                        silent.clear()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with LivenessProbe(f"http://127.0.0.1:{server.getsockname()[1]}") as probe:
            silent.set()
            before = probe.asked
            while silent.is_set() or probe.asked < before + 3:
                over.wait(0.01)
            assert probe.longest > 0.6
            over.set()


def test_a_seed_decides_every_body_and_all_kinds_are_among_them() -> None:
    made = [hostile(3, number) for number in range(1, 30)]
    assert made == [hostile(3, number) for number in range(1, 30)]
    assert {body.name.split()[0] for body in made} == {kind.__name__ for kind in KINDS}
    assert max(len(body.content) for body in made) > 10_000_000


@pytest.mark.parametrize(
    ("readings", "flat"),
    [([100, 105, 95], True), ([100, 100, 112], False), ([100, 100, 88], False), ([100] * 9 + [120], False)],
)
def test_growing_memory_is_seen(readings: list[int], flat: bool) -> None:
    memory = Memory(settled=10)
    memory.read(5, 50)
    for number, resident in enumerate(readings):
        memory.read(10 + number, resident)
    assert memory.flat is flat


def test_a_seed_decides_every_picture_and_all_formats_are_among_them() -> None:
    assert [damaged(3, number) for number in range(20)] == [damaged(3, number) for number in range(20)]
    assert damaged(3, 0) != damaged(4, 0)
    told = " ".join(damaged(1, number)[0] for number in range(600)).split()
    assert set(told) == set(originals()) | {damage.__name__ for damage in DAMAGES}
    animated = {"png-animated", "webp-animated", "avif-animated"}
    for name, data in originals().items():
        ends = segments(data)
        assert (ends[0][0], ends[-1][1]) == (0, len(data))
        if name in animated:
            with pytest.raises(Problem, match="animated"):
                inspect(data, SETTINGS)
        else:
            assert inspect(data, SETTINGS).width in (64, 96), name


@hypothesis_settings(max_examples=400, deadline=None)
@example(seed=2, number=1)
@example(seed=11, number=1142)
@example(seed=11, number=10516)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 1000))
def test_a_damaged_picture_is_refused_by_name_or_one_for_the_worker_too(seed: int, number: int) -> None:
    told, data = damaged(seed, number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = None
        try:
            found = inspect(data, SETTINGS, field=FIELD)
        except Problem as refusal:
            problem = refusal
        if problem is None:
            assert photographs.load(data).size == (found.width, found.height), told
        else:
            assert (problem.field, problem.status in (413, 422), bool(problem.remedy)) == (FIELD, True, True), told
