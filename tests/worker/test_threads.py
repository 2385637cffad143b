"""The first piece of a task that fails ends the others."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from contextvars import ContextVar

import pytest

from worker.task.threads import ThreadGroup


def nothing(_: float = 0) -> None:
    """No end from without, and no sleep."""


def test_results_come_in_the_order_of_their_pieces_and_each_only_once() -> None:
    second = threading.Event()

    def first() -> int:
        assert second.wait(10)
        return 1

    def after() -> int:
        second.set()
        return 2

    with ThreadGroup[int](2, nothing, nothing) as group:
        group.submit(first)
        group.submit(after)
        assert group.results() == [1, 2]
        group.submit(lambda: 3)
        assert group.results() == [3]
        assert group.results() == []


def test_the_first_failure_ends_the_pieces_under_way_and_those_to_come() -> None:
    waiting, failed, began, ends = threading.Barrier(2), threading.Event(), list[int](), list[str]()

    def patient() -> None:
        waiting.wait(10)
        assert failed.wait(10)
        try:
            while True:
                group.wait(0)
        except OSError as error:
            ends.append(str(error))
            raise

    def fail() -> None:
        waiting.wait(10)
        raise OSError("full")

    with ThreadGroup[None](2, nothing, nothing) as group:
        group.submit(patient)
        group.submit(fail)
        for number in range(20):
            group.submit(began.append, number)
        with pytest.raises(OSError, match="full"):
            group.results()
        failed.set()
    assert (ends, began) == (["full"], [])


def test_an_error_of_the_block_ends_the_pieces_too() -> None:
    waits = threading.Semaphore(0)

    def task() -> None:
        def patient() -> None:
            while True:
                group.wait(0)
                waits.release()

        with ThreadGroup[None](2, nothing, nothing) as group:
            group.submit(patient)
            assert waits.acquire(timeout=10)
            raise KeyError

    with pytest.raises(KeyError):
        task()


def test_what_ends_the_task_from_without_is_what_the_task_raises() -> None:
    ends, began = [InterruptedError()], list[int]()

    def check() -> None:
        if ends:
            raise ends.pop()

    with ThreadGroup[None](1, check, nothing) as group:
        group.submit(began.append, 1)
        group.submit(began.append, 2)
        wait(group._coming)
        with pytest.raises(InterruptedError):
            group.results()
    assert began == []


def test_a_piece_runs_in_the_context_of_its_caller() -> None:
    job = ContextVar[str]("job")
    job.set("job_1")
    with ThreadGroup[str](1, nothing, nothing) as group:
        group.submit(job.get)
        assert group.results() == ["job_1"]


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    with ThreadGroup[None](4, nothing, nothing) as group:
        for _ in range(8):
            group.submit(nothing)
    assert threading.active_count() == before
