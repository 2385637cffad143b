"""One answer for one `Idempotency-Key`, however often the request is sent.

The first request claims the key with the id its job will have, so that even a crash between accepting the job and
answering leaves a trace: whoever repeats the request finds that job. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import Problem
from service.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

KEPT = 86_400
"""Seconds an answer is remembered."""

STALE = 180.0
"""Seconds after which an unanswered first request is taken for dead; all its steps are capped well below."""


@dataclass(frozen=True)
class Replay:
    """The request came before. answer: what it was answered; None when the answer was lost but the job exists."""

    job_id: str
    answer: dict[str, Any] | None


class Idempotency:
    """Claims in Redis, `{namespace}:idempotency:{owner}:{sha256 of the key}`. accepted: whether a job id exists."""

    def __init__(self, redis: Redis, settings: Settings, accepted: Callable[[str], bool]) -> None:
        self._redis = redis
        self._prefix = f"{settings.namespace}:idempotency:"
        self._accepted = accepted

    def claim(self, owner: str, key: str, fingerprint: str, job_id: str) -> Replay | None:
        """None: go ahead, as `job_id`, then `answer` or `release`.

        Raises `Problem`: 422 when the key stands for another request, 409 while the first is being answered.
        """
        if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
            remedy = "Send 1 to 255 printable ASCII characters, such as a UUID."
            detail = "The Idempotency-Key cannot be used."
            raise Problem(422, "invalid-request", detail, field="Idempotency-Key", remedy=remedy)
        name = self._name(owner, key)
        mine = json.dumps({"fingerprint": fingerprint, "job": job_id, "at": time.time()})
        if self._redis.set(name, mine, nx=True, ex=KEPT):
            return None
        found = self._redis.get(name)
        if found is None:
            return self.claim(owner, key, fingerprint, job_id)
        return self._replay(name, found, mine, fingerprint)

    def answer(self, owner: str, key: str, fingerprint: str, job_id: str, answer: dict[str, Any]) -> None:
        """Remember what the request was answered."""
        record = {"fingerprint": fingerprint, "job": job_id, "at": time.time(), "answer": answer}
        self._redis.set(self._name(owner, key), json.dumps(record), ex=KEPT)

    def release(self, owner: str, key: str, job_id: str) -> None:
        """The request was refused: the next one with this key starts anew."""
        name = self._name(owner, key)
        found = self._redis.get(name)
        if found is not None and json.loads(found)["job"] == job_id:
            self._redis.eval(_DELETE_IF_SAME, 1, name, found)

    def _replay(self, name: str, found: bytes | str, mine: str, fingerprint: str) -> Replay | None:
        first = json.loads(found)
        if first["fingerprint"] != fingerprint:
            remedy = "Use a new key for a new request."
            detail = "This Idempotency-Key came before with another request."
            raise Problem(422, "idempotency-key-reused", detail, field="Idempotency-Key", remedy=remedy)
        if first.get("answer") is not None or self._accepted(first["job"]):
            return Replay(first["job"], first.get("answer"))
        if time.time() - first["at"] > STALE and self._redis.eval(_REPLACE_IF_SAME, 1, name, found, mine, str(KEPT)):
            return None
        detail = "The first request with this Idempotency-Key is still being answered."
        raise Problem(409, "idempotency-in-flight", detail, field="Idempotency-Key", headers={"Retry-After": "1"})

    def _name(self, owner: str, key: str) -> str:
        return f"{self._prefix}{owner}:{hashlib.sha256(key.encode()).hexdigest()}"


_DELETE_IF_SAME = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
_REPLACE_IF_SAME = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
