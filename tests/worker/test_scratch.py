"""The launcher's temporary folder, when launchers are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from worker.process import scratch

HOLD = """
import signal
from worker.process import scratch

scratched = scratch.folder()
print(scratched.__enter__(), flush=True)
signal.pause()
"""


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def hold(area: Path) -> tuple[subprocess.Popen[str], Path]:
    """A launcher in a process of its own, and its folder."""
    environment = {**os.environ, "TMPDIR": str(area)}
    process = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = process.stdout.readline().strip()
    assert folder, "it ended before it had one"
    return process, Path(folder)


def test_the_folder_goes_with_its_launcher(area: Path) -> None:
    with scratch.folder() as folder:
        assert folder.parent == area
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "attempt-x").mkdir()
    assert list(area.iterdir()) == []


def test_the_next_launcher_removes_what_killed_ones_left_and_nothing_else(area: Path) -> None:
    dead, left = hold(area)
    (left / "attempt-x").mkdir()
    (left / "attempt-x" / "take-1.mp4").write_bytes(b"half")
    alive, used = hold(area)
    foreign = area / f"{scratch.SCRATCH_PREFIX}link"
    foreign.symlink_to(used)
    unlocked = area / f"{scratch.SCRATCH_PREFIX}new"
    unlocked.mkdir()
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    with scratch.folder() as own:
        assert set(area.iterdir()) == {used, foreign, unlocked, own}
    alive.kill()
    alive.communicate()
    assert used.exists()
