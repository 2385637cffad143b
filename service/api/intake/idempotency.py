"""One answer for one `Idempotency-Key`, however often the request is sent.

The first request claims the key with the id its job will have, so that even a crash between accepting the job and
answering leaves a trace: whoever repeats the request finds that job. The claim is kept alive while the request is
worked on; one that is not may be taken over by a repetition. Then the job of the first can no longer be written down
(`Jobs.submit` looks at the claim in the same step), so that one that was merely stopped does not make a second job.
Knows nothing of HTTP. All waiting is by Redis' clock.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from service.api.intake.fingerprint import Fingerprint
from service.problems import Problem
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from redis import Redis

ANSWER_TTL = 86_400
"""Seconds an answer is remembered."""

STALE = 12.0
"""Seconds after which a claim that nobody keeps alive may be taken over."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Replay:
    """The request came before."""

    job_id: str
    #: What it was answered; None when the answer was lost but the job exists.
    answer: dict[str, Any] | None


class Idempotency:
    """Claims in Redis, `{namespace}:idempotency:{owner}:{sha256 of the key}`, and beside each in flight a sign of life.

    accepted: whether a job id exists. stale: seconds, as `STALE`.
    """

    def __init__(
        self, redis: Redis, settings: ServiceSettings, accepted: Callable[[str], bool], stale: float = STALE
    ) -> None:
        self._accepted = accepted
        self._stale = stale
        self._keys = RedisKeys(settings.namespace)
        self._claim = redis.register_script(_CLAIM)
        self._renew = redis.register_script(_RENEW)
        self._answer = redis.register_script(_ANSWER)
        self._release = redis.register_script(_RELEASE)

    def claim(self, owner: str, key: str, fingerprint: Fingerprint, job_id: str) -> Replay | None:
        """Claim a key for a request, or give the answer to replay; None: go ahead, as `job_id`, inside `alive`.

        Then call `answer` or `release`.

        Raises `Problem`: 422 when the key stands for another request, 409 while the first is being answered.
        """
        if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
            remedy = "Send 1 to 255 printable ASCII characters, such as a UUID."
            detail = "The Idempotency-Key cannot be used."
            raise Problem(422, "invalid-request", detail, field="Idempotency-Key", remedy=remedy)
        name = self.name(owner, key)
        mine = json.dumps({**fingerprint.stored, "job": job_id})
        prints = [fingerprint.before, fingerprint.asked, fingerprint.meant]
        arguments: list[str | int] = [mine, ANSWER_TTL, job_id, self._life_ms, self._keys.job(""), *prints]
        found: Any = self._claim(keys=[name, _life(name)], args=arguments)
        return None if found is None else self._replay(json.loads(found), fingerprint)

    @contextmanager
    def alive(self, owner: str, key: str, job_id: str) -> Iterator[str]:
        """Keep the claim while the request is worked on, and give the name that `Jobs.submit` asks for."""
        name = self.name(owner, key)
        over = threading.Event()
        thread = threading.Thread(target=self._keep_alive, args=(name, job_id, over), daemon=True)
        thread.start()
        try:
            yield name
        finally:
            over.set()

    def answer(self, owner: str, key: str, fingerprint: Fingerprint, job_id: str, answer: dict[str, Any]) -> None:
        """Remember what the request was answered, if the claim is still that of this job."""
        name = self.name(owner, key)
        record = json.dumps({**fingerprint.stored, "job": job_id, "answer": answer})
        self._answer(keys=[name, _life(name)], args=[job_id, record, ANSWER_TTL])

    def release(self, owner: str, key: str, job_id: str) -> None:
        """Give the claim up, since the request was refused: the next one with this key starts anew."""
        name = self.name(owner, key)
        self._release(keys=[name, _life(name)], args=[job_id])

    def name(self, owner: str, key: str) -> str:
        """Return the key of a claim in Redis."""
        return self._keys.claim(owner, hashlib.sha256(key.encode()).hexdigest())

    @property
    def _life_ms(self) -> int:
        return round(1000 * self._stale)

    def _keep_alive(self, name: str, job_id: str, over: threading.Event) -> None:
        """Renew the claim four times before it would be stale.

        Sits out any outage: what is lost by it, `Jobs.submit` notices.
        """
        while not over.wait(self._stale / 4):
            try:
                self._renew(keys=[name, _life(name)], args=[job_id, self._life_ms])
            except RedisError as error:
                log.info("claim not renewed, trying on", job=job_id, error=str(error))
            except ValueError:
                # Once the request is over nobody waits for this, and the client may be closed in the middle of it.
                if not over.is_set():
                    raise

    def _replay(self, first: dict[str, Any], fingerprint: Fingerprint) -> Replay:
        if not fingerprint.matches(first):
            remedy = "Use a new key for a new request."
            detail = "This Idempotency-Key came before with another request."
            raise Problem(422, "idempotency-key-reused", detail, field="Idempotency-Key", remedy=remedy)
        if first.get("answer") is not None or self._accepted(first["job"]):
            return Replay(first["job"], first.get("answer"))
        raise in_flight()


def in_flight() -> Problem:
    """Say that another request with this key is being worked on: a repetition a little later finds its answer."""
    detail = "A request with this Idempotency-Key is still being answered."
    return Problem(409, "idempotency-in-flight", detail, field="Idempotency-Key", headers={"Retry-After": "1"})


def _life(name: str) -> str:
    """Return the key of the sign of life beside a claim, which holds the id of the job that the claim is for."""
    return f"{name}:alive"


_CLAIM = """
-- ARGV: the claim, seconds it is kept, its job, milliseconds of its life, what job records begin with, then its prints:
-- as the versions before made it, as it was asked, as it was meant.
-- Answers with the claim that stands in the way; nothing when ours is in force now.
local function same(first)
  for _, print in ipairs(first.prints or {}) do
    if print == ARGV[7] or print == ARGV[8] then
      return true
    end
  end
  return not first.prints and first.fingerprint == ARGV[6]
end

local found = redis.call('GET', KEYS[1])
if found then
  local first = cjson.decode(found)
  local exists = redis.call('EXISTS', ARGV[5] .. first.job) == 1
  local dead = not first.answer and redis.call('EXISTS', KEYS[2]) == 0
  local deleted = first.answer and not exists
  if exists or not deleted and not (dead and same(first)) then
    return found
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return nil
"""

_MINE = """
local found = redis.call('GET', KEYS[1])
if not found or cjson.decode(found).job ~= ARGV[1] then
  return 0
end
"""
_RENEW = f"{_MINE} redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) return 1"
_ANSWER = f"{_MINE} redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) redis.call('DEL', KEYS[2]) return 1"
_RELEASE = f"{_MINE} redis.call('DEL', KEYS[1], KEYS[2]) return 1"
