"""The `mpd` command, run as people run it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from mpd import tiny
from mpd.methods import METHODS

COMMAND = str(Path(sys.executable).with_name("mpd"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three photographs of different sizes: a JPEG, a PNG, and a WebP with transparency."""
    folder = tmp_path_factory.mktemp("pictures")
    coffee = Image.fromarray(data.coffee())
    coffee.crop((100, 80, 340, 240)).save(folder / "a.jpg")
    coffee.crop((120, 90, 320, 210)).save(folder / "b.png")
    seen_through = coffee.crop((110, 90, 310, 220))
    seen_through.putalpha(200)
    seen_through.save(folder / "c.webp")
    return [str(folder / name) for name in ("a.jpg", "b.png", "c.webp")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.build(tmp_path_factory.mktemp("model")))


def mpd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True, env=one_thread)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def terminal() -> tuple[int, int]:
    """Both ends of a terminal 100 columns wide: ours, theirs."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    return ours, theirs


def the_rest(ours: int) -> bytes:
    """What a terminal shows until the program at its other end has closed it."""
    shown = b""
    with open(ours, "rb", buffering=0) as screen, suppress(OSError):  # EIO is how a terminal says so
        while chunk := screen.read(4096):
            shown += chunk
    return shown


def shape(path: Path) -> tuple[int, int, int]:
    """(frames, width, height)."""
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
    return len(pictures), pictures[0].width, pictures[0].height


def pngs(path: Path) -> NDArray[np.uint16]:
    """The pictures of a zip, as deep as they are."""
    with zipfile.ZipFile(path) as archive:
        contents = [np.frombuffer(archive.read(name), np.uint8) for name in archive.namelist()]
    pictures: list[Any] = [cv2.imdecode(content, cv2.IMREAD_UNCHANGED) for content in contents]
    return np.stack(pictures)


class TestFlow:
    def test_two_pictures_and_nothing_else(self, tmp_path: Path, pictures: list[str]) -> None:
        done = mpd(tmp_path, *pictures[:2])
        assert (done.returncode, files(tmp_path)) == (0, ["inbetween.mp4"])
        assert done.stdout == "inbetween.mp4: 25 frames, 240x160, 7 fps, 3.6 s\n"
        assert "flow, no model" in done.stderr
        assert shape(tmp_path / "inbetween.mp4") == (25, 240, 160)

    def test_everything(self, tmp_path: Path, pictures: list[str]) -> None:
        options = ["--frames", "5", "--loop", "--fps", "12", "--width", "160", "--height", "160", "--fit", "contain"]
        names = ("a.mp4", "a.webm", "a.gif", "a.apng", "a.webp", "a.zip", "a-16bit.zip", "a.mov", "a-4444.mov")
        outputs = [word for name in names for word in ("-o", name)]
        done = mpd(tmp_path, *pictures, *options, *outputs, "--contact-sheet", "sheet.png", "--background", "#ffffff")
        assert done.returncode == 0, done.stderr
        assert files(tmp_path) == sorted([*names, "sheet.png"])
        for name in ("a.gif", "a.mp4", "a.webm", "a.apng", "a.mov", "a-4444.mov"):
            assert shape(tmp_path / name) == (12, 160, 106)
        with Image.open(tmp_path / "a.webp") as animation:
            assert (animation.n_frames, animation.size) == (12, (160, 106))  # type: ignore[attr-defined]
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            assert len(archive.namelist()) == 12
        assert "a.webm: 12 frames, 160x106, 12 fps, 1.0 s" in done.stdout
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width > 500

    def test_quiet(self, tmp_path: Path, pictures: list[str]) -> None:
        done = mpd(tmp_path, *pictures[:2], "--frames", "3", "-q", "-o", "b.gif")
        assert (done.returncode, done.stdout, done.stderr, files(tmp_path)) == (0, "", "", ["b.gif"])

    def test_as_a_module(self, tmp_path: Path, pictures: list[str]) -> None:
        command = [sys.executable, "-m", "mpd", *pictures[:2], "--frames", "2", "-o", str(tmp_path / "c.mp4")]
        subprocess.run(command, check=True, capture_output=True)
        assert shape(tmp_path / "c.mp4") == (2, 240, 160)


class TestModel:
    def test_takes_of_the_default_method(self, tmp_path: Path, pictures: list[str], model: str) -> None:
        sampling = ["--steps", "2", "--frames", "3", "--seeds", "1,2", "--width", "64", "--height", "64", "--k", "1"]
        outputs = ["-o", "a-16bit.zip", "--contact-sheet", "s.jpg", "--exact-keyframes"]
        done = mpd(tmp_path, *pictures[:2], "--model", model, *sampling, *outputs)
        assert done.returncode == 0, done.stderr
        assert files(tmp_path) == ["a-take-1-16bit.zip", "a-take-2-16bit.zip", "s-take-1.jpg", "s-take-2.jpg"]
        one, two = (pngs(tmp_path / f"a-take-{take}-16bit.zip") for take in (1, 2))
        assert (one[1] != two[1]).any()
        assert (one[[0, 2]] == two[[0, 2]]).all()  # the keyframes' own pixels, of 8 bits
        assert (one[[0, 2]] % 257 == 0).all()
        assert (one[1] % 257 != 0).mean() > 0.9  # what the model decoded, of 16
        assert f"mpd-vibid; loading {model}" in done.stderr

    def test_a_folder_that_is_none(self, tmp_path: Path, pictures: list[str]) -> None:
        done = mpd(tmp_path, *pictures[:2], "--model", str(tmp_path / "nothing"))
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("mpd: error: ")
        assert "Traceback" not in done.stderr


class TestRefused:
    """One line that says what is wrong and what to do, status 2, and no file."""

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "no keyframes: name at least two pictures"),
            (["A"], "keyframes: flow needs at least 2, got 1. Send the start and the end image."),
            (["A", "--model", "nowhere/at-all"], "keyframes: mpd-vibid needs at least 2, got 1"),
            (["A", "no.jpg"], "no.jpg: there is no such file. Check the path."),
            (["A", "TEXT"], "this is no picture in a format that can be read. Send JPEG, PNG, WebP, AVIF or HEIC."),
            (["A", "B", "--method", "dream"], "method: unknown method 'dream'. Choose one of flow, rife, film, svd"),
            (["A", "B", "--method", "trf"], "trf needs a model: give --model"),
            (["A", "B", "--method", "flow", "--model", "m"], "flow uses no model: remove --model"),
            (["A", "B", "--frames", "1"], "frames: 1 is out of range. Send a whole number from 2 to 241"),
            (["A", "B", "--frames", "x"], "argument --frames: invalid int value: 'x' (see mpd --help)"),
            (["A", "B", "--seeds", "1,x"], "argument --seeds: invalid comma-separated int value: '1,x'"),
            (["A", "B", "--width", "64"], "height: width and height come together"),
            (["A", "B", "--width", "64", "--height", "65"], "height: 65 is no multiple of 2. Send 64 or 66."),
            (["A", "B", "--positions", "0,4,8"], "positions: 3 positions for 2 ends of segments"),
            (["A", "B", "--colour", "red"], "unrecognized arguments: --colour red"),
            (
                ["A", "B", "-o", "a.avi"],
                "-o a.avi: the name has to end in one of .mp4, .webm, .gif, .apng, .webp, .zip",
            ),
            (["A", "B", "-o", "none/a.mp4"], "none/a.mp4: there is no folder none"),
            (["A", "B", "--contact-sheet", "A"], "a.jpg is a keyframe, which it would replace"),
            (["A", "B", "--contact-sheet", "a.pdf"], "--contact-sheet a.pdf: the name has to end in one of .png"),
        ],
    )
    def test_one_line(self, tmp_path: Path, pictures: list[str], arguments: list[str], says: str) -> None:
        named = {"A": pictures[0], "B": pictures[1], "TEXT": __file__}
        done = mpd(tmp_path, *(named.get(argument, argument) for argument in arguments))
        assert done.returncode == 2
        errors = [line for line in done.stderr.splitlines() if line.startswith("mpd: error: ")]
        assert len(errors) == 1
        assert says in errors[0]
        assert "Traceback" not in done.stderr
        assert files(tmp_path) == []


AT_THE_SECOND_FRAME = """
import sys, time
from mpd import __main__ as command

