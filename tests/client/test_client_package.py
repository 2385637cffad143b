"""The client as it is installed, and as the README shows it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import av
import pytest

import inbetween
from tests.client.conftest import Live

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEFAULT_URL = "http://127.0.0.1:8000"


def needed(package: str) -> set[str]:
    """A package with all that it needs here, without extras, as modules are named."""
    found = {package}
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        # For another Python or system than this one.
        return found
    for line in lines:
        if "extra ==" not in line and (name := re.match(r"[\w.-]+", line)):
            found |= needed(name[0])
    return {name.replace("-", "_").lower() for name in found}


def test_it_runs_with_httpx_alone() -> None:
    """As after `pip install .` without extras: whatever is not httpx or its needs cannot be imported."""
    assert [re.match(r"\w+", line)[0] for line in PROJECT["dependencies"]] == ["httpx"]  # type: ignore[index]
    allowed = {*needed("httpx"), "inbetween"}
    assert {"httpx", "httpcore", "anyio"} <= allowed
    assert not {"pydantic", "pil", "numpy"} & allowed
    script = f"""
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0].lower()
        if top not in {allowed!r} and top not in {{each.lower() for each in sys.stdlib_module_names}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Bare())
import inbetween
from inbetween.__main__ import main
inbetween.Client("http://127.0.0.1:1").close()
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "inbetween submit" in done.stdout


def test_it_names_its_version_and_is_typed() -> None:
    assert inbetween.__version__ == PROJECT["version"]
    assert (ROOT / "inbetween" / "py.typed").exists()
    assert PROJECT["scripts"]["inbetween"] == "inbetween.__main__:main"
    assert all(hasattr(inbetween, name) for name in inbetween.__all__)


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder from which the README's paths lead where they do in the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_the_readmes_python_makes_a_video(live: Live, here: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert DEFAULT_URL in script
    command = [sys.executable, "-c", script.replace(DEFAULT_URL, live.url)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "running Progress(stage='sampling'" in done.stdout
    assert frames_of(here / "coffee.mp4") == frames_of(here / "coffee.gif") > 2


def test_the_readmes_command_lines_run(live: Live, here: Path) -> None:
    lines = re.findall(r"^inbetween (.*)$", README, re.MULTILINE)
    assert len(lines) >= 2
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "INBETWEEN_URL": live.url}
    for line in lines:
        command = [sys.executable, "-m", "inbetween", *shlex.split(line)]
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert frames_of(here / "coffee.mp4") > 2


def test_a_type_checker_knows_the_options(tmp_path: Path) -> None:
    """A wrong name, a wrong method and a wrong type are found before anything is sent."""
    script = tmp_path / "use.py"
    script.write_text(
        "from inbetween import Client\n"
        "client = Client()\n"
        'client.inbetween("a.png", b"", ("c.png", 3), seeds=[1], webhook={"url": "x"}).wait().save("a.mp4")\n'
        'client.inbetween("a.png", stepz=3)\n'
        'client.inbetween("a.png", method="mdp")\n'
        'client.inbetween("a.png", frames="8")\n'
        "client.inbetween(7)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(script)]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = [int(number) for number in re.findall(r"use\.py:(\d+): error", done.stdout)]
    assert found == [4, 5, 6, 7], done.stdout
