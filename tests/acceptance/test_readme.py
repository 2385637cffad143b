"""The README is right: its commands run as pasted, its table is what the methods say, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mpd.lengths import denoiser_calls
from mpd.methods import METHODS, Settings
from tests.acceptance.conftest import Caller

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
DEFAULT_URL = "http://127.0.0.1:8000"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.needs("curl")
def test_the_curl_line_makes_a_video(caller: Caller) -> None:
    (line,) = [line for line in LINES if line.startswith("curl")]
    assert DEFAULT_URL in line
    done = shell(line.replace(DEFAULT_URL, caller.url))
    assert done.returncode == 0, done.stderr
    assert caller.finished(json.loads(done.stdout))["state"] == "succeeded"


@pytest.mark.parametrize("line", [line for line in LINES if "/mpd " in line])
def test_the_mpd_lines_make_a_video(tmp_path: Path, line: str) -> None:
    done = shell(line.replace(".venv/bin/mpd", "mpd").replace("coffee.mp4", str(tmp_path / "coffee.mp4")))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "coffee.mp4").stat().st_size > 10_000


@pytest.mark.parametrize("command", sorted({line.split()[1] for line in LINES if line.startswith("inbetween-server")}))
def test_the_server_has_the_commands(command: str) -> None:
    assert shell(f"inbetween-server {command} --help").returncode == 0


@pytest.mark.parametrize("target", sorted({line.split()[1] for line in LINES if line.startswith("make")} | {"test"}))
def test_make_has_the_targets(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_table_of_methods_is_right() -> None:
    rows = re.findall(r"^\| (`.*?) \| ([\d ·]+) \|", README, re.MULTILINE)
    stated = {
        name.strip("` "): int(calls)
        for names, numbers in rows
        for name, calls in zip(names.split("·"), numbers.split("·"), strict=True)
    }
    assert stated == {name: denoiser_calls(Settings(method=name)) for name in METHODS}


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
