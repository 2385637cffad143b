"""What only a local folder can get wrong: half-written files, full disks, leavings of killed writers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.storage import LocalStorage, ObjectMissing, StorageUnavailable
from service.storage.interface import CHUNK


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "home", lambda: bytes(32))


def files(storage: LocalStorage) -> list[str]:
    return sorted(str(path.relative_to(storage.folder)) for path in storage.folder.rglob("*") if path.is_file())


def test_a_person_finds_the_file_under_its_key(storage: LocalStorage) -> None:
    storage.put("jobs/1/take-1.mp4", b"video", "video/mp4")
    assert (storage.folder / "objects/jobs/1/take-1.mp4").read_bytes() == b"video"


def test_a_file_that_a_person_put_there_has_no_type(storage: LocalStorage) -> None:
    (storage.folder / "objects/hello").write_bytes(b"hello")
    assert storage.stat("hello").content_type == "application/octet-stream"


def test_bytes_are_synced_before_they_are_renamed(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append(f"sync {target.relative_to(storage.folder).parts[0]}")
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        calls.append(f"rename {target.relative_to(storage.folder).parts[0]}")
        return rename(self, target)

    storage.put("key", b"old", "text/plain")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    storage.put("key", b"new", "text/plain")
    assert calls == ["sync tmp", "sync tmp", "rename types", "sync types", "rename objects", "sync objects"]


def test_new_folders_are_synced_too(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note_fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(storage.folder)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note_fsync)
    storage.put("jobs/1/film.mp4", b"film", "video/mp4")
    assert synced[1:] == ["objects/jobs/1", "objects/jobs", "objects"]
    synced.clear()
    storage.put("jobs/2/film.mp4", b"film", "video/mp4")
    assert synced[1:] == ["objects/jobs/2", "objects/jobs"]


def test_a_type_that_the_ending_says_is_not_written_down(storage: LocalStorage) -> None:
    storage.put("film.mp4", b"film", "video/mp4")
    assert files(storage) == ["objects/film.mp4"]
    assert storage.stat("film.mp4").content_type == "video/mp4"
    storage.put("film.mp4", b"text", "text/plain")
    assert storage.stat("film.mp4").content_type == "text/plain"
    storage.put("film.mp4", b"film", "video/mp4")
    assert storage.stat("film.mp4").content_type == "video/mp4"
    storage.delete("film.mp4")
    assert files(storage) == []


def test_a_writer_that_fails_leaves_the_old_object_and_no_leavings(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put("key", b"old", "text/plain")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageUnavailable, match=r"^storage folder .*: No space left on device$"):
        storage.put("key", b"new", "text/plain")
    with pytest.raises(StorageUnavailable, match="No space left on device"):
        storage.check()
    monkeypatch.undo()
    assert storage.get("key") == b"old"
    assert files(storage) == ["objects/key", "types/key"]


WRITER = """
import os, signal, sys
from pathlib import Path
from service.storage import LocalStorage
storage = LocalStorage(Path(sys.argv[1]), lambda: bytes(32))
fsync = os.fsync
def die(descriptor):
    if os.fstat(descriptor).st_size > 1000:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = die
storage.put("key", b"x" * 100_000, "text/plain")
"""


def test_a_killed_writer_leaves_nothing_visible(storage: LocalStorage) -> None:
    storage.put("key", b"old", "text/plain")
    killed = subprocess.run([sys.executable, "-c", WRITER, str(storage.folder)])
    assert killed.returncode == -signal.SIGKILL
    assert storage.get("key") == b"old"
    assert list(storage.list("")) == ["key"]
    left = [path for path in (storage.folder / "tmp").iterdir() if path.stat().st_size == 100_000]
    assert len(left) == 1
    for path in (storage.folder / "tmp").iterdir():
        os.utime(path, (0, 0))
    (storage.folder / "tmp" / "fresh").write_bytes(b"of a living writer")
    LocalStorage(storage.folder, lambda: bytes(32))
    assert files(storage) == ["objects/key", "tmp/fresh", "types/key"]


ERASER = """
import os, shutil, signal, sys
from pathlib import Path
from service.storage import LocalStorage
rmtree, calls = shutil.rmtree, []
def die(path):
    if sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    next(Path(path).rglob("film*")).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = die
