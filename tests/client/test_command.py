"""The command `inbetween`, against the whole service."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from inbetween import Client
from inbetween.__main__ import main
from inbetween.bar import Bar, clock
from inbetween.records import Record
from tests.client.conftest import Live
from trials.servers import free_port

Run = Callable[..., tuple[int, str, str]]
FLOW = ["--method", "flow", "--frames", "4"]


@pytest.fixture
def run(live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit status, standard output and standard error of a command line."""
    monkeypatch.setenv("INBETWEEN_URL", live.url)
    before = signal.getsignal(signal.SIGTERM)

    def run(*given: str | Path) -> tuple[int, str, str]:
        try:
            code = main([str(each) for each in given])
        except SystemExit as exit:
            code = int(exit.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def test_submit_waits_and_brings_the_video(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    outputs = [tmp_path / "out.mp4", tmp_path / "out.gif"]
    more = [part for path in outputs for part in ("-o", path)]
    code, out, err = run("submit", *pictures, *FLOW, "--at", "0,3,9", "--set", "frames=null", *more)
    assert (code, out.split()) == (0, [str(path) for path in outputs]), err
    assert [frames_of(path) for path in outputs] == [10, 10]
    assert "submitted" in err
    assert "encoding" in err


def test_warnings_go_to_stderr_once_and_are_kept(run: Run, tmp_path: Path) -> None:
    ends = [tmp_path / f"{name}.png" for name in "ab"]
    for path in ends:
        Image.new("RGBA", (64, 48), (200, 90, 20, 128)).save(path)
    code, out, err = run("submit", *ends, *FLOW, "-o", tmp_path / "out.mp4")
    assert (code, out) == (0, f"{tmp_path / 'out.mp4'}\n"), err
    warned = "warning: mp4 holds no transparency, which the keyframes have; "
    assert err.count(warned) == 1
    [job] = json.loads(run("list", "--json", "-n", "1")[1])
    assert job["result"]["background"] in ("#000000", "#ffffff", "#808080")
    assert f"warning   {warned.partition(' ')[2]}" in run("status", job["id"])[1]
    assert "warning" not in run("get", job["id"], "-q", "-o", tmp_path / "again.mp4")[2]


def test_several_seeds_are_several_files(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    code, out, _ = run("submit", *pictures[:2], *FLOW, "--seed", "1", "--seed", "2", "-q", "-o", tmp_path / "o.mp4")
    assert code == 0
    assert out.split() == [str(tmp_path / f"o-take-{take}.mp4") for take in (1, 2)]
    assert all(Path(path).exists() for path in out.split())


def test_submit_then_watch_status_get_list_delete(
    run: Run, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("submit", *pictures[:2], *FLOW, "--size", "96x64", "--fps", "9", "--reference", "shot-9")
    assert (code, err) == (0, "")
    job_id = out.strip()
    assert run("watch", job_id)[:2] == (0, "succeeded\n")
    code, out, _ = run("status", job_id)
    assert code == 0
    for words in (job_id, "succeeded", "flow", "shot-9", "take-1.mp4", "4 frames of 96x64, 9 per second"):
        assert words in out
    assert json.loads(run("status", job_id, "--json")[1])["result"]["frames"] == 4
    assert job_id in run("list", "--state", "succeeded")[1]
    assert json.loads(run("list", "--json", "-n", "1")[1])[0]["id"] == job_id
    monkeypatch.chdir(tmp_path)
    assert run("get", job_id)[1] == f"{job_id}.mp4\n"
    assert run("get", job_id, "--file", "metadata.json")[1] == "metadata.json\n"
    assert json.loads(Path("metadata.json").read_text())
    assert frames_of(Path(f"{job_id}.mp4")) == 4
    assert len(run("get", job_id, "--all", tmp_path / "all")[1].split()) >= 4
    assert run("cancel", job_id)[1] == f"{job_id} succeeded\n"
    assert run("delete", job_id)[1] == f"{job_id} deleted\n"
    code, _, err = run("status", job_id)
    assert code == 2
    assert "no job of that id" in err


def test_events_one_a_line(run: Run, pictures: list[Path]) -> None:
    job_id = run("submit", *pictures[:2], *FLOW)[1].strip()
    code, out, err = run("watch", job_id, "--json")
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert {event["job"] for event in events} == {job_id}
    assert [event["state"] for event in events if event["event"] == "state"] == ["queued", "running", "succeeded"]


def test_what_cannot_be_used_is_told_in_a_line_and_exits_2(run: Run, pictures: list[Path]) -> None:
    code, out, err = run("submit", *pictures[:2], *FLOW, "--set", "gamma=2", "--set", "stepz=3")
    assert (code, out) == (2, "")
    assert "options.stepz" in err
    assert "options.gamma" in err
    for wrong in (
        ["submit", "no-such.png", pictures[0]],
        ["submit", *pictures, "--at", "0,3"],
        ["submit", *pictures, "--at", "x"],
        ["submit", *pictures, "--size", "wide"],
        ["submit", *pictures, "--set", "gamma"],
        ["submit", *pictures, "-o", "out.txt"],
        ["--url", "x"],
        ["status", "job_1", "--url", "nowhere"],
        [],
    ):
        code, out, err = run(*wrong)
        assert (code, out, err.count("\n")) == (2, "", 1), wrong
        assert err.startswith("inbetween")


def test_a_server_that_is_not_there_exits_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    url = f"http://127.0.0.1:{free_port()}"
    code, _, err = run("list", "--url", url)
    assert code == 3
    assert err.count("\n") == 1
    assert url in err
    assert "--url or INBETWEEN_URL" in err


LONG = {"frames": 240, "width": 1024, "height": 1024}
"""So much that it is still running when it is interrupted."""


def test_a_canceled_job_exits_1_and_a_slow_one_4(run: Run, live: Live, pictures: list[Path]) -> None:
    settings = [part for name, value in LONG.items() for part in ("--set", f"{name}={value}")]
    code, _, err = run("submit", *pictures[:2], "-m", "flow", *settings, "--timeout", "0.5", "--wait")
    assert (code, "still" in err) == (4, True)
    job_id = re.findall(r"job_\w+", err)[0]
    assert run("cancel", job_id)[0] == 0
    assert run("watch", job_id)[0] == 1


def test_ctrl_c_cancels_what_was_submitted(live: Live, pictures: list[Path]) -> None:
    settings = [f"--set={name}={value}" for name, value in LONG.items()]
    command = [sys.executable, "-m", "inbetween", "submit", *map(str, pictures[:2]), "-m", "flow", *settings, "--wait"]
    environment = {**os.environ, "INBETWEEN_URL": live.url}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    job_id = process.stderr.readline().split()[0]
    assert "running" in process.stderr.readline() + process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), "Traceback" in said) == (130, False), said
    with Client(live.url) as client:
        assert client.job(job_id).wait(check=False).state == "canceled"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(state: str, **progress: Any) -> Record:
    return Record({"id": "job_1", "state": state, "progress": progress or None, "position": None})


def test_a_terminal_sees_one_line_that_moves() -> None:
    stream = Terminal()
    bar = Bar(stream=stream)
    bar.show(Record({"id": "job_1", "state": "queued", "position": 3}))
    bar.show(record("running", stage="sampling", fraction=0.5, step=5, steps=10, take=1, takes=2, eta=75.2))
    bar.say("done")
    assert stream.getvalue() == (
        "\r\x1b[Kqueued, 3 before it"
        "\r\x1b[Ksampling  [###############...............]  50%  step 5/10  take 1/2  1:15 left"
        "\r\x1b[Kdone\n"
    )


def test_a_log_sees_a_line_at_each_stage_alone() -> None:
    stream = io.StringIO()
    bar = Bar(stream=stream)
    for fraction in (0.0, 0.3, 0.6):
        bar.show(record("running", stage="sampling", fraction=fraction))
    bar.show(record("running", stage="encoding"))
    bar.clear()
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["sampling", "encoding"]
    assert "\r" not in stream.getvalue()
    Bar(quiet=True, stream=stream).show(record("queued"))
    assert stream.getvalue().count("\n") == 2


@pytest.mark.parametrize(("seconds", "text"), [(7.2, "0:07"), (750, "12:30"), (3600, "1:00:00")])
def test_time_left(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("command", ["submit", "status", "watch", "cancel", "delete", "get", "list"])
def test_every_command_explains_itself(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "--url" in out
    assert f" {command} " in run("--help")[1]
