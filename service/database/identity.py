"""Which database this is: that it is the one that was served before, and not one that came up empty, older or other.

A database has a random id and an epoch, in the hash `{namespace}:database`, and storage remembers both in
`databases/{namespace}.json`. The keeper counts the epoch up, and tells storage the one before: so a database that lost
its last moments in a failover is still the same, and one restored from a backup that is some minutes old is known to be
older. What is missing in a database that is not the known one proves nothing. It is treated as an outage: nothing is
taken from it, erased or written down, until it is back or an operator adopts the one that is there.

Where storage remembers nothing, as at a first start or after an upgrade, the database that is there is the known one.
While storage does not answer to a process that has not asked it yet, the database that it meets first will do, and no
other: without storage no job is taken, made or erased.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import redis
import structlog

from service.redis_keys import RedisKeys
from service.storage import ObjectDamaged, ObjectMissing, Storage, StorageError, open_storage

if TYPE_CHECKING:
    from service.settings import ServiceSettings

FRESH_SECONDS = 1.0
"""How long a look that found the known database holds for whoever does not ask for a fresh one."""

STORAGE_LOOK_SECONDS = 5.0
"""Between two looks at what storage remembers, while the database is not the known one."""

STORAGE_SILENCE = 3.0
"""How long storage may be silent where it is asked for this alone."""

BEAT_SECONDS = 60.0
"""From one epoch to the next."""

log = structlog.get_logger(__name__)


class DatabaseUnknown(redis.ConnectionError):
    """This Redis is not the database that is known. An outage, to whoever sits one out."""


@dataclass(frozen=True)
class Identity:
    """What tells one database from another."""

    #: 32 hexadecimal digits.
    id: str
    #: Grows by one a minute while a keeper is at work.
    epoch: int


class Database:
    """The database of one namespace as a process knows it; threads may share it.

    storage: opened when it is first needed.
    """

    def __init__(
        self,
        connection: redis.Redis,
        settings: ServiceSettings,
        storage: Callable[[], Storage],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = connection
        self._storage = storage
        self._key = RedisKeys(settings.namespace).database
        self._object = f"databases/{settings.namespace}.json"
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Identity | None = None
        self._met: Identity | None = None
        """The database that was there at first, for as long as storage has not said which is the known one."""
        self._fault: DatabaseUnknown | None = None
        self._unanswered = self._silent = False
        self._looked = self._asked = -STORAGE_LOOK_SECONDS

    def check(self, fresh: bool = False) -> None:
        """Make sure that Redis is the known database.

        fresh: look now, whatever was seen a moment ago. Nobody waits for another who asks a storage that was silent
        before: what was found then still holds.

        Raises `DatabaseUnknown`, and redis' errors.
        """
        if not fresh and self._fault is None and self._clock() - self._looked < FRESH_SECONDS:
            return
        asking_again = self._fault is not None or (self._uncompared and self._silent)
        if self._lock.acquire(blocking=not asking_again):
            try:
                fault = self._look()
                self._tell(fault)
                self._looked = self._clock()
            finally:
                self._lock.release()
        else:
            fault = self._first(self.found()) if self._uncompared else self._fault
        if fault is not None:
            raise fault

    def expected(self) -> str:
        """Name the known database for `identity.lua`. Raises as `check` where there is none."""
        if self._known is None or self._fault is not None:
            self.check(fresh=True)
        expected = self._known or self._met
        return "" if expected is None else f"{expected.id}:{expected.epoch}"

    def refused(self) -> DatabaseUnknown:
        """Give what to raise where a script has found another database than the expected one."""
        try:
            self.check(fresh=True)
        except DatabaseUnknown as fault:
            return fault
        # It was another for a moment, or an operator has just adopted it: the next call will do.
        return DatabaseUnknown("Redis is another database than a moment ago")

    @property
    def known(self) -> bool:
        """Whether Redis is the known database. Raises redis' errors."""
        try:
            self.check()
        except DatabaseUnknown:
            return False
        return True

    def found(self) -> Identity | None:
        """Read the identity of the database that is there; None where it has none."""
        fields: Any = self._redis.hmget(self._key, "id", "epoch")
        return Identity(fields[0].decode(), int(fields[1] or 0)) if fields[0] is not None else None

    def remembered(self) -> Identity | None:
        """Read what storage remembers; None where it remembers nothing.

        A newer version may remember more. Raises `StorageUnavailable`, `ObjectDamaged` for what cannot be read.
        """
        try:
            stored = json.loads(self._storage().get(self._object))
            return Identity(str(stored["id"]), int(stored["epoch"]))
        except ObjectMissing:
            return None
        except (ValueError, KeyError, TypeError):
            raise ObjectDamaged(
                f"{self._object} cannot be read: `inbetween-server database adopt` makes it anew"
            ) from None

    def difference(self) -> str | None:
        """Say in a line how the database that is there differs from the known one, and change nothing.

        None where it does not, or where storage remembers none. Raises redis' errors and `StorageUnavailable`.
        """
        found, remembered = self.found(), self.remembered()
        return None if remembered is None else _difference(found, remembered)

    def beat(self) -> None:
        """Begin the next epoch, if the last one has had its time, and have storage remember the one before.

        Raises `DatabaseUnknown`, redis' errors and `StorageUnavailable`.
        """
        self.check(fresh=True)
        known = self._known
        if known is None:
            return
        epoch: Any = self._redis.eval(_BEAT, 1, self._key, known.id, str(BEAT_SECONDS))
        if epoch is not None:
            before = Identity(known.id, int(epoch) - 1)
            self._storage().put(self._object, json.dumps(asdict(before)).encode(), "application/json")

    def adopt(self) -> Identity:
        """Make the database that is there the known one, whatever is remembered of another, and give its identity.

        Raises redis' errors and `StorageUnavailable`.
        """
        try:
            remembered = self.remembered()
        except ObjectDamaged:
            remembered = None
        later = 0 if remembered is None else remembered.epoch + 2
        with self._lock:
            self._known = self._made(later)
            self._tell(None)
            self._looked = self._clock()
        return self._known

    def _look(self) -> DatabaseUnknown | None:
        """Find what is wrong with the database that is there; None where it is the known one."""
        found = self.found()
        if found is not None and self._known is not None and _same(found, self._known):
            self._known = Identity(found.id, max(self._known.epoch, found.epoch - 1))
            return None
        if (self._fault is not None or self._unanswered) and self._clock() - self._asked < STORAGE_LOOK_SECONDS:
            if self._unanswered and self._uncompared:
                return self._first(found)
            # Also where the known one was there a moment ago, in between: what is here now is another.
            return self._fault or DatabaseUnknown("whether this is the known database cannot be told yet")
        self._unanswered = False
        try:
            remembered = self.remembered()
            if remembered is None:
                # A first start, or the first of a version that gives databases an identity.
                self._known = self._made(0)
                return None
        except StorageError as error:
            silent, self._unanswered = self._silent, True
            self._silent = True
            self._asked = self._clock()
            if self._uncompared:
                if not silent:
                    log.warning("which database this is cannot be compared", error=str(error))
                return self._first(found)
            return self._fault or DatabaseUnknown(f"whether this is the known database cannot be told: {error}")
        self._asked, self._met = self._clock(), None
        difference = _difference(found, remembered)
        if difference is not None:
            return DatabaseUnknown(difference)
        self._known = remembered
        return None

    @property
    def _uncompared(self) -> bool:
        """Whether storage has not been heard yet."""
        return self._known is None and (self._fault is None or self._met is not None)

    def _first(self, found: Identity | None) -> DatabaseUnknown | None:
        """Find what is wrong with a database that cannot be compared: that it is another than the first one met."""
        if self._met is None:
            self._met = None if found is None else Identity(found.id, max(0, found.epoch - 1))
            return None
        if found is not None and _same(found, self._met):
            return None
        return DatabaseUnknown("Redis is another database than at first, and storage cannot be asked which is right")

    def _made(self, epoch: int) -> Identity:
        """Give the database an identity, unless it has one, of this epoch or a later one, and have storage know it."""
        found: Any = self._redis.eval(_MAKE, 1, self._key, secrets.token_hex(16), str(epoch))
        known = Identity(found[0].decode(), max(0, int(found[1]) - 1))
        self._storage().put(self._object, json.dumps(asdict(known)).encode(), "application/json")
        log.info("this is the known database from now on", database=known.id, epoch=known.epoch)
        return known

    def _tell(self, fault: DatabaseUnknown | None) -> None:
        """Log a change of what is wrong."""
        if fault is not None and str(fault) != str(self._fault):
            log.error("not the known database, waiting", error=str(fault))
        elif fault is None and self._fault is not None:
            log.info("the known database is back")
        self._fault = fault


