"""The peers' own virtual environments, made once from the exact pins beside this file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.work import ROOT

CACHE = ROOT / "build" / "peers"
PINS = Path(__file__).parent


def python(name: str) -> Path:
    """Give the interpreter of a peer's environment, which is made when it is missing or its pins have changed.

    Needs a network then. Raises `CalledProcessError` when pip cannot install.
    """
    pins, home = PINS / f"requirements-{name}.txt", CACHE / name
    made = home / "pins.txt"
    if not made.exists() or made.read_text() != pins.read_text():
        print(f"installing {name} into {home.relative_to(ROOT)}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--no-deps", "-r", str(pins)], check=True)
        shutil.copy(pins, made)
    return home / "bin" / "python"


def version(name: str) -> str:
    """Read the peer's release off its pins."""
    lines = (PINS / f"requirements-{name}.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))
