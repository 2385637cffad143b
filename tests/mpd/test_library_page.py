"""docs/library.md is one program, and does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text()
PROGRAM = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
AFTERWARDS = """
import json, numpy as np
*_, known = mpd.inbetween(model, keyframes, mpd.Settings(method="mpd", anchor="pin", steps=10))
print(json.dumps({
    "apart": int(np.abs(take.frames.astype(int) - known.frames).max()),
    "distilled": int(np.abs(take.frames.astype(int) - distilled.frames).max()),
    "methods": list(mpd.METHODS),
    "preview": picture.shape,
}))
"""


def test_the_page_runs(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    command = [sys.executable, "-W", "error", "-c", PROGRAM + AFTERWARDS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, interpolated, *steps, stopped, refused, last = done.stdout.splitlines()
    assert first.endswith("apache-2.0 [(12, 64, 64, 3), (12, 64, 64, 3)]")
    assert interpolated == "RIFE 4.0 MIT (5, 64, 64, 3)"
    assert len(steps) == 20
    assert steps[0] == "take 1 of 2: step 1/10, 5%"
    assert steps[-1] == "take 2 of 2: step 10/10, 100%"
    assert stopped == "stopped at 3"
    assert refused == "cheap: calls_per_step is 2, and a step makes 1"
    found = json.loads(last)
    assert found["apart"] <= 1
    assert found["distilled"] > 1
    assert found["methods"][-2:] == ["pinned", "mpd-pinned"]
    assert found["preview"] == [8, 8, 3]
    with av.open(str(tmp_path / "arrow.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 12


def test_a_host_of_ones_own_is_ten_lines() -> None:
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def " in block]
    lines = [line for line in block.splitlines() if line and not line.lstrip().startswith('"""')]
    assert len(lines) <= 10


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", PAGE))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
