"""Threads at the pieces of one task: the first piece that fails ends the task, and the other pieces with it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextvars import copy_context
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class ThreadGroup(Generic[T]):
    """Up to `most` threads, as a context manager; at its end none of them is at work any more.

    Once a piece has failed, or the block it serves, those that have not begun never do, and those under way end at
    their next `check` or `wait`: during an outage all of them wait for the same thing, and only once.
    """

    def __init__(self, most: int, check: Callable[[], None], wait: Callable[[float], None]) -> None:
        """Make a group of at most `most` threads.

        check: raises what ends the task from without. wait: sleeps so many seconds, and may raise the same.
        """
        self._pool = ThreadPoolExecutor(most)
        self._check = check
        self._wait = wait
        self._coming: list[Future[T]] = []
        self._failure: BaseException | None = None

    def __enter__(self) -> ThreadGroup[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._failure = self._failure or error
        self._pool.shutdown(cancel_futures=True)

    def submit(self, work: Callable[..., T], *arguments: object) -> None:
        """Start one more piece, in the caller's context, so that its log lines say whose it is."""
        self._coming.append(self._pool.submit(copy_context().run, self._run, work, *arguments))

    def results(self) -> list[T]:
        """Give the results of all that was submitted since the last call, in that order.

        Raises what the first to fail raised.
        """
        wait_for(self._coming, return_when=FIRST_EXCEPTION)
        self.check()
        results = [future.result() for future in self._coming]
        self._coming.clear()
        return results

    def check(self) -> None:
        """Raise what the first to fail raised, or what ends the task from without."""
        if self._failure is not None:
            raise self._failure
        self._check()

    def wait(self, seconds: float) -> None:
        """Sleep so many seconds; raises as `check` does, before and after."""
        self.check()
        self._wait(seconds)
        self.check()

    def _run(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            self.check()
            return work(*arguments)
        except BaseException as failure:
            self._failure = self._failure or failure
            raise
