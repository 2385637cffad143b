"""The paper's measures by their own tools, each called as a program in an environment of its own.

A tool is a Python that can import it. Nothing of theirs is imported here, so that none has to fit the others.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""Of the checkout: the programs are modules of it, which import nothing but each other and their tool."""
MEASURES: dict[str, tuple[str, ...]] = {
    "lpips": ("LPIPS",),
    "fid": ("FID",),
    "fvd": ("FVD",),
    "vbench": ("VBench", "VBench++"),
}
"""What each tool measures, whose program is `programs/measure_TOOL.py`."""


class ToolError(Exception):
    """A tool could not measure. The message is what it said last."""


def measure(tool: str, python: str, made: Path, truth: Path, more: tuple[str, ...] = ()) -> Mapping[str, float]:
    """Give a row's values by a tool's program, which `python` runs. more: arguments of the program's own.

    Raises `ToolError`.
    """
    program = f"benchmarks.clips.paper.programs.measure_{tool}"
    # Not resolved: the Python of an environment is a link to another.
    where = str(Path(python).absolute()) if "/" in python else python
    folders = [str(folder.resolve()) for folder in (made, truth)]
    try:
        run = subprocess.run(
            [where, "-m", program, *folders, *more], capture_output=True, text=True, check=False, cwd=ROOT
        )
    except OSError as error:
        raise ToolError(f"{tool}: {python}: {error.strerror}") from error
    if run.returncode:
        said = run.stderr.strip().splitlines()
        raise ToolError(f"{tool}: {said[-1] if said else f'exit status {run.returncode}'}")
    found = json.loads(run.stdout.splitlines()[-1])
    return {name: float(found[name]) for name in MEASURES[tool]}
