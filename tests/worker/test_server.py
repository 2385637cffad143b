"""The line of jobs before the GPU, over a real socket, with a toy in the model's place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpd.methods import Settings, SettingsError
from mpd.output.clip import to_bits
from mpd.progress import MotionReport, Pictures, Progress, Take
from service.settings import ServiceSettings
from worker.engine import job_line, protocol
from worker.launcher import stalled
from worker.task import engine_client

PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


class Toy:
    """Stands in for the model: makes a step each time the test lets it."""

    def __init__(self) -> None:
        self.may_step = threading.Semaphore(0)
        self.begun: list[Settings] = []
        self.error: Exception | None = None
        self.closed = threading.Event()
        self.motions: tuple[MotionReport | None, ...] = ()
        self.interpolator: dict[str, Any] | None = None

    def __call__(self, pictures: list[Pictures], options: Settings, bits: int) -> Iterator[Progress | Take]:
        self.begun.append(options)
        try:
            steps = options.steps or 1
            for step in range(1, steps + 1):
                assert self.may_step.acquire(timeout=20)
                if self.error is not None:
                    raise self.error
                yield Progress(0, 1, 0, 1, step, steps, step / steps, 1.0, lambda: PICTURE)
            made = to_bits(np.stack([picture[::-1] for picture in pictures]), bits)
            take = Take(0, options.seeds[0], made + (bits == 16), options.fps)
            yield replace(take, motions=self.motions, interpolator=self.interpolator)
        finally:
            self.closed.set()


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def path(toy: Toy, tmp_path: Path) -> Iterator[str]:
    """Socket path of a running server around the toy."""
    path = protocol.socket_path(tmp_path)
    line = job_line.JobServer(path)
    thread = threading.Thread(target=line.run, args=(toy,))
    thread.start()
    yield path
    line.stop()
    for _ in range(100):
        toy.may_step.release()
    thread.join(20)
    assert not thread.is_alive()


Connect = Callable[[], Connection]


@pytest.fixture
def connect(path: str) -> Iterator[Connect]:
    opened: list[Connection] = []

    def connect() -> Connection:
        opened.append(Client(path, family="AF_UNIX"))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def ask(connection: Connection, job: str = "a-1", **settings: Any) -> None:
    values = {"job": job, "settings": {"steps": 3, **settings}, "pictures": [PICTURE.shape] * 2, "bits": 8}
    protocol.send(connection, "generate", values, [PICTURE, PICTURE + 1])


def hear(connection: Connection, *kinds: str) -> protocol.Message:
    """The next messages must be of these kinds; returns the last."""
    for kind in kinds:
        assert connection.poll(20), f"no {kind} came"
        message = protocol.receive(connection)
        assert message.type == kind, message
    return message


def test_a_job_streams_its_steps_and_its_frames_bit_for_bit(toy: Toy, connect: Connect) -> None:
    client = connect()
    ask(client, seeds=[7], fps=12)
    for _ in range(3):
        toy.may_step.release()
    last = hear(client, "waiting", "started", "progress", "progress", "progress")
    assert last.values == {
        "take": 0, "takes": 1, "segment": 0, "segments": 1, "step": 3, "steps": 3, "fraction": 1.0, "sigma": 1.0
    }  # fmt: skip
    take = hear(client, "take")
    assert (take.values["seed"], take.values["fps"], take.values["shape"]) == (7, 12, [2, 4, 6, 3])
    frames = protocol.pictures(take.parts, [take.values["shape"][1:]] * 2)
    np.testing.assert_array_equal(np.stack(frames), np.stack([PICTURE[::-1], (PICTURE + 1)[::-1]]))
    assert hear(client, "done").values["seconds"] >= 0


def test_frames_of_16_bits_come_bit_for_bit(toy: Toy, connect: Connect) -> None:
    client = connect()
    values = {"job": "a-1", "settings": {"steps": 1}, "pictures": [PICTURE.shape] * 2, "bits": 16}
    protocol.send(client, "generate", values, [PICTURE, PICTURE + 1])
    toy.may_step.release()
    message = hear(client, "waiting", "started", "progress", "take")
    frames = protocol.frames(message.parts, message.values["shape"], message.values["bits"])
    assert frames.dtype == np.uint16
    assert (frames == np.stack([PICTURE[::-1], PICTURE[::-1] + 1]).astype(int) * 257 + 1).all()
    for parts, shape, bits in ((message.parts[:1], [2, 4, 6, 3], 16), (message.parts, [2, 4, 6, 3], 8), (
        message.parts, [2, 4, 6], 16), (message.parts, [2, 4, 6, 3], 12)):  # fmt: skip
        with pytest.raises(protocol.ProtocolError):
            protocol.frames(parts, shape, bits)


FOUND = MotionReport(0.75, 0.125, 12.5, "Most of it moves.")


@pytest.mark.parametrize("motions", [(), (None,), (FOUND, None, replace(FOUND, trusted=0.5))])
def test_what_is_known_of_the_motion_comes_with_the_take(
    toy: Toy, connect: Connect, motions: tuple[MotionReport | None, ...]
) -> None:
    client = connect()
    toy.motions = motions
    ask(client, steps=1)
    toy.may_step.release()
    take = engine_client._event(hear(client, "waiting", "started", "progress", "take"))
    assert isinstance(take, Take)
    assert take.motions == motions


@pytest.mark.parametrize("facts", [None, {"name": "RIFE 4.0", "license": None, "sha256": "aa"}])
def test_what_made_frames_between_a_models_comes_with_the_take(
    toy: Toy, connect: Connect, facts: dict[str, Any] | None
) -> None:
    client = connect()
    toy.interpolator = facts
    ask(client, steps=1)
    toy.may_step.release()
    take = engine_client._event(hear(client, "waiting", "started", "progress", "take"))
    assert isinstance(take, Take)
    assert take.interpolator == facts


def test_previews_come_as_small_jpegs(toy: Toy, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.previews.SECONDS_BETWEEN", 0.0)
    client = connect()
    ask(client, steps=1)
    toy.may_step.release()
    message = hear(client, "waiting", "started", "progress")
    assert message.parts[0].startswith(b"\xff\xd8\xff")


def test_jobs_are_generated_one_at_a_time_in_the_order_they_came(toy: Toy, connect: Connect) -> None:
    first, second = connect(), connect()
    ask(first, "a-1", steps=1, seeds=[1])
    hear(first, "waiting", "started")
    ask(second, "b-1", steps=1, seeds=[2])
    assert hear(second, "waiting").values == {"ahead": 1}
    toy.may_step.release()
    hear(first, "progress", "take", "done")
    toy.may_step.release()
    hear(second, "started", "progress", "take", "done")
    assert [options.seeds for options in toy.begun] == [(1,), (2,)]


def test_cancel_stops_the_job_at_its_next_step_and_the_next_one_runs(toy: Toy, connect: Connect) -> None:
    first, second = connect(), connect()
    ask(first, steps=100)
    toy.may_step.release()
    hear(first, "waiting", "started", "progress")
    ask(second, steps=1)
    hear(second, "waiting")
    protocol.send(first, "cancel", {})
    protocol.send(first, "status", {})
    hear(first, "status")  # so the cancel has been read
    toy.may_step.release()
    hear(first, "canceled")
    assert toy.closed.is_set()
    toy.may_step.release()
    hear(second, "started", "progress", "take", "done")


def test_a_server_that_is_stopped_has_told_its_client_when_it_ends(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the end of the process would look like a death in the middle of the job."""
    told: list[str] = []
    send = protocol.send

    def slow(connection: Connection, kind: str, *rest: Any) -> None:
        if kind == "canceled":
            time.sleep(0.2)
        send(connection, kind, *rest)
        told.append(kind)

    line = job_line.JobServer(protocol.socket_path(tmp_path))
    thread = threading.Thread(target=line.run, args=(toy,))
    thread.start()
    with Client(protocol.socket_path(tmp_path), family="AF_UNIX") as connection:
        ask(connection)
        hear(connection, "waiting", "started")
        monkeypatch.setattr(protocol, "send", slow)
        line.stop()
        toy.may_step.release()
        thread.join(20)
        assert not thread.is_alive()
        assert told == ["canceled"]


