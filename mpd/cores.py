"""The cores that this process may use: those it is bound to, as far as its container's limit leaves them to it."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where a container sees its own limits."""
_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Of version 2 and version 1: microseconds of all cores together, in so many microseconds."""
_NO_LIMIT = ("max", "-1")


def usable() -> int:
    """Count the cores that this process may use."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, of_container() or bound)


def of_container(cgroup: Path = CGROUP) -> int | None:
    """Give the cores that the limit comes to, rounded up; None where there is no limit, or none that can be read."""
    for names in _FILES:
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in names).split()
        except OSError:
            continue
        return None if quota in _NO_LIMIT else max(1, -(-int(quota) // int(period)))
    return None