def open_database(connection: redis.Redis, settings: ServiceSettings) -> Database:
    """Open the database for a process that opens no storage for this alone.

    Storage is asked when needed, and briefly.
    """
    return Database(
        connection, settings, lambda: open_storage(settings, connection, timeout=STORAGE_SILENCE, attempts=1)
    )


def _same(found: Identity, known: Identity) -> bool:
    return found.id == known.id and found.epoch >= known.epoch


def _difference(found: Identity | None, known: Identity) -> str | None:
    if found is None:
        return "Redis has no identity where storage knows one: it came up empty, or is another"
    if found.id != known.id:
        return f"Redis is the database {found.id}, and storage knows {known.id}"
    if _same(found, known):
        return None
    return f"Redis is older than what storage knows of it: at epoch {found.epoch}, after {known.epoch}"


_MAKE = """
if redis.call('HEXISTS', KEYS[1], 'id') == 0 then
  redis.call('HSET', KEYS[1], 'id', ARGV[1])
end
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or -1) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'id', 'epoch')
"""

_BEAT = """
local now, began = tonumber(redis.call('TIME')[1]), tonumber(redis.call('HGET', KEYS[1], 'began') or 0)
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] or now - began < tonumber(ARGV[2]) and now >= began then
  return nil
end
redis.call('HSET', KEYS[1], 'began', now)
return redis.call('HINCRBY', KEYS[1], 'epoch', 1)
"""
