"""Files in a local folder, for one machine.

    objects/KEY   the bytes, so that a person can open them
    types/KEY     their content type, where the key's ending does not say it
    tmp/          what is being written or removed

A file is written under `tmp/`, synced, and renamed into place. Links are HMAC tokens that the API's `/objects/` route
checks by `verify`. Knows nothing of HTTP.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

import structlog

from service.storage import links
from service.storage.interface import (
    CHUNK,
    ObjectMissing,
    Stat,
    StorageFull,
    StorageUnavailable,
    check_content_type,
    check_key,
    disposition,
    folder_of,
)

log = structlog.get_logger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk, a quota, or what a process may write is at its end."""

_BY_ENDING = {
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".zip": "application/zip",
}
"""What goes without saying: a file of its own for the type would be as much to sync as a small picture is."""

_STALE = 86400.0
"""Seconds after which a leaving in `tmp/` can belong to no living writer."""

_GRAVE = "erased-"
"""Begins the names in `tmp/` of folders that are being removed."""


class LocalStorage:
    """The local home. `secret` is called when the first link is signed or checked; `clock` gives epoch seconds."""

    def __init__(self, folder: Path, secret: Callable[[], bytes], clock: Callable[[], float] = time.time) -> None:
        self.folder = folder.absolute()
        self._objects, self._types, self._tmp = (self.folder / name for name in ("objects", "types", "tmp"))
        self._make_secret = secret
        self._clock = clock
        with self._errors():
            for each in (self._objects, self._types, self._tmp):
                each.mkdir(parents=True, exist_ok=True)
        self.tidy()

    @contextlib.contextmanager
    def scratch(self) -> Iterator[IO[bytes]]:
        """Open a named file for what is on its way here.

        Should we be killed, it goes within a day, as all in `tmp/`.
        """
        with self._errors(), tempfile.NamedTemporaryFile(dir=self._tmp) as file:
            yield file

    def put(self, key: str, source: bytes | Path, content_type: str) -> None:
        check_key(key)
        data = self._write(source)
        try:
            if check_content_type(content_type) == _implied(key):
                with self._errors(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    (self._types / key).unlink()
                    _sync_folder((self._types / key).parent)
            else:
                self._place(self._write(content_type.encode()), self._types / key)
            self._place(data, self._objects / key)
        except BaseException:
            data.unlink(missing_ok=True)
            raise

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return (self._objects / check_key(key)).read_bytes()

    def stat(self, key: str) -> Stat:
        with self._errors(key):
            path = self._objects / check_key(key)
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise ObjectMissing(key)
        try:
            content_type = (self._types / key).read_text()
        except FileNotFoundError:
            content_type = _implied(key) or "application/octet-stream"
        return Stat(found.st_size, content_type, found.st_mtime, f"{found.st_mtime_ns:x}-{found.st_size:x}")

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        # The file is opened by the first piece, so that an iterator nobody uses holds nothing open.
        size = self.stat(key).size
        return self._pieces(key, start, size if end is None else end)

    def list(self, prefix: str) -> Iterator[str]:
        folder = folder_of(prefix)
        return _walk(self._objects / folder, folder)

    def delete(self, key: str) -> None:
        check_key(key)
        for tree in (self._objects, self._types):
            path = tree / key
            with self._errors(), contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
            self._prune(path.parent, tree)

    def delete_prefix(self, prefix: str) -> None:
        folder = folder_of(prefix)
        if not folder:
            raise ValueError("delete_prefix needs a folder")
        # By the folder's name, so that whoever erases it next finds what a killed eraser left of it.
        grave = f"{_GRAVE}{hashlib.sha256(folder.encode()).hexdigest()[:32]}-"
        for tree in (self._objects, self._types):
            path = tree / folder
            # Renamed away first: the folder vanishes as one, however long its removal takes.
            with self._errors(), contextlib.suppress(FileNotFoundError):
                if path.is_dir():
                    path.rename(self._tmp / f"{grave}{uuid.uuid4().hex}")
            self._prune(path.parent, tree)
        with self._errors():
            for left in self._tmp.glob(f"{grave}*"):
                _remove(left)

    def sign_get(self, key: str, *, expires: int, filename: str | None = None, content_type: str | None = None) -> str:
        if filename is not None:
            disposition(filename)
        if content_type is not None:
            check_content_type(content_type)
        return self._link(
            links.Grant("GET", check_key(key), self._until(expires), content_type=content_type, filename=filename)
        )

    def sign_put(self, key: str, *, size: int, content_type: str, expires: int) -> str:
        check_content_type(content_type)
        return self._link(
            links.Grant("PUT", check_key(key), self._until(expires), content_type=content_type, size=size)
        )

    def verify(self, token: str, method: str) -> links.Grant:
        """Read what a link's token grants to a request by `method`. Raises `LinkInvalid`, `LinkExpired`."""
        return links.verify(self._secret, token, method, self._clock())

    def check(self) -> None:
        with self._errors():
            for each in (self._objects, self._types):
                if not each.is_dir():
                    raise StorageUnavailable(f"storage folder {self.folder} has gone")
        self._write(b"").unlink()

    def tidy(self) -> None:
        """Remove what processes that were killed left in `tmp/` a day ago or earlier.

        What cannot be removed, such as another user's, stays and is told: it keeps nobody from opening the storage.
        """
        with self._errors():
            found = list(self._tmp.iterdir())
        for path in found:
            try:
                if time.time() - path.stat().st_mtime > _STALE:
                    _remove(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("what a killed process left cannot be removed", name=path.name, error=str(error))

    @cached_property
    def _secret(self) -> bytes:
        return self._make_secret()

    def _until(self, expires: int) -> int:
        return int(self._clock()) + expires

    def _link(self, grant: links.Grant) -> str:
        return f"/objects/{links.issue(self._secret, grant)}"

    def _write(self, source: bytes | Path) -> Path:
        """Write a synced file under `tmp/` with these contents. Leaves nothing when it fails."""
        temporary = self._tmp / uuid.uuid4().hex
        with contextlib.ExitStack() as stack:
            # A missing source is the caller's mistake, so it is opened outside of our own errors.
            reader = stack.enter_context(source.open("rb")) if isinstance(source, Path) else None
            stack.enter_context(self._errors())
            try:
                with temporary.open("xb") as file:
                    if reader is None:
                        assert isinstance(source, bytes)
                        file.write(source)
                    else:
                        shutil.copyfileobj(reader, file, CHUNK)
                    _sync(file)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return temporary

    def _place(self, temporary: Path, target: Path) -> None:
        """Rename into place and sync the folders. A folder that a `delete` prunes meanwhile is made again."""
        changed = [target.parent]
        with self._errors():
            try:
                for last in (False, False, False, True):
                    try:
                        changed += _make_folders(target.parent)
                        temporary.rename(target)
                        for folder in changed:
                            _sync_folder(folder)
                        return
                    except (FileNotFoundError, FileExistsError):  # the latter from mkdir, which looks once more
                        if last:
                            raise
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def _pieces(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        with self._errors(key), (self._objects / key).open("rb") as file:
            file.seek(start)
            while start < stop and (piece := file.read(min(CHUNK, stop - start))):
                start += len(piece)
                yield piece

    def _prune(self, folder: Path, tree: Path) -> None:
        """Remove the folder and those above it while they are empty."""
        with contextlib.suppress(OSError):
            while folder != tree:
                folder.rmdir()
                folder = folder.parent

    @contextlib.contextmanager
    def _errors(self, key: str | None = None) -> Iterator[None]:
        """Raise the operating system's errors as ours.

        A path that is not there is a missing object when `key` is given.
        """
        try:
            yield
        except OSError as error:
            absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
            if key is not None and absent:
                raise ObjectMissing(key) from None
            kind = StorageFull if error.errno in _FULL else StorageUnavailable
            raise kind(f"storage folder {self.folder}: {error.strerror}") from error


def _implied(key: str) -> str | None:
    return _BY_ENDING.get(PurePosixPath(key).suffix)


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    """List the keys of the files below `folder`, in byte order of the whole key."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name + "/" if entry.is_dir() else entry.name) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in found:
        if name.endswith("/"):
            yield from _walk(folder / name, prefix + name)
        else:
            yield prefix + name


def _remove(path: Path) -> None:
    """Remove a file or a folder, whoever else is at it."""
    while path.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents, and give the folders that have a new one in them, the innermost first.

    They are to be synced when all is in place: a journal that holds the last change then holds these too, and has no
    more to do.
    """
    if folder.is_dir():
        return []
    made = _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    return [folder.parent, *made]
