"""Room in memory: who finds none waits a little, and one owner's much leaves others theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

from service.api.intake import byte_budget
from service.api.intake.byte_budget import ByteBudget, ByteLedger, ThreadByteBudget
from service.problems import Problem


async def later(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.001)


def no_room(raised: pytest.ExceptionInfo[Problem]) -> None:
    assert (raised.value.status, raised.value.slug) == (503, "busy")
    assert int(raised.value.headers["Retry-After"]) > 0
    assert raised.value.remedy


def test_one_owners_large_requests_leave_room_for_anothers_small_ones() -> None:
    ledger = ByteLedger(1600)
    assert ledger.largest == 1500
    assert ledger.fits("ann", 1500), "who has nothing may have all that there is for one request"
    assert not ledger.fits("ann", 1501)
    ledger.take("ann", 1500)
    assert not ledger.fits("ann", 1), "and then nothing more"
    assert not ledger.fits("bob", 26)
    assert ledger.fits("bob", 25)


def test_an_owner_has_half_of_the_room_for_several_requests() -> None:
    ledger = ByteLedger(1600)
    ledger.take("ann", 500)
    assert ledger.fits("ann", 250)
    assert not ledger.fits("ann", 251)
    assert ledger.fits("bob", 1000)
    assert ByteLedger(1600, shared=False).fits("ann", 1500)
    alone = ByteLedger(1600, shared=False)
    alone.take("ann", 500)
    assert alone.fits("ann", 1000), "where everybody is one owner, there are no halves"


def test_where_it_comes_at_the_senders_pace_an_owner_has_half_at_the_most() -> None:
    ledger = ByteLedger(1600, whole=False)
    assert ledger.largest == 750
    assert not ledger.fits("ann", 751)
    ledger.take("ann", 750)
    assert not ledger.fits("ann", 51), "nor a small one beyond it"
    assert ledger.fits("bob", 750), "whatever one sends slowly, another has as much"
    assert ByteLedger(1600, shared=False, whole=False).largest == 1500


def test_who_waits_gets_room_when_there_is_some_and_who_holds_least_comes_first() -> None:
    async def main() -> None:
        rooms, order = ByteBudget(1600), []

        async def ask(name: str, owner: str, need: int) -> None:
            async with rooms.of(owner, need):
                order.append(name)
                await anyio.sleep(0)

        async with anyio.create_task_group() as group, rooms.of("ann", 100):
            async with rooms.of("bob", 1400):
                group.start_soon(ask, "ann's large", "ann", 500)
                await later(lambda: len(rooms._waiting) == 1)
                group.start_soon(ask, "ann's small", "ann", 10)
                await later(lambda: len(rooms._waiting) == 2)
                group.start_soon(ask, "eve's large", "eve", 1000)
                await later(lambda: len(rooms._waiting) == 3)
                group.start_soon(ask, "pat's small", "pat", 20)
                await later(lambda: order)
                assert order == ["pat's small"], "what fits does not wait for what does not"
            await later(lambda: len(order) == 4)
        assert order == ["pat's small", "eve's large", "ann's large", "ann's small"], "an owner's own stay in order"
        assert rooms.ledger.held == 0

    anyio.run(main)


def test_who_waits_too_long_is_told_so_and_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(byte_budget, "ROOM_PATIENCE", 0.01)
        rooms = ByteBudget(1600)
        async with rooms.of("ann", 1500):
            with pytest.raises(Problem) as raised:
                async with rooms.of("bob", 100):
                    pass
            no_room(raised)
            assert not rooms._waiting
            assert rooms.ledger.held == 1500
        assert rooms.ledger.held == 0

    anyio.run(main)


def test_who_is_gone_before_its_room_comes_takes_none() -> None:
    async def main() -> None:
        rooms = ByteBudget(1600)

        async def ask() -> None:
            async with rooms.of("bob", 1000):
                pytest.fail("it was told to end")

        async with anyio.create_task_group() as group, rooms.of("ann", 1500):
            group.start_soon(ask)
            await later(lambda: rooms._waiting)
            group.cancel_scope.cancel()
        assert rooms.ledger.held == 0
        assert not rooms._waiting

    anyio.run(main)


def test_a_hold_that_grows_is_told_at_once_where_there_is_no_room() -> None:
    async def main() -> None:
        rooms = ByteBudget(1600)
        async with rooms.of("ann", 0) as hold, rooms.of("bob", 1000):
            hold.reach(400)
            hold.reach(300)
            assert rooms.ledger.held == 1400
            with pytest.raises(Problem) as raised:
                hold.reach(600)
            no_room(raised)
        assert rooms.ledger.held == 0

    anyio.run(main)


def test_threads_wait_for_each_other() -> None:
    rooms, entered, go_on = ThreadByteBudget(1600), threading.Event(), threading.Event()

    def first() -> None:
        with rooms.of("ann") as hold:
            hold.reach(1500)
            entered.set()
            assert go_on.wait(60)

    def second() -> int:
        with rooms.of("bob") as hold:
            hold.reach(100)
            return rooms.ledger.held

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first)
        assert entered.wait(60)
        two = threads.submit(second)
        assert not two.done()
        go_on.set()
        one.result(60)
        assert two.result(60) == 100
    assert rooms.ledger.held == 0


def test_who_is_alone_has_what_it_needs() -> None:
    rooms = ThreadByteBudget(1600)
    with rooms.of("ann") as hold:
        hold.reach(100)
        hold.reach(5000)
        assert rooms.ledger.held == 5000


def test_a_thread_does_not_wait_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_budget, "THREAD_PATIENCE", 0.01)
    rooms = ThreadByteBudget(1600)
    with ExitStack() as held:
        held.enter_context(rooms.of("ann")).reach(1500)
        with pytest.raises(Problem) as raised, rooms.of("bob") as hold:
            hold.reach(100)
        no_room(raised)
