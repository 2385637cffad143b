"""A container's share of the cores, read from the files of either version of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpd import cores

V2 = "cpu.max"
QUOTA, PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({V2: "100000 100000\n"}, 1),
        ({V2: "150000 100000\n"}, 2),
        ({V2: "1000 100000\n"}, 1),
        ({V2: "80000 20000\n"}, 4),
        ({V2: "max 100000\n"}, None),
        ({QUOTA: "250000\n", PERIOD: "100000\n"}, 3),
        ({QUOTA: "-1\n", PERIOD: "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_share_is_rounded_up(tmp_path: Path, files: dict[str, str], found: int | None) -> None:
    assert cores.of_container(written(tmp_path, files)) == found


@pytest.mark.parametrize(("share", "usable"), [(None, 64), (1, 1), (3, 3), (100, 64)])
def test_no_more_cores_are_used_than_the_share(monkeypatch: pytest.MonkeyPatch, share: int | None, usable: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "of_container", lambda: share)
    assert cores.usable() == usable
