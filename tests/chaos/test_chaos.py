"""Every kind of fault once or more, to the whole service under load: nothing is lost, doubled, torn or charged."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.chaos.schedule import KINDS, schedule
from trials.chaos.trial import run

SEED = 4


def test_a_seed_decides_every_fault() -> None:
    faults = schedule(SEED, rounds=2, gap=1.0)
    assert faults == schedule(SEED, rounds=2, gap=1.0)
    assert faults != schedule(SEED + 1, rounds=2, gap=1.0)
    assert {fault.kind for fault in faults[: len(KINDS)]} == set(KINDS)


@pytest.mark.timeout(600)
def test_nothing_is_lost(tmp_path: Path) -> None:
    report = run(tmp_path, schedule(SEED, rounds=1, gap=1.0), seed=SEED, jobs=40)
    print(report.table())
    assert report.verdict.clean, f"{report.verdict.told()}\n{report.table()}"
    assert not report.missed, report.table()
    assert report.verdict.outcomes["succeeded"] > 15, report.table()
    assert sum(report.metrics.values()) > 0, report.table()
    assert report.unwell, report.table()
