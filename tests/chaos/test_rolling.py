"""A rolling restart, briefly: nobody who uses the client notices, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.chaos.rolling import run

STEPS = ("api-1", "api-2", "keeper-1", "launcher-cpu", "redis")


@pytest.mark.timeout(600)
def test_nobody_notices(tmp_path: Path) -> None:
    report = run(tmp_path, seed=1, people=2, steps=STEPS)
    print(report.table())
    assert report.clean, f"{report.verdict.told()}\n{report.table()}"
    assert report.verdict.outcomes["succeeded"] > 5, report.table()
    assert all(row.calls for row in report.rows[:-1]), report.table()
