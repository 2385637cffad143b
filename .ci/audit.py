"""Known vulnerabilities in the pinned versions of constraints.txt, asked of PyPI's database of advisories by pip-audit.

    python .ci/audit.py [PIP-AUDIT COMMAND …]

Where the database cannot be asked, that is said in so many words, and is no failure: exit status 0 and a line that
begins with NOT AUDITED. Whether it can is found out with a version that is known to be vulnerable; for some package
indexes have no advisories, and pip-audit then finds nothing in anything. A vulnerability is a failure: exit status 1.
Without a command, pip-audit is installed into `.venv-audit`.

What wheels carry beside Python is looked at by itself (`carried.py`), on every machine: servers against the advisories
known here; of libraries it is said that they are NOT AUDITED.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from carried import carried

ROOT = Path(__file__).resolve().parents[1]
PIP_AUDIT = "pip-audit==2.10.1"
CANARY = "jinja2==2.4.1"
"""Has had an advisory since 2014."""
SECONDS = 300

ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us, each with the reason."""


class NotAudited(Exception):
    """The database could not be asked."""


def main(command: Sequence[str]) -> int:
    return max(_audit_wheels(), _audit_packages(command))


def _audit_wheels() -> int:
    """Say what wheels carry, and return 1 where a program of theirs is vulnerable."""
    loads = carried(list(distributions()))
    for one in loads:
        for program, version in one.programs.items():
            text = ".".join(map(str, version))
            sys.stderr.write(f"carried: {one.name} {one.version} has {program} {text}\n")
            for advisory in one.advisories():
                sys.stderr.write(f"VULNERABLE: {one.name} {one.version}: {program} {text}: {advisory}\n")
        if one.libraries:
            some = ", ".join(one.libraries[:3]) + (", …" if len(one.libraries) > 3 else "")
            sys.stderr.write(f"NOT AUDITED: {one.name} {one.version} carries {len(one.libraries)} libraries: {some}\n")
    return 1 if any(one.advisories() for one in loads) else 0


def _audit_packages(command: Sequence[str]) -> int:
    try:
        if not command:
            _check_that_it_is_there()
        asked = list(command) or [str(_installed(ROOT / ".venv-audit"))]
        _check_that_it_finds(asked)
        found = _audited(asked, ROOT / "constraints.txt")
    except NotAudited as reason:
        sys.stderr.write(f"NOT AUDITED: {reason}\n")
        return 0
    skipped = [one for one in found if "skip_reason" in one]
    faults = [(one, advisory) for one in found for advisory in one.get("vulns", ())]
    for one in skipped:
        sys.stderr.write(f"NOT AUDITED: {one['name']}: {one['skip_reason']}\n")
    for one, advisory in faults:
        versions = ", ".join(advisory["fix_versions"]) or "no version yet"
        sys.stderr.write(f"VULNERABLE: {one['name']} {one['version']}: {advisory['id']}, fixed in {versions}\n")
    sys.stderr.write(f"audited: {len(found) - len(skipped)} of {len(found)} packages, {len(faults)} vulnerabilities\n")
    return 1 if faults else 0


def _check_that_it_is_there() -> None:
    """Ask whether the index of advisories answers, before anything is installed for it. Raises `NotAudited`."""
    import httpx

    name, _, version = CANARY.partition("==")
    try:
        answer = httpx.get(f"https://pypi.org/pypi/{name}/{version}/json", timeout=10)
        known = answer.json().get("vulnerabilities") if answer.is_success else None
    except (httpx.HTTPError, ValueError) as error:
        raise NotAudited(f"pypi.org does not answer ({type(error).__name__})") from None
    if not known:
        raise NotAudited(f"what answers as pypi.org knows no advisories (status {answer.status_code})")


def _check_that_it_finds(command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary.txt"
        canary.write_text(f"{CANARY}\n")
        [one] = _audited(command, canary)
    if not one.get("vulns"):
        raise NotAudited(f"the index knows no advisories ({one.get('skip_reason', f'none for {CANARY}')})")


def _audited(command: list[str], requirements: Path) -> list[dict[str, Any]]:
    """Read what pip-audit says of each package."""
    options = ["--format", "json", "--progress-spinner", "off", "--no-deps", "--disable-pip", "--timeout", "15"]
    ignored = [part for advisory in ACCEPTED for part in ("--ignore-vuln", advisory)]
    try:
        done = subprocess.run(
            [*command, *options, *ignored, "--requirement", str(requirements)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        raise NotAudited(f"pip-audit had no answer after {SECONDS} seconds") from None
    except (OSError, ValueError, KeyError) as error:
        said = done.stderr.strip().splitlines() if not isinstance(error, OSError) else [str(error)]
        raise NotAudited(f"pip-audit did not run: {said[-1] if said else error}") from None
    return found


def _installed(folder: Path) -> Path:
    command = folder / "bin" / "pip-audit"
    done = folder / "installed"
    if not (done.is_file() and done.read_text() == PIP_AUDIT and command.exists()):
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        installed = subprocess.run([*pip, PIP_AUDIT], capture_output=True, text=True, check=False)
        if installed.returncode:
            said = installed.stderr.strip().splitlines()
            raise NotAudited(f"{PIP_AUDIT} cannot be installed: {said[-1] if said else 'pip failed'}")
        done.write_text(PIP_AUDIT)
    return command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
