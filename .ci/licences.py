"""Every package of constraints.txt and weights.txt, with its licence as its own metadata tells it."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pinned() -> set[str]:
    lines = [line for name in ("constraints", "weights") for line in (ROOT / f"{name}.txt").read_text().splitlines()]
    return {_plain(line.partition("==")[0]) for line in lines if "==" in line and not line.startswith("#")}


def licence(package: Distribution) -> str:
    """Give a package's SPDX expression, else its classifiers, else the first line of what it calls its licence."""
    told = package.metadata
    classified = [line.split(" :: ")[-1] for line in told.get_all("Classifier", []) if line.startswith("License ::")]
    return (
        told.get("License-Expression") or ", ".join(classified) or (told.get("License") or "not told").splitlines()[0]
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")


if __name__ == "__main__":
    wanted = pinned()
    found = {_plain(one.metadata["Name"]): one for one in distributions()}
    for name in sorted(wanted & found.keys()):
        sys.stdout.write(f"{name:40} {found[name].version:20} {licence(found[name])}\n")
    for name in sorted(wanted - found.keys()):
        sys.stdout.write(f"{name:40} {'':20} not installed here\n")
