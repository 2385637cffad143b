"""The examples do what they say, each as a program of its own against the whole service."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import httpx
import pytest
from PIL import Image

from inbetween import Client
from tests.client.conftest import Live
from trials.servers import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENTS = ("batch", "bridge", "image_sequence", "storyboard", "webhook_receiver")


def environment(live: Live) -> dict[str, str]:
    return {**os.environ, "INBETWEEN_URL": live.url, "INBETWEEN_WEBHOOK_SECRET": live.secret}


def run(live: Live, name: str, *given: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, given)]
    return subprocess.run(command, env=environment(live), capture_output=True, text=True, timeout=200, check=False)


@contextmanager
def running(live: Live, name: str, *given: str | Path) -> Iterator[Iterator[str]]:
    """The lines of a program that does not end by itself."""
    command = [sys.executable, "-u", str(EXAMPLES / f"{name}.py"), *map(str, given)]
    process = subprocess.Popen(
        command, env=environment(live), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    # A program that says nothing is ended, so that whoever waits for a line fails.
    patience = threading.Timer(120, process.kill)
    patience.start()
    try:
        yield iter(process.stdout.readline, "")
    finally:
        patience.cancel()
        process.terminate()
        process.wait(30)
        process.stdout.close()


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def picture(path: Path, colour: str, age: float = 60) -> Path:
    Image.new("RGB", (64, 48), colour).save(path)
    earlier = path.stat().st_mtime - age
    os.utime(path, (earlier, earlier))
    return path


@pytest.fixture
def board(tmp_path: Path) -> Path:
    for name, colour in (("01", "navy"), ("02", "teal"), ("03", "gold")):
        picture(tmp_path / f"{name}.png", colour)
    return tmp_path


def test_a_storyboards_gaps_are_filled_and_filled_again(live: Live, board: Path) -> None:
    with running(live, "storyboard", board, "--method", "flow", "--frames", "4") as lines:
        assert [next(lines).partition(":")[0] for _ in range(2)] == [
            str(board / f"gaps/{n}.mp4") for n in ("01-02", "02-03")
        ]
        first = (board / "gaps/01-02.mp4").read_bytes()
        picture(board / "02b.png", "red")
        assert [next(lines).partition(":")[0] for _ in range(2)] == [
            str(board / f"gaps/{n}.mp4") for n in ("02-02b", "02b-03")
        ]
        picture(board / "01.png", "white", age=1)
        assert next(lines).startswith(str(board / "gaps/01-02.mp4"))
    assert (board / "gaps/01-02.mp4").read_bytes() != first
    assert frames_of(board / "gaps/01-02.mp4") == 4
    done = run(live, "storyboard", board, "--method", "flow", "--once")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_storyboard_is_filled_once_around_a_picture_that_is_none(live: Live, board: Path) -> None:
    """All that can be, however new the pictures are."""
    (board / "04.png").write_text("no picture")
    picture(board / "05.png", "white", age=0)
    picture(board / "06.png", "black", age=0)
    done = run(live, "storyboard", board, "--method", "flow", "--frames", "4", "--once")
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        str(board / f"gaps/{n}.mp4") for n in ("03-04", "04-05")
    ]
    assert sorted(path.name for path in (board / "gaps").iterdir()) == ["01-02.mp4", "02-03.mp4", "05-06.mp4"]


def test_a_batch_makes_what_is_missing_and_says_what_it_cannot(live: Live, board: Path) -> None:
    table = board / "shots.csv"
    table.write_text(
        "start,end,output,method,frames,seed\n"
        "01.png,02.png,a.mp4,flow,4,\n"
        "02.png,03.png,videos/b.mp4,flow,5,7\n"
        "03.png,nowhere.png,c.mp4,flow,,\n"
        "03.png,01.png,d.mp4,flow,1000,\n"
    )
    done = run(live, "batch", table, "--at-once", "2")
    assert done.returncode == 1
    assert "2 made, 2 not" in done.stdout
    assert "nowhere.png" in done.stderr
    assert "options.frames" in done.stderr
    assert (frames_of(board / "a.mp4"), frames_of(board / "videos/b.mp4")) == (4, 5)
    table.write_text("\n".join(table.read_text().splitlines()[:3]))
    (board / "a.mp4").unlink()
    with Client(live.url) as client:
        before = {job.id for job in client.jobs()}
        again = run(live, "batch", table)
        assert (again.returncode, again.stdout) == (0, "a.mp4: done\n1 made, 0 not\n"), again.stderr
        assert {job.id for job in client.jobs()} == before


def test_a_sequence_gets_its_in_betweens(live: Live, tmp_path: Path) -> None:
    for number, colour in ((101, "navy"), (104, "gold"), (106, "teal")):
        picture(tmp_path / f"shot.{number:04d}.png", colour)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    picture(tmp_path / "other.0001.png", "red")
    done = run(live, "image_sequence", tmp_path / "shot.####.png", "--method", "flow")
    assert (done.returncode, done.stdout) == (0, "3 frames between 3 keyframes\n"), done.stderr
    assert sorted(path.name for path in tmp_path.glob("shot*")) == [
        f"shot.{number:04d}.png" for number in range(101, 107)
    ]
    assert {path: path.read_bytes() for path in kept} == kept
    with Image.open(tmp_path / "shot.0102.png") as early, Image.open(tmp_path / "shot.0103.png") as late:
        assert early.size == late.size == (64, 48)
        assert early.getpixel((32, 24)) != late.getpixel((32, 24))
    for pattern, words in (("shot.png", "no #"), ("none.##.png", "0 pictures")):
        done = run(live, "image_sequence", tmp_path / pattern)
        assert (done.returncode, words in done.stderr) == (1, True)


def clip(path: Path, first: int) -> Path:
    """Eight frames, each a little brighter than the one before."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=8, options={"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(first, first + 8):
            grey = Image.new("RGB", (64, 48), (8 * number,) * 3)
            film.mux(stream.encode(av.VideoFrame.from_image(grey)))
        film.mux(stream.encode())
    return path


