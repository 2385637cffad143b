"""What tests need beside Python, told by the marker `needs`: where it is missing they are left out, counted and named.

A pytest plugin. Where the variable CI is set, nothing may be missing: collecting such a test is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest


def program(*names: str) -> str | None:
    """Path of the first of these programs that is on PATH."""
    return next((found for found in map(shutil.which, names) if found), None)


def redis_server() -> str | None:
    """Path of the redis-server that is on PATH, or of the one that the variable REDIS_SERVER names in its place."""
    return os.environ.get("REDIS_SERVER") or program("redis-server")


def chromium() -> str | None:
    return program("chromium", "chromium-browser", "google-chrome")


def kustomize() -> list[str] | None:
    """The command that renders a folder of manifests."""
    if found := program("kustomize"):
        return [found, "build"]
    return [found, "kustomize"] if (found := program("kubectl")) else None


@cache
def mounts() -> bool:
    """Whether a file system can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
        if not program("mount") or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return False
        subprocess.run(["umount", folder], check=True)
    return True


@dataclass(frozen=True)
class Need:
    found: Callable[[], object]
    remedy: str
    #: Whether it may be missing where CI is set too: no command brings it.
    optional: bool = False


NEEDS = {
    "chromium": Need(chromium, "apt-get install chromium"),
    "curl": Need(lambda: program("curl"), "apt-get install curl"),
    "ffmpeg": Need(lambda: program("ffmpeg") and program("ffprobe"), "apt-get install ffmpeg"),
    "git": Need(lambda: program("git"), "apt-get install git"),
    "kubectl 1.21": Need(kustomize, "https://kubernetes.io/docs/tasks/tools (from Debian 13: kubernetes-client)"),
    "prometheus": Need(lambda: program("prometheus") and program("promtool"), "apt-get install prometheus"),
    "redis-server": Need(redis_server, "apt-get install redis-server"),
    "to mount a file system": Need(mounts, "run them as root, outside a container", optional=True),
}

_LACKS = "needs "


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(what, …): left out where one of these is missing: {', '.join(NEEDS)}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what cannot be run. Comes last, when what nobody asked for is deselected already."""
    lacking = []
    for item in items:
        wanted = [what for marker in item.iter_markers("needs") for what in marker.args]
        if unknown := set(wanted) - set(NEEDS):
            raise pytest.UsageError(f"{item.nodeid}: {__name__} does not know {', '.join(unknown)}")
        missing = next((what for what in wanted if not NEEDS[what].found()), None)
        if missing:
            lacking.append(missing)
            item.add_marker(pytest.mark.skip(reason=f"{_LACKS}{missing}"))
    wrong = [what for what in lacking if not NEEDS[what].optional]
    if wrong and os.environ.get("CI"):
        raise pytest.UsageError("CI is set, and nothing may be left out there.", *_told(wrong))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say last what was left out."""
    yield
    # From the reports: tests may have been collected in other processes.
    reasons = (str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    lacking = (reason.removeprefix(f"Skipped: {_LACKS}") for reason in reasons if _LACKS in reason)
    for line in _told(what for what in lacking if what in NEEDS):
        terminalreporter.write_line(line, yellow=True)


def _told(lacking: Iterable[str]) -> list[str]:
    return [
        f"left out: {count} {'test that needs' if count == 1 else 'tests that need'} {what}: {NEEDS[what].remedy}"
        for what, count in sorted(Counter(lacking).items())
    ]
