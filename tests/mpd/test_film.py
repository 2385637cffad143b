"""`film`: any TorchScript interpolator, from the nearest middle outwards."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mpd
from mpd import film
from mpd.film import Film
from mpd.progress import Pictures, Progress, Take
from mpd.rife.weights import WeightsError


class Dissolve(torch.nn.Module):
    """Mixes two pictures, and leaves a mark of each t that it was asked for in the first row."""

    def forward(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        assert x0.shape[2] % 64 == 0
        assert x0.shape[3] % 64 == 0
        share = t[:, :, None, None]
        mixed = x0 * (1 - share) + x1 * share
        mixed[:, :, 0] = share[:, :, 0]
        return mixed


class Halved(torch.nn.Module):
    def forward(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return x0[:, :, ::2]


class Alone(torch.nn.Module):
    def forward(self, x0: Tensor) -> Tensor:
        return x0


def saved(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(module).save(path)  # type: ignore[no-untyped-call]
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Dissolve(), tmp_path_factory.mktemp("film") / "dissolve.pt")


@pytest.fixture(scope="module")
def dissolve(path: Path) -> Film:
    return Film(path, "cpu")


def plain(*levels: int) -> Pictures:
    return np.full((40, 70, len(levels)), levels, np.uint8)


def test_frames_dissolve_and_the_middle_is_made_first(dissolve: Film) -> None:
    settings = mpd.Settings(method="film", frames=9)
    *steps, take = film.generate(dissolve, [plain(0, 0, 0), plain(240, 80, 0)], settings)
    assert isinstance(take, Take)
    assert [step.step for step in steps if isinstance(step, Progress)] == list(range(1, 10))
    assert [tuple(frame[20, 30]) for frame in take.frames] == [(30 * n, 10 * n, 0) for n in range(9)]
    asked = take.frames[1:-1, 0, 0, 0] / 255
    assert asked.round(2).tolist() == [0.5] * 7, "each frame was half-way between two that were there"


def test_other_numbers_of_frames_ask_for_what_is_left(dissolve: Film) -> None:
    *_, take = film.generate(dissolve, [plain(0, 0, 0), plain(240, 80, 0)], mpd.Settings(method="film", frames=4))
    assert isinstance(take, Take)
    assert [frame[20, 30, 0] for frame in take.frames] == [0, 80, 160, 240]
    assert (take.frames[1:-1, 0, 0, 0] / 255).round(2).tolist() == [0.33, 0.5]


def test_mattes_and_16_bits_pass(dissolve: Film) -> None:
    settings = mpd.Settings(method="film", frames=3)
    *_, take = film.generate(dissolve, [plain(9, 9, 9, 0), plain(9, 9, 10, 255)], settings, 16)
    assert isinstance(take, Take)
    assert take.matte is not None
    assert take.frames.dtype == np.uint16
    assert (take.frames[1, 20, 30, 2], take.matte[1, 20, 30]) == (round(9.5 * 257), round(127.5 * 257))


def test_what_is_no_interpolator_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no module")
    cases = {
        tmp_path / "none.pt": "there is no such file",
        tmp_path / "text.pt": "is no TorchScript: ",
        saved(Alone(), tmp_path / "alone.pt"): r"is no f\(x0, x1, t\) of pictures: ",
        saved(Halved(), tmp_path / "halved.pt"): r"gives \(1, 3, 32, 64\) for pictures of \(1, 3, 64, 64\)",
    }
    for path, words in cases.items():
        with pytest.raises(WeightsError, match=f"{path.name}: {words}") as refused:
            Film(path, "cpu")
        assert "\n" not in str(refused.value)


def test_each_method_wants_its_own_network(dissolve: Film) -> None:
    pictures = [plain(0, 0, 0), plain(240, 80, 0)]
    *_, take = mpd.inbetween(None, pictures, mpd.Settings(method="film", frames=3), interpolator=dissolve)
    assert isinstance(take, Take)
    assert take.frames[1, 20, 30, 0] == 120
    for method, given in (("film", None), ("rife", dissolve)):
        with pytest.raises(mpd.SettingsError):
            mpd.inbetween(None, pictures, mpd.Settings(method=method), interpolator=given)


def test_the_command_takes_a_file(path: Path, tmp_path: Path) -> None:
    for name, level in (("a.png", 0), ("b.png", 200)):
        Image.new("RGB", (64, 48), (level, level, level)).save(tmp_path / name)
    command = [str(Path(sys.executable).with_name("mpd")), "a.png", "b.png", "--method", "film", "--frames", "3"]
    without = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (without.returncode, "mpd: error: film needs --film FILE" in without.stderr) == (2, True)
    done = subprocess.run([*command, "--film", path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "dissolve on cpu, licence not known" in done.stderr
    assert "3 frames, 64x48" in done.stdout