def test_a_closed_connection_stops_its_job(toy: Toy, connect: Connect) -> None:
    first, second = connect(), connect()
    ask(first, steps=100)
    hear(first, "waiting", "started")
    ask(second, steps=1)
    hear(second, "waiting")
    first.close()
    while not toy.closed.is_set():
        toy.may_step.release()
        toy.closed.wait(0.02)
    toy.may_step.release()
    hear(second, "started", "progress", "take", "done")


def test_a_step_that_never_ends_is_seen_to_stall_though_its_client_has_gone(toy: Toy, connect: Connect) -> None:
    gone, waiting, launcher = connect(), connect(), connect()
    ask(gone, "a-1", steps=100)
    toy.may_step.release()
    hear(gone, "waiting", "started", "progress")
    ask(waiting, "b-1", steps=1)
    hear(waiting, "waiting")
    gone.close()  # as the work-horse of a cancelled job does
    settings = ServiceSettings(_env_file=None, stall_seconds=1, stall_factor=2)
    silence, deadline = None, time.monotonic() + 60
    while silence is None:
        assert time.monotonic() < deadline
        protocol.send(launcher, "status", {})
        values = hear(launcher, "status").values
        assert values["busy_with"] == "a-1"
        silence = stalled(settings, protocol.Status(**{k: v for k, v in values.items() if k != "type"}), 0.0, True)
        time.sleep(0.05)
    assert silence > 1


