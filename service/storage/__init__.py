"""Where keyframes and results live: one small interface, two homes (a local folder, S3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.storage.interface import (
    LinkExpired,
    LinkInvalid,
    ObjectDamaged,
    ObjectMissing,
    Stat,
    Storage,
    StorageError,
    StorageFull,
    StorageUnavailable,
    disposition,
)
from service.storage.links import Grant, signing_key
from service.storage.local import LocalStorage
from service.storage.proof import prove

if TYPE_CHECKING:
    from redis import Redis

    from service.settings import ServiceSettings

__all__ = [
    "Grant",
    "LinkExpired",
    "LinkInvalid",
    "LocalStorage",
    "ObjectDamaged",
    "ObjectMissing",
    "Stat",
    "Storage",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "disposition",
    "open_storage",
    "prove",
]


def open_storage(settings: ServiceSettings, redis: Redis, *, timeout: float = 20.0, attempts: int = 3) -> Storage:
    """Open the home of files that `STORAGE_URL` names.

    Asks nobody yet: call `check()` to know whether it answers.

    timeout, attempts: seconds of silence after which a call over the network is tried again, and how often in all.
    Raises `StorageUnavailable` when the folder cannot be made or the URL is none.
    """
    scheme, separator, _ = settings.storage_url.partition("://")
    if not separator:
        return LocalStorage(Path(settings.storage_url), lambda: signing_key(redis, settings.namespace))
    if scheme != "s3":
        raise StorageUnavailable(f"STORAGE_URL {settings.storage_url}: write s3://bucket/prefix, or a folder's path")
    # boto3 takes a third of a second to import, so only those who use S3 pay for it.
    from service.storage.s3 import S3Storage

    return S3Storage.from_settings(settings, timeout=timeout, attempts=attempts)
