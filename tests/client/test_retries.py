"""What is asked again, when, and how often: against a real server that answers as the test says."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest

from inbetween import Client, Conflict, InbetweenError, ProblemError, Retries, ServerFault, TooMuch, Unreachable
from inbetween.retries import retry_after
from tests.client.conftest import QUICK, Either
from trials.receiver import Receiver

JSON = {"content-type": "application/json"}
METHODS = (200, JSON, b'{"default": "flow"}')


def problem(status: int, slug: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = {"type": f"/problems/{slug}", "title": slug, "status": status, "detail": "It is so.", "limit": 7}
    return status, {"content-type": "application/problem+json", **headers}, json.dumps(body).encode()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_asked_again_until_it_is_answered(receiver: Receiver, either: Either, status: int) -> None:
    receiver.answers = [(status, {}, b"<p>a proxy</p>"), (status, {}, b""), METHODS]
    assert either.do(either.client(receiver.url).methods()) == {"default": "flow"}
    assert len(receiver.received) == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(500, ServerFault), (404, ProblemError), (409, Conflict), (302, ProblemError)]
)
def test_what_would_be_answered_the_same_is_not_asked_again(
    receiver: Receiver, status: int, kind: type[ProblemError]
) -> None:
    receiver.answers = [(status, {}, b"text"), METHODS]
    with Client(receiver.url, retries=QUICK) as client, pytest.raises(kind, match=str(status)) as error:
        client.methods()
    assert (error.value.type, error.value.status) == ("about:blank", status)
    assert len(receiver.received) == 1


def test_a_submission_keeps_its_key(receiver: Receiver, either: Either) -> None:
    receiver.answers = [
        problem(503, "busy"),
        problem(409, "idempotency-in-flight", **{"retry-after": "0"}),
        (202, JSON, b'{"id": "job_1", "state": "queued"}'),
    ]
    job = either.do(either.client(receiver.url).inbetween(b"one", b"two", method="flow"))
    assert job.id == "job_1"
    keys = {request.headers["idempotency-key"] for request in receiver.received}
    assert len(receiver.received) == 3
    assert len(keys) == 1
    assert len({request.body.count(b"one") for request in receiver.received}) == 1


def test_it_gives_up_and_says_why(receiver: Receiver, either: Either) -> None:
    receiver.answers = [problem(429, "too-many-jobs", **{"retry-after": "0", "x-request-id": "r1"})]
    with pytest.raises(TooMuch, match="It is so") as error:
        either.do(either.client(receiver.url, retries=Retries(most=2, first=0.001)).methods())
    assert len(receiver.received) == 3
    assert (error.value.slug, error.value.retry_after, error.value.request_id) == ("too-many-jobs", 0.0, "r1")
    assert error.value.problem.extra == {"limit": 7}


def test_it_waits_as_long_as_it_is_told_and_no_longer_than_is_worth_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    receiver.answers = [problem(503, "busy", **{"retry-after": "17"}), METHODS]
    with Client(receiver.url, retries=QUICK) as client:
        client.methods()
        assert slept == [17.0]
        receiver.answers = [problem(429, "gpu-seconds-spent", **{"retry-after": "40000"}), METHODS]
        with pytest.raises(TooMuch) as error:
            client.methods()
    assert error.value.retry_after == 40000
    assert slept == [17.0]


def test_a_connection_that_breaks_is_made_again(receiver: Receiver, either: Either) -> None:
    receiver.answers = [(200, {"content-length": "100"}, b"cut off"), METHODS]
    assert either.do(either.client(receiver.url).methods()) == {"default": "flow"}
    receiver.answers = [(200, {"content-length": "100"}, b"cut off")]
    with pytest.raises(Unreachable):
        either.do(either.client(receiver.url, retries=Retries(most=0)).methods())


def test_pauses_grow_and_differ_within_bounds() -> None:
    retries = Retries(most=4, first=1.0, longest=3.0)
    for tries, low, high in ((1, 0.5, 1.0), (2, 1.0, 2.0), (3, 2.0, 3.0), (4, 3.0, 3.0)):
        found = [retries.pause(tries) for _ in range(50)]
        assert all(pause is not None and low <= pause <= high for pause in found)
    assert len({retries.pause(1) for _ in range(50)}) > 1
    assert retries.pause(5) is None
    assert retries.pause(1, 2.5) == 2.5
    assert retries.pause(1, 3.5) is None


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("3") == 3
    assert retry_after(None) is retry_after("soon") is retry_after("-1") is None
    later = retry_after(formatdate(time.time() + 100, usegmt=True))
    assert later is not None
    assert 90 < later <= 100
    assert retry_after(formatdate(time.time() - 100, usegmt=True)) == 0


def test_every_error_can_be_caught_as_one_and_pickled() -> None:
    import pickle

    import inbetween

    errors = [each for each in vars(inbetween).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(errors) >= 14
    assert all(issubclass(each, InbetweenError) for each in errors)
    known = inbetween.Problem("/problems/busy", "Busy", 503, "Later.")
    for error in (ServerFault(known, 3.0), inbetween.JobFailed("job_1", known), inbetween.JobCanceled("job_1")):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), vars(again)) == (str(error), vars(error))
