"""What a container's limit leaves to its processes of the machine's cores, which their affinity does not tell."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where a container sees its own limits."""
_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Of version 2 and version 1: microseconds of all cores together, in so many microseconds."""
_NO_LIMIT = ("max", "-1")


def cores(cgroup: Path = CGROUP) -> int | None:
    """Give the cores that the limit comes to, rounded up; None where there is no limit, or none that can be read."""
    for names in _FILES:
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in names).split()
        except OSError:
            continue
        return None if quota in _NO_LIMIT else max(1, -(-int(quota) // int(period)))
    return None
