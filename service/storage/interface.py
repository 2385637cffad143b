"""What every home of files can do, and how it fails.

A key is a relative path of plain characters; the caller makes it from ids alone, never from what a client sent.
Knows nothing of jobs, HTTP or where the bytes lie.

    StorageError
    ├── ObjectMissing        nothing is stored under that key
    ├── StorageUnavailable   the home does not answer or refuses us; trying again later may help
    │   ├── StorageFull      there is no room left; somebody must make some
    │   └── ObjectDamaged    what lies under that key is not what was put there
    └── LinkInvalid          a signed link of the local home that was never issued, or not for this use
        └── LinkExpired      one that was, and is over
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CHUNK = 1 << 18
"""Bytes per piece when a file is read or copied."""

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199})*")
_CONTENT_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(; ?[a-z-]+=[A-Za-z0-9.-]+)?")
_FILENAME = re.compile(r"[A-Za-z0-9_. -]{1,120}")


class StorageError(Exception):
    """Storage could not do what was asked; the message is one line."""


class ObjectMissing(StorageError):
    """Nothing is stored under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"nothing is stored under {key}")
        self.key = key


class StorageUnavailable(StorageError):
    """Storage does not answer, or refuses us, or what it gives is not what it was given.

    code: the server's own word for it, where it has one.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class StorageFull(StorageUnavailable):
    """There is no room left."""


class ObjectDamaged(StorageUnavailable):
    """What lies under this key is not what was put there, or it has gone: the storage's fault, whoever asks."""


class LinkInvalid(StorageError):
    """This link was not issued here, or not for this use."""


class LinkExpired(LinkInvalid):
    """This link was valid once and is no longer."""


@dataclass(frozen=True)
class Stat:
    """One stored object without its bytes."""

    size: int
    content_type: str
    #: Epoch seconds.
    modified: float
    #: An opaque name of this version, without quotes.
    etag: str


class Storage(Protocol):
    """A home for files. Every method may raise `StorageUnavailable`, and `ValueError` for a malformed key.

    An object is whole or absent: a reader sees the old bytes or the new ones, never a part. A key is never also
    the folder of another key. Open one per process (after a fork, not before); its threads may share it.
    """

    def put(self, key: str, source: bytes | Path, content_type: str) -> None:
        """Store bytes, or the contents of a file, replacing what was there. Returns when they are durable."""
        ...

    def get(self, key: str) -> bytes:
        """Read the whole object. Raises `ObjectMissing`."""
        ...

    def stat(self, key: str) -> Stat:
        """Look up what is known of an object without reading it. Raises `ObjectMissing`."""
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Read the bytes `start` up to but not including `end`, in pieces; what lies past the object's end is left out.

        Raises `ObjectMissing` at once, before the first piece is asked for.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """List the keys below the folder `prefix`, in byte order.

        prefix: with or without its closing slash; "" is everything.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove one object. One that is not there is no error."""
        ...

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything below the folder `prefix`, which must not be empty: `a/1` never touches `a/10`."""
        ...

    def sign_get(self, key: str, *, expires: int, filename: str | None = None, content_type: str | None = None) -> str:
        """Make a link that reads this object for `expires` seconds, without other credentials.

        An absolute URL, or a path (`/objects/…`) that the caller puts after the API's public base URL. With `filename`
        a browser saves the file under that name instead of showing it. Nothing is looked up: a link to a missing object
        is made, and answers 404.
        """
        ...

    def sign_put(self, key: str, *, size: int, content_type: str, expires: int) -> str:
        """Make a link that stores this object by PUT, with exactly `size` bytes and this Content-Type header."""
        ...

    def check(self) -> None:
        """Raise `StorageUnavailable`, soon and with what to do about it, unless files can be kept here."""
        ...


def check_key(key: str) -> str:
    """Return the key itself. Raises `ValueError` for one that is not a plain relative path."""
    if len(key) > 700 or ".." in key or not _KEY.fullmatch(key):
        raise ValueError(f"{key[:80]!r} is no storage key: letters, digits, _ . - and single slashes")
    return key


def folder_of(prefix: str) -> str:
    """Return the folder a prefix names, with its closing slash; "" for everything.

    Raises `ValueError` as `check_key`.
    """
    stem = prefix.removesuffix("/")
    return f"{check_key(stem)}/" if stem else ""


def check_content_type(content_type: str) -> str:
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise ValueError(f"{content_type[:80]!r} is no content type")
    return content_type


def disposition(filename: str) -> str:
    """Write the Content-Disposition header that saves as `filename`. Raises `ValueError` for one that needs quoting."""
    if not _FILENAME.fullmatch(filename):
        raise ValueError(f"{filename[:80]!r} is no plain file name")
    return f'attachment; filename="{filename}"'
