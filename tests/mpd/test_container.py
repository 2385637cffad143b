"""A container's share of the cores, read from the files of either version of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpd.rife import container, pair

V2 = "cpu.max"
QUOTA, PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "cores"),
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
def test_the_share_is_rounded_up(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    assert container.cores(written(tmp_path, files)) == cores


@pytest.mark.parametrize(("share", "cores"), [(None, 64), (1, 1), (3, 3), (100, 64)])
def test_frames_are_made_by_no_more_threads_than_the_share(
    monkeypatch: pytest.MonkeyPatch, share: int | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(container, "cores", lambda: share)
    assert pair.cores() == cores
