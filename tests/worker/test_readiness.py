"""Whether a worker is ready, as a container's probe asks it: the real command, over a real engine's socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpd.methods import Settings
from mpd.progress import Pictures, Progress, Take
from service import machine
from service.settings import ServiceSettings
from worker import readiness
from worker.engine import job_line, protocol
from worker.process import exit_codes


def ready(folder: Path, **variables: str) -> tuple[int, str]:
    """Exit code and words of `inbetween-server ready`."""
    answer = subprocess.run(
        [sys.executable, "-m", "server.cli", "ready"],
        env={**os.environ, "MODEL": "some/model", "ENGINE_DIR": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return answer.returncode, answer.stderr.strip()


def nothing(pictures: list[Pictures], options: Settings, bits: int) -> Iterator[Progress | Take]:
    return iter(())


def test_a_worker_is_ready_from_when_its_model_is_warm(tmp_path: Path) -> None:
    code, words = ready(tmp_path)
    assert (code, "no engine answers" in words) == (exit_codes.UNAVAILABLE, True), words
    warm = threading.Event()
    line = job_line.JobServer(protocol.socket_path(tmp_path), lambda job: warm.set())
    assert ready(tmp_path) == (exit_codes.UNAVAILABLE, "inbetween-server: the engine is starting")
    thread = threading.Thread(target=line.run, args=(nothing,))
    thread.start()
    assert warm.wait(20)
    assert ready(tmp_path) == (0, "")
    line.stop()
    thread.join(20)


def test_a_worker_without_model_and_interpolator_has_nothing_to_warm_up(tmp_path: Path) -> None:
    assert readiness.fault(ServiceSettings(_env_file=None, engine_dir=tmp_path, rife="off")) is None


def test_a_worker_without_a_model_is_ready_with_its_interpolator(tmp_path: Path) -> None:
    (tmp_path / "rife.pkl").touch()
    settings = ServiceSettings(_env_file=None, engine_dir=tmp_path, rife=str(tmp_path / "rife.pkl"))
    fault = readiness.fault(settings)
    assert fault is not None
    assert "no engine answers" in fault
    line = job_line.JobServer(protocol.socket_path(tmp_path))
    assert readiness.fault(settings) == "the engine is starting"
    line.state = "ready"
    assert readiness.fault(settings) is None
    lost = readiness.fault(settings.model_copy(update={"rife": "/no/such/weights"}))
    assert lost is not None
    assert lost.startswith("RIFE: /no/such/weights: there is no such file")


def test_a_worker_whose_machine_is_not_well_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ROOM", 2**62)
    said = readiness.fault(ServiceSettings(_env_file=None, engine_dir=tmp_path))
    assert said is not None
    assert said.startswith("the machine is not well: the temporary folder has ")


def test_what_is_set_wrongly_or_hangs_is_told(tmp_path: Path) -> None:
    wrong = readiness.fault(ServiceSettings(_env_file=None, model="some/model"))
    assert wrong is not None
    assert "ENGINE_DIR" in wrong
    far = readiness.fault(ServiceSettings(_env_file=None, model="some/model", engine_dir=tmp_path / ("long" * 30)))
    assert far is not None
    assert "too long" in far
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(protocol.socket_path(tmp_path))
        mute.listen()
        settings = ServiceSettings(_env_file=None, model="some/model", engine_dir=tmp_path)
        assert readiness.fault(settings, patience=0.2) == "the engine has not answered for 0.2 seconds"


def test_an_engine_that_was_killed_left_its_socket_behind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(protocol.socket_path(tmp_path))
    fault = readiness.fault(ServiceSettings(_env_file=None, model="some/model", engine_dir=tmp_path))
    assert fault is not None
    assert "no engine answers" in fault
