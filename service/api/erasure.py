"""Erasing a job's files while its caller waits, but not for long.

Whatever is not erased in time stays due in Redis (`Jobs.delete` puts it there), and the keeper does it. Knows nothing
of HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from service.jobs.record import files_prefix
from service.jobs.uploads import upload_key
from service.storage import Storage, StorageError

ERASURE_PATIENCE = 2.0
"""Seconds a caller waits."""

MOST = 4
"""Erasures at once: while storage hangs, further ones are left to the keeper at once."""

log = structlog.get_logger(__name__)


class Eraser:
    """One per process; threads may share it."""

    def __init__(self, storage: Storage, patience: float = ERASURE_PATIENCE) -> None:
        self._storage = storage
        self._patience = patience
        self._free = threading.BoundedSemaphore(MOST)

    def erase(self, job_id: str, uploads: Sequence[str] = ()) -> bool:
        """Erase all files of a job, and tell whether they are gone; False when the keeper has to do it.

        uploads: ids of those it was made of, which go too; at the end of their time the keeper looks once more.
        """
        if not self._free.acquire(blocking=False):
            return False
        erased = threading.Event()
        # A daemon: a storage that hangs must not keep the process from ending.
        threading.Thread(target=self._attempt, args=(job_id, uploads, erased), daemon=True).start()
        return erased.wait(self._patience)

    def _attempt(self, job_id: str, uploads: Sequence[str], erased: threading.Event) -> None:
        try:
            self._storage.delete_prefix(files_prefix(job_id))
            for upload in uploads:
                self._storage.delete(upload_key(upload))
            erased.set()
        except StorageError as error:
            log.warning("files left to the keeper", job=job_id, error=str(error))
        finally:
            self._free.release()
