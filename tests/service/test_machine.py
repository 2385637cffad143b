"""Which errors are the machine's, whatever they were taken for, and what a machine must have."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from service import machine
from service.storage import LocalStorage, StorageFull, StorageUnavailable


def because(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, "x") for number in (28, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EIO)),
        OSError(errno.ENOMEM, "x"),
        MemoryError(),
        RuntimeError("can't start new thread"),
        because(ValueError("damaged"), because(SyntaxError("not a PNG"), OSError(errno.ENOSPC, "x"))),
        because(StorageUnavailable("away"), OSError(errno.EMFILE, "x")),
    ],
)
def test_what_is_the_machines(error: Exception) -> None:
    assert machine.fault(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "x"),
        ConnectionResetError(errno.ECONNRESET, "x"),
        ValueError("x"),
        RuntimeError("x"),
        because(StorageFull("full"), OSError(errno.ENOSPC, "x")),
        because(StorageUnavailable("away"), OSError(errno.EROFS, "x")),
    ],
)
def test_what_is_not(error: Exception) -> None:
    assert machine.fault(error) is None


def test_an_error_met_on_the_way_counts_too() -> None:
    def read() -> None:
        try:
            raise OSError(errno.ENOSPC, "x")
        except OSError:
            raise ValueError("The image is damaged.")  # noqa: B904 - as libraries do

    with pytest.raises(ValueError, match="damaged") as caught:
        read()
    assert machine.fault(caught.value) == os.strerror(errno.ENOSPC)


def test_opencv_says_in_its_own_words_that_there_is_no_memory() -> None:
    with pytest.raises((cv2.error, MemoryError)) as caught:
        cv2.resize(np.zeros((2, 2), np.uint8), (2**30, 2**30))
    assert machine.fault(caught.value)


def test_numpy_too() -> None:
    with pytest.raises(MemoryError) as caught:
        np.zeros(2**60, np.uint8)
    assert machine.fault(caught.value)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_machine_that_is_well(tmp_path: Path) -> None:
    assert machine.trouble(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs("to mount a file system")
def test_a_temporary_folder_without_room(small: Path) -> None:
    said = machine.trouble(small)
    assert said == "the temporary folder has 1.0 MB free, and work needs 67 MB"
    subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
    assert machine.trouble(small) is None
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    assert machine.trouble(small) == os.strerror(errno.EROFS)


@pytest.mark.parametrize(
    ("limit", "most", "words"),
    [("RLIMIT_NOFILE", 12, errno.EMFILE), ("RLIMIT_AS", 2**20, errno.ENOMEM)],
)
def test_a_process_without_descriptors_or_memory(tmp_path: Path, limit: str, most: int, words: int) -> None:
    program = f"""
import resource, sys
from pathlib import Path
from service import machine
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
most = {most} + (used if "{limit}" == "RLIMIT_AS" else 0)
resource.setrlimit(resource.{limit}, (most, most))
print(machine.trouble(Path(sys.argv[1])))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == os.strerror(words)


@pytest.mark.needs("to mount a file system")
def test_what_a_full_local_storage_says_stays_the_storages(small: Path) -> None:
    home = LocalStorage(small, lambda: b"key")
    with pytest.raises(StorageFull) as caught:
        home.put("key", bytes(2**21), "image/png")
    assert machine.fault(caught.value) is None