def test_a_job_cancelled_while_it_waits_never_begins(toy: Toy, connect: Connect) -> None:
    first, second = connect(), connect()
    ask(first, steps=1)
    hear(first, "waiting", "started")
    ask(second, steps=1)
    hear(second, "waiting")
    protocol.send(second, "cancel", {})
    protocol.send(second, "status", {})
    hear(second, "status")
    toy.may_step.release()
    hear(first, "progress", "take", "done")
    hear(second, "canceled")
    assert len(toy.begun) == 1


def test_a_client_that_does_not_read_does_not_hold_up_the_next_job(toy: Toy, connect: Connect) -> None:
    deaf, other = connect(), connect()
    big = np.zeros((1000, 1000, 3), np.uint8)  # far more than a socket buffers
    values = {"job": "deaf-1", "settings": {"steps": 1}, "pictures": [big.shape] * 2, "bits": 8}
    protocol.send(deaf, "generate", values, [big, big])
    ask(other, steps=1)
    toy.may_step.release(2)
    hear(other, "waiting", "started", "progress", "take", "done")
    hear(deaf, "waiting", "started", "progress", "take", "done")


def test_status_tells_what_is_going_on(toy: Toy, connect: Connect, path: str) -> None:
    probe = protocol.StatusProbe(path)
    idle = until_answered(probe)
    assert (idle.state, idle.busy_with, idle.quiet_seconds, idle.median_step) == ("ready", None, None, None)
    client = connect()
    ask(client, "a-1", steps=5)
    toy.may_step.release()
    hear(client, "waiting", "started", "progress")
    until_answered(probe)  # asked before the step
    busy = until_answered(probe)
    assert busy.busy_with == "a-1"
    assert busy.quiet_seconds is not None
    assert busy.median_step is not None
    probe.close()


def until_answered(probe: protocol.StatusProbe) -> protocol.Status:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (status := probe.ask(time.monotonic())) is not None:
            return status
        time.sleep(0.01)
    raise AssertionError("the server did not answer")


def test_bad_input_is_told_with_its_field_and_the_server_lives_on(toy: Toy, connect: Connect) -> None:
    client = connect()
    ask(client, steps=0)
    assert hear(client, "error").values["field"] == "steps"
    toy.error = SettingsError("width", "1000 is no multiple of 64", "Send 960 or 1024")
    toy.may_step.release()
    ask(client, steps=1)
    assert hear(client, "waiting", "started", "error").values == {
        "kind": "bad-input", "detail": "1000 is no multiple of 64", "field": "width", "remedy": "Send 960 or 1024"
    }  # fmt: skip
    toy.error = RuntimeError("the toy broke")
    toy.may_step.release()
    ask(client, steps=1)
    assert hear(client, "waiting", "started", "error").values["kind"] == "internal"


def test_nonsense_drops_the_client_only(toy: Toy, connect: Connect) -> None:
    rude, other = connect(), connect()
    rude.send_bytes(b"not json")
    ask(other, steps=1)
    toy.may_step.release()
    hear(other, "waiting", "started", "progress", "take", "done")


def test_a_cuda_error_is_told_and_ends_the_server(toy: Toy, tmp_path: Path) -> None:
    path = protocol.socket_path(tmp_path)
    line = job_line.JobServer(path)
    toy.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    toy.may_step.release()
    with Client(path, family="AF_UNIX") as client:
        ask(client)
        with pytest.raises(job_line.CudaFailed):
            line.run(toy)
        assert hear(client, "waiting", "started", "error").values["kind"] == "cuda"


def test_running_out_of_memory_is_no_lost_context() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    assert not job_line._is_cuda(OutOfMemoryError("CUDA out of memory. CUDA error"))
    assert job_line._is_cuda(RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"))


def test_a_folder_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too long for a unix socket"):
        protocol.socket_path(tmp_path / ("d" * 100))