shown = command._Console.writing

def writing(console, path, frames, done):
    shown(console, path, frames, done)
    # Again and again: a signal that comes just before a single long wait would be heard only after it.
    while (path.name, done) == ("b.gif", 2):
        time.sleep(0.02)

command._Console.writing = writing
sys.exit(command.main())
"""
"""The command, which waits there for the signal: a machine's speed must not decide what is interrupted."""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(tmp_path: Path, pictures: list[str], how: signal.Signals) -> None:
    """Interrupted while a GIF is being written, which the progress bar on a terminal tells."""
    ours, theirs = terminal()
    options = ["--frames", "30", "--width", "640", "--height", "480", "-o", "a.mp4", "-o", "b.gif"]
    command = [sys.executable, "-c", AT_THE_SECOND_FRAME, *pictures[:2], *options]
    with subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"writing b.gif 2/30" not in shown:
            shown += os.read(ours, 4096)
        assert len(files(tmp_path)) == 2  # a.mp4 is whole, b.gif half written under another name
        process.send_signal(how)
        shown += the_rest(ours)
    assert process.returncode == 130
    assert shown.endswith(b"mpd: interrupted\r\n")
    assert b"Traceback" not in shown
    assert files(tmp_path) == ["a.mp4"]
    assert shape(tmp_path / "a.mp4")[0] == 30


def test_the_bar_says_where_things_stand(tmp_path: Path, pictures: list[str]) -> None:
    ours, theirs = terminal()
    command = [COMMAND, *pictures, "--frames", "3", "-o", "a.gif"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = the_rest(ours)
    assert process.returncode == 0
    assert b"writing a.gif 5/5 100% |" in shown


def test_help_names_everything(tmp_path: Path) -> None:
    done = mpd(tmp_path, "--help")
    assert done.returncode == 0
    for word in (*METHODS, "--seeds", "--noise-aug-strength", "examples:", "exit status", "inbetween.mp4"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 106


def test_list_of_methods(tmp_path: Path) -> None:
    done = mpd(tmp_path, "--list-methods")
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines()[2:]} == set(METHODS)
