"""Whether a home keeps files: a small one is written, read, listed and erased again.

`Storage.check` asks often and so does little; this is for a start, where what cannot be erased must be known before the
first file is kept that somebody will want erased.
"""

from __future__ import annotations

import uuid

from service.storage.interface import ObjectMissing, Storage, StorageUnavailable

FOLDER = "probe"


def prove(storage: Storage) -> None:
    """Write, read, list and erase a file. Raises `StorageUnavailable` with what went wrong."""
    folder = f"{FOLDER}/{uuid.uuid4().hex}/"
    key, data = f"{folder}file", uuid.uuid4().bytes
    storage.put(key, data, "application/octet-stream")
    try:
        if storage.get(key) != data:
            raise StorageUnavailable("storage gives other bytes than it was given")
        if list(storage.list(folder)) != [key]:
            raise StorageUnavailable("storage does not list what it was given")
    except ObjectMissing:
        raise StorageUnavailable("storage does not have what it was given") from None
    finally:
        storage.delete_prefix(folder)
    try:
        storage.get(key)
    except ObjectMissing:
        return
    raise StorageUnavailable("storage says that it has erased a file, and still has it")