def test_two_clips_are_bridged(live: Live, tmp_path: Path) -> None:
    before, after = clip(tmp_path / "before.mp4", 0), clip(tmp_path / "after.mp4", 20)
    output = tmp_path / "bridge.mp4"
    asked = (before, after, output, "--method", "flow", "--seen", "2", "--gap", "5")
    done = run(live, "bridge", *asked)
    assert (done.returncode, done.stdout) == (0, f"{output}: 5 new frames, interpolated\n"), done.stderr
    with av.open(str(output)) as film:
        greys = [frame.to_ndarray(format="gray").mean() for frame in film.decode(video=0)]
    assert len(greys) == 2 + 5 + 2
    expected = [8 * 6, 8 * 7, *(8 * 7 + (8 * 20 - 8 * 7) * step / 6 for step in range(1, 6)), 8 * 20, 8 * 21]
    assert greys == pytest.approx(expected, abs=8)
    done = run(live, "bridge", before, after, output, "--seen", "9")
    assert (done.returncode, done.stderr) == (1, f"{before} has 8 frames, and 9 are asked for\n")


def test_a_receiver_fetches_the_video_it_hears_of(live: Live, board: Path, tmp_path: Path) -> None:
    port = free_port()
    hook = f"http://127.0.0.1:{port}/hooks/inbetween"
    with running(live, "webhook_receiver", "--folder", tmp_path / "videos", "--port", str(port)) as lines:
        assert any("running on" in line for line in lines)
        assert httpx.post(hook, content=b"{}", trust_env=False).status_code == 400
        with Client(live.url) as client:
            job = client.inbetween(board / "01.png", board / "02.png", method="flow", frames=4, webhook={"url": hook})
        video = tmp_path / "videos" / f"{job.id}.mp4"
        assert f"saved {video}\n" in lines
        assert frames_of(video) == 4


@pytest.mark.parametrize("name", CLIENTS)
def test_every_example_explains_itself(name: str) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"examples/{name}.py" in done.stdout
    assert (EXAMPLES / f"{name}.py").read_text().count("\n") < 120
