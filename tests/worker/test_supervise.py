"""Children that are started again with growing pauses, and when an engine counts as stalled."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from service.settings import ServiceSettings
from worker.engine.protocol import Status
from worker.launcher import FIRST_STEP_FACTOR, stalled
from worker.process.supervise import FIRST_PAUSE, LONGEST_PAUSE, STEADY_SECONDS, Child

SETTINGS = ServiceSettings(_env_file=None, stall_factor=20, stall_seconds=60)


def child(code: str) -> Child:
    return Child("it", lambda: subprocess.Popen([sys.executable, "-c", code]))


def end(child: Child, now: float) -> int:
    """Wait for a started child's end and have it seen at `now`."""
    assert child.pid is not None
    child._process.wait(20)  # type: ignore[union-attr]
    code = child.ended(now)
    assert code is not None
    return code


def pause_after_end(child: Child, now: float) -> float:
    """Start a child that ends by itself, and find the pause before it may start again."""
    assert child.start(now)
    end(child, now)
    return child._not_before - now


def test_a_machine_without_room_for_a_process_is_no_reason_to_fall() -> None:
    spawned: list[float] = []
    errors = [OSError(errno.EAGAIN, "x"), OSError(errno.ENOMEM, "x"), FileNotFoundError(errno.ENOENT, "x")]

    def spawn() -> subprocess.Popen[bytes]:
        spawned.append(1)
        raise errors[len(spawned) - 1]

    one = Child("child", spawn)
    assert not one.start(0.0)
    assert not one.start(FIRST_PAUSE - 0.1), "after a pause"
    assert not one.start(FIRST_PAUSE)
    assert len(spawned) == 2
    with pytest.raises(FileNotFoundError):
        one.start(FIRST_PAUSE + 2 * FIRST_PAUSE)


def test_a_child_that_fails_is_started_again_after_growing_pauses() -> None:
    failing = child("raise SystemExit(3)")
    pauses = [pause_after_end(failing, 1000.0 * n) for n in range(9)]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert not failing.start(8000.0 + LONGEST_PAUSE - 0.1)
    assert failing.start(8000.0 + LONGEST_PAUSE)
    end(failing, 9000.0)


def test_a_child_that_ran_for_long_starts_again_soon() -> None:
    failing = child("raise SystemExit(3)")
    for n in range(5):
        pause_after_end(failing, 1000.0 * n)
    assert failing.start(5000.0)
    end(failing, 5000.0 + STEADY_SECONDS)
    assert failing.start(5000.0 + STEADY_SECONDS + FIRST_PAUSE)
    end(failing, 6000.0)


def test_a_child_that_was_asked_to_stop_may_start_at_once() -> None:
    stopped = child("import time; time.sleep(60)")
    assert stopped.start(0.0)
    assert not stopped.start(0.0), "it runs already"
    stopped.stop()
    assert end(stopped, 1.0) == -15
    assert stopped.start(1.0)
    stopped.kill()
    end(stopped, 2.0)


def status(quiet: float | None, median: float | None) -> Status:
    return Status("ready", {}, {}, "job-1" if quiet is not None else None, 0, quiet, median)


@pytest.mark.parametrize(
    ("answer", "unanswered", "ready", "silence"),
    [
        (status(None, None), 0.0, True, None),
        (status(59.0, 0.1), 0.0, True, None),
        (status(61.0, 0.1), 0.0, True, 61.0),
        (status(100.0, 6.0), 0.0, True, None),
        (status(121.0, 6.0), 0.0, True, 121.0),
        (status(61.0, None), 0.0, True, None),
        (status(60.0 * FIRST_STEP_FACTOR + 1, None), 0.0, True, 60.0 * FIRST_STEP_FACTOR + 1),
        (None, 59.0, True, None),
        (None, 61.0, True, 61.0),
        (None, 61.0, False, None),
        (None, 60.0 * FIRST_STEP_FACTOR + 1, False, 60.0 * FIRST_STEP_FACTOR + 1),
    ],
)
def test_an_engine_is_stalled_when_it_is_silent_for_many_steps(
    answer: Status | None, unanswered: float, ready: bool, silence: float | None
) -> None:
    assert stalled(SETTINGS, answer, unanswered, ready) == silence
