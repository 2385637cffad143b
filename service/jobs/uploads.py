"""Images sent ahead of a request: a signed link to PUT one to, then `upload:ID` in place of the image.

Redis holds who may use an upload and for how long; the size was signed and is compared again on use. What the file
is, `keyframe_check.py` finds out. Knows nothing of HTTP.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from service.jobs.sweeps import Sweeps
from service.problems import Problem
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings
from service.storage import ObjectMissing, Storage, StorageUnavailable

if TYPE_CHECKING:
    from redis import Redis

UPLOAD_PREFIX = "upload:"


@dataclass(frozen=True)
class Upload:
    """A granted upload."""

    id: str
    #: As the storage signed it, absolute or a path.
    url: str
    content_type: str
    size: int
    #: Epoch seconds.
    expires_at: float


class Uploads:
    """Records `{namespace}:upload:{id}`, files under `uploads/{id}`, and a set of ids by the end of their time.

    Those that no job has used yet stand in a hash of their owner's, with their size and the end of their file: the
    submission of a job takes what it uses out of it (`store.lua`).
    """

    def __init__(self, redis: Redis, storage: Storage, settings: ServiceSettings) -> None:
        self._redis = redis
        self._storage = storage
        self._settings = settings
        self._keys = RedisKeys(settings.namespace)
        self._due = self._keys.uploads
        self._grant = redis.register_script(_GRANT)
        self._sweeps = Sweeps(redis, self._keys.counters)

    def grant(self, owner: str, content_type: str, size: int) -> Upload:
        """Make a link for one file.

        Raises `Problem`: 413 for one larger than a keyframe may be, 429 for more than an owner may have unused.
        """
        most = self._settings.max_image_bytes
        if size > most:
            detail = f"A keyframe of {size} bytes is larger than {most}."
            raise Problem(413, "image-too-large", detail, field="size", remedy=f"Send at most {most} bytes.")
        upload_id = secrets.token_hex(16)
        ttl = self._settings.signed_url_ttl
        url = self._storage.sign_put(upload_key(upload_id), size=size, content_type=content_type, expires=ttl)
        record = json.dumps({"owner": owner, "content_type": content_type, "size": size})
        expires_at = time.time() + ttl
        limits = self._settings.max_uploads, self._settings.max_uploads_bytes
        refused: Any = self._grant(
            keys=[self._keys.upload(upload_id), self._due, self._keys.unused_uploads(owner)],
            args=[upload_id, record, str(ttl), str(expires_at), str(size), *map(str, limits)],
        )
        if refused is not None:
            raise self._too_many(*(int(figure) for figure in refused))
        return Upload(upload_id, url, content_type, size, expires_at)

    def read(self, owner: str, reference: str, field: str, holding: Callable[[int], None] = lambda size: None) -> bytes:
        """Read the file behind `upload:ID`. holding: told its size before it is read; what it raises passes through.

        Raises `Problem` 422 for another owner's, an expired or an unsent one, `StorageUnavailable` for bytes that are
        not the file.
        """
        upload_id = reference.removeprefix(UPLOAD_PREFIX)
        found = self._redis.get(self._keys.upload(upload_id)) if upload_id.isalnum() and upload_id.isascii() else None
        record = json.loads(found) if found is not None else None
        if record is None or record["owner"] != owner:
            raise self._missing("There is no such upload, or its time is over.", field)
        try:
            size = self._storage.stat(upload_key(upload_id)).size
            if size != record["size"]:
                detail = f"The file has {size} bytes where {record['size']} were announced."
                raise Problem(422, "upload-mismatch", detail, field=field, remedy="Upload the file again.")
            holding(size)
            data = self._storage.get(upload_key(upload_id))
        except ObjectMissing:
            raise self._missing("Nothing was sent to this upload's link.", field) from None
        if len(data) != size:
            raise StorageUnavailable(f"{len(data)} bytes of an upload came where there are {size}")
        return data

    def sweep(self, limit: int = 100) -> int:
        """Erase the files of uploads whose time is over, and give how many. It is for the keeper."""
        # A file PUT just before its link ended may still be in use, hence the margin of one link's time.
        before = time.time() - self._settings.signed_url_ttl
        due = self._redis.zrange(self._due, "-inf", str(before), byscore=True, offset=0, num=limit)

        def erase(member: bytes) -> None:
            self._storage.delete(upload_key(member.decode()))
            self._redis.zrem(self._due, member)

        return self._sweeps.each("uploads", cast("list[bytes]", due), erase, self._sweeps.postpone_in(self._due))

    def _too_many(self, unused: int, size: int, seconds: int) -> Problem:
        most, most_bytes = self._settings.max_uploads, self._settings.max_uploads_bytes
        detail = f"{unused} uploads of {size} bytes wait to be used; {most} of {most_bytes} bytes may."
        remedy = f"Use them in a request, or wait {seconds} seconds for the first of them to go."
        headers = {"Retry-After": str(seconds)}
        problem = Problem(429, "too-many-uploads", detail, remedy=remedy, headers=headers)
        problem.extra |= {"unused": unused, "bytes": size, "limit": most, "limit_bytes": most_bytes}
        return problem

    def _missing(self, detail: str, field: str) -> Problem:
        return Problem(422, "upload-not-found", detail, field=field, remedy="Ask POST /uploads for a link, PUT there.")


def upload_key(upload_id: str) -> str:
    """Name the place of an upload's file in storage."""
    return f"uploads/{upload_id}"


_GRANT = """
-- KEYS: the upload's record, the set of all by the end of their link, the owner's unused ones.
-- ARGV: its id, the record, seconds its link is valid, when that ends, its size, how many may be unused and how many
-- bytes (0: any).
-- Answers nothing, or how many and how many bytes there are, and seconds until the first of them has gone.
local now, ttl = tonumber(redis.call('TIME')[1]), tonumber(ARGV[3])
local unused, bytes, first = 0, 0, nil
local held = redis.call('HGETALL', KEYS[3])
for i = 1, #held, 2 do
  local size, gone = string.match(held[i + 1], '^(%d+) (%d+)$')
  if tonumber(gone) <= now then
    redis.call('HDEL', KEYS[3], held[i])
  else
    unused, bytes = unused + 1, bytes + tonumber(size)
    first = math.min(first or tonumber(gone), tonumber(gone))
  end
end
local most, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
if (most > 0 and unused >= most) or (most_bytes > 0 and bytes + tonumber(ARGV[5]) > most_bytes) then
  return {unused, string.format('%d', bytes), math.max(1, (first or now) - now)}
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ttl)
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], string.format('%s %d', ARGV[5], now + 2 * ttl))
redis.call('EXPIRE', KEYS[3], 2 * ttl)
return nil
"""
