"""How long a storage is waited for: each of its faults for as long as it lasts itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tenacity

from service.storage import ObjectDamaged, StorageFull, StorageUnavailable
from worker.task.retrying import DAMAGE_PATIENCE, FULL_PATIENCE, STORAGE_PATIENCE, patiently


class Clock:
    """Goes on by a second with every wait."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wait(self, seconds: float) -> None:
        self.now += 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.mark.parametrize(
    ("error", "patience"),
    [
        (StorageFull("no room"), FULL_PATIENCE),
        (ObjectDamaged("another file"), DAMAGE_PATIENCE),
        (StorageUnavailable("away"), STORAGE_PATIENCE),
    ],
)
def test_each_fault_has_its_own_patience(clock: Clock, error: StorageUnavailable, patience: float) -> None:
    def ask() -> None:
        raise error

    before = clock.now
    with pytest.raises(type(error)):
        patiently(clock.wait, ask)
    assert clock.now - before == pytest.approx(patience, abs=1)


@pytest.mark.parametrize("error", [StorageFull("no room"), ObjectDamaged("another file")])
def test_an_outage_before_it_does_not_shorten_the_wait_for_room_or_for_the_file(clock: Clock, error: Exception) -> None:
    faults = [StorageUnavailable("away")] * 100 + [error] * 5 + [StorageUnavailable("away")] * 100 + [error] * 5

    def ask() -> str:
        if faults:
            raise faults.pop()
        return "there"

    assert patiently(clock.wait, ask) == "there"
