"""Memory for what requests bring: who finds none waits a little, and one owner's much leaves others theirs.

Nothing is measured. What will be held is said before it is held, and a `Hold` is given up when it is not any more.
`ByteBudget` is one event loop's, `ThreadByteBudget` is for threads. Who waits in one of them holds nothing that others
wait for in it, so that all get on; what is taken one after the other is taken in one order (bodies, then pictures).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from service.problems import Problem

ROOM_PATIENCE = 3.0
"""Seconds that a request waits for room before a client that sends its body would lose patience."""

THREAD_PATIENCE = 10.0
"""Seconds that a thread waits for room."""

SMALL_SHARE = 16
"""Of the room, one part in so many is for small requests alone."""


class ByteLedger:
    """What each owner holds of `most` bytes. The lock is the caller's."""

    def __init__(self, most: int, shared: bool = True, whole: bool = True) -> None:
        """Begin with nothing held.

        shared: whether owners are to leave each other some; not where everybody is one owner.

        whole: whether an owner with nothing in hand may have all of it. Not where what is held comes at its sender's
        pace: who sends slowly, or stops, would keep everybody else out for as long.
        """
        self.most = most
        self.held = 0
        self._shared = shared
        self._whole = whole or not shared
        self._small = most // SMALL_SHARE // 4
        self._of: dict[str, int] = {}

    @property
    def largest(self) -> int:
        """What one request can hold at the most."""
        room = self.most - self.most // SMALL_SHARE
        return room if self._whole else room // 2

    def fits(self, owner: str, more: int) -> bool:
        """Tell whether an owner may hold so much more now.

        That is half of the room, or all where it may and has nothing in hand.
        """
        has = self._of.get(owner, 0)
        room = self.most if more <= self._small else self.most - self.most // SMALL_SHARE
        if self._shared and (has or not self._whole) and has + more > room // 2:
            return False
        return self.held + more <= room

    def share(self, owner: str) -> int:
        return self._of.get(owner, 0)

    def take(self, owner: str, more: int) -> None:
        self.held += more
        self._of[owner] = self._of.get(owner, 0) + more
        if not self._of[owner]:
            del self._of[owner]


class Hold:
    """Bytes of a room that a request has. `reach` makes them more."""

    def __init__(self, ledger: ByteLedger, owner: str) -> None:
        self.size = 0
        self._ledger = ledger
        self._owner = owner

    def reach(self, size: int) -> None:
        """Hold `size` bytes in all, at once. Raises `Problem` 503 where there is no room for them."""
        more = size - self.size
        if more > 0:
            if not self._ledger.fits(self._owner, more):
                raise no_room()
            self._add(more)

    def _add(self, more: int) -> None:
        self._ledger.take(self._owner, more)
        self.size += more


class ByteBudget:
    """For requests of one event loop."""

    def __init__(self, most: int, shared: bool = True, whole: bool = True) -> None:
        """Begin with nothing held and nobody waiting. most, shared, whole: as of `ByteLedger`."""
        self.ledger = ByteLedger(most, shared, whole)
        self._waiting: list[tuple[str, int, anyio.Event]] = []

    @asynccontextmanager
    async def of(self, owner: str, need: int) -> AsyncIterator[Hold]:
        """Hold `need` bytes, once there is room.

        Of those who wait, who holds least is next; an owner's own stay in order.

        Raises `Problem` 503 for who has waited `ROOM_PATIENCE` seconds.
        """
        hold = Hold(self.ledger, owner)
        await self._wait(owner, need, hold)
        try:
            yield hold
        finally:
            self.ledger.take(owner, -hold.size)
            self._admit()

    async def _wait(self, owner: str, need: int, hold: Hold) -> None:
        if not any(each[0] == owner for each in self._waiting) and self.ledger.fits(owner, need):
            hold._add(need)
            return
        mine = (owner, need, anyio.Event())
        self._waiting.append(mine)
        try:
            with anyio.fail_after(ROOM_PATIENCE):
                await mine[2].wait()
        except TimeoutError:
            if not mine[2].is_set():
                raise no_room() from None
        except BaseException:
            if mine[2].is_set():
                self.ledger.take(owner, -need)
            raise
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
            self._admit()
        # It was taken on this one's behalf.
        hold.size = need

    def _admit(self) -> None:
        blocked: set[str] = set()
        for each in sorted(self._waiting, key=lambda each: self.ledger.share(each[0])):
            owner, need, event = each
            if owner in blocked or not self.ledger.fits(owner, need):
                blocked.add(owner)
                continue
            self.ledger.take(owner, need)
            self._waiting.remove(each)
            event.set()


class ThreadHold(Hold):
    """A hold that waits for more."""

    def __init__(self, room: ThreadByteBudget, owner: str) -> None:
        super().__init__(room.ledger, owner)
        self._room = room

    def reach(self, size: int) -> None:
        """Hold `size` bytes in all, once there is room. Raises `Problem` 503 after `THREAD_PATIENCE` seconds."""
        more = size - self.size
        if more <= 0:
            return
        with self._room.changed:
            if not self._room.changed.wait_for(lambda: self._may_have(more), THREAD_PATIENCE):
                raise no_room()
            self._add(more)

    def _may_have(self, more: int) -> bool:
        """Tell whether so much more fits.

        It always does where nobody else holds anything, or what is larger than the room could never be held.
        """
        return self._ledger.held == self.size or self._ledger.fits(self._owner, more)


class ThreadByteBudget:
    """For threads."""

    def __init__(self, most: int, shared: bool = True) -> None:
        self.ledger = ByteLedger(most, shared)
        self.changed = threading.Condition()

    @contextmanager
    def of(self, owner: str) -> Iterator[ThreadHold]:
        """Hold nothing as yet: what is held comes by `reach`."""
        hold = ThreadHold(self, owner)
        try:
            yield hold
        finally:
            with self.changed:
                self.ledger.take(owner, -hold.size)
                self.changed.notify_all()


def no_room() -> Problem:
    detail = "The requests that are being worked on leave no room for this one."
    return Problem(503, "busy", detail, headers={"Retry-After": "5"})