LocalStorage(Path(sys.argv[1]), lambda: bytes(32)).delete_prefix("jobs/1")
"""


@pytest.mark.parametrize("when", ["before", "amid"])
def test_what_a_killed_eraser_began_is_finished_by_the_next(storage: LocalStorage, when: str) -> None:
    for key in ("jobs/1/film", "jobs/1/film.mp4", "jobs/10/film", "jobs/2/film"):
        storage.put(key, b"film", "text/plain")
    killed = subprocess.run([sys.executable, "-c", ERASER, str(storage.folder), when])
    assert killed.returncode == -signal.SIGKILL
    assert list(storage.list("jobs/1")) == []
    assert [name for name in files(storage) if name.startswith("tmp/")], "nobody sees them, and they are there"
    storage.delete_prefix("jobs/2")
    assert [name for name in files(storage) if name.startswith("tmp/")], "another's erasure is not this one's"
    storage.delete_prefix("jobs/1")
    assert files(storage) == ["objects/jobs/10/film", "types/jobs/10/film"]
    assert list((storage.folder / "tmp").iterdir()) == []


def test_several_erasers_of_one_folder_all_succeed(storage: LocalStorage) -> None:
    for number in range(200):
        storage.put(f"jobs/1/{number}/film.mp4", b"film", "video/mp4")
    failures: list[BaseException] = []

    def erase() -> None:
        try:
            storage.delete_prefix("jobs/1")
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=erase) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, files(storage)) == ([], [])


def test_empty_folders_go(storage: LocalStorage) -> None:
    storage.put("a/b/c", b"", "text/plain")
    storage.put("a/d/e", b"", "text/plain")
    storage.delete("a/b/c")
    assert not (storage.folder / "objects/a/b").exists()
    storage.delete_prefix("a/d")
    assert sorted(path.name for path in storage.folder.rglob("*")) == ["objects", "tmp", "types"]


def test_writers_and_deleters_of_one_folder_do_not_trip(storage: LocalStorage) -> None:
    failures: list[BaseException] = []

    def churn(name: str) -> None:
        try:
            for _ in range(60):
                storage.put(f"a/b/{name}", b"x", "text/plain")
                storage.delete(f"a/b/{name}")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=churn, args=(name,)) for name in "wxyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert files(storage) == []


def test_an_object_deleted_while_it_is_read_is_read_to_its_end(storage: LocalStorage) -> None:
    storage.put("key", b"x" * (3 * CHUNK), "text/plain")
    pieces = storage.read("key")
    first = next(pieces)
    storage.delete("key")
    assert len(first) + sum(map(len, pieces)) == 3 * CHUNK


def test_an_object_deleted_before_the_first_piece_is_missing(storage: LocalStorage) -> None:
    storage.put("key", b"x", "text/plain")
    pieces = storage.read("key")
    storage.delete("key")
    with pytest.raises(ObjectMissing):
        next(pieces)


def test_an_iterator_nobody_uses_holds_nothing_open(storage: LocalStorage) -> None:
    storage.put("key", b"x", "text/plain")
    before = len(list(Path("/proc/self/fd").iterdir()))
    unused = [storage.read("key") for _ in range(10)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    del unused


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match=rf"^storage folder {tmp_path}/file/home: Not a directory$"):
        LocalStorage(tmp_path / "file" / "home", lambda: bytes(32))


def test_a_folder_that_has_gone_is_one_clear_line(storage: LocalStorage) -> None:
    storage.folder.rename(storage.folder.with_name("away"))
    with pytest.raises(StorageUnavailable, match=r"^storage folder .*/home has gone$"):
        storage.check()


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage(Path("home"), lambda: bytes(32))
    monkeypatch.chdir("/")
    storage.put("key", b"x", "text/plain")
    assert (tmp_path / "home/objects/key").exists()


def test_what_cannot_be_removed_keeps_nobody_from_opening_the_storage(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        path = storage.folder / "tmp" / name
        path.write_bytes(b"left")
        os.utime(path, (0, 0))
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "b":
            raise PermissionError("another user's")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with capture_logs() as logged:
        LocalStorage(storage.folder, lambda: bytes(32))
    assert [path.name for path in (storage.folder / "tmp").iterdir()] == ["b"]
    assert [entry["name"] for entry in logged] == ["b"]
