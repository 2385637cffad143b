"""Keyframes as they were accepted, read back from storage: the very file whose SHA-256 the job's record has.

Another file, a torn one or none is the storage's fault and no caller's, and no video is made of it. Knows nothing of
HTTP or of pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from service.storage import ObjectDamaged, ObjectMissing, Storage


def read(storage: Storage, keyframe: Mapping[str, Any]) -> bytes:
    """Read the bytes of a keyframe of a job's record. Raises `ObjectDamaged`, and `StorageUnavailable` in an outage."""
    key = keyframe["key"]
    try:
        data = storage.get(key)
    except ObjectMissing:
        raise ObjectDamaged(f"{key} was accepted, and is not in the storage any more") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != keyframe["sha256"]:
        raise ObjectDamaged(
            f"{key} is not the file that was accepted: its {len(data)} bytes have SHA-256 {digest}, "
            f"not {keyframe['sha256']}"
        )
    return data
