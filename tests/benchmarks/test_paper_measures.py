"""The paper's measures: the programs around their tools, with small stand-ins of the same interface."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.clips.__main__ import main
from benchmarks.clips.paper import table1, tools
from mpd.progress import Pictures

STAND_INS = {
    "lpips/__init__.py": """
import torch
class LPIPS(torch.nn.Module):
    def __init__(self, net="alex"):
        super().__init__()
        print("Setting up [LPIPS] perceptual loss: trunk", net)
        assert net in ("alex", "vgg", "squeeze")
    def forward(self, in0, in1):
        assert in0.min() >= -1 and in0.max() <= 1 and in0.shape == in1.shape and in0.shape[:2] == (1, 3)
        return (in0 - in1).abs().mean().reshape(1, 1, 1, 1)
""",
    "pytorch_fid/__init__.py": "",
    "pytorch_fid/fid_score.py": """
import pathlib
import numpy as np
from PIL import Image
def calculate_fid_given_paths(paths, batch_size, device, dims, num_workers=1):
    def mean(path):
        files = sorted(pathlib.Path(path).glob("*.png"))
        print(len(files), "files")
        return np.mean([np.asarray(Image.open(file), float).mean((0, 1)) for file in files], 0)
    return float(((mean(paths[0]) - mean(paths[1])) ** 2).sum())
""",
    "cdfvd/__init__.py": "",
    "cdfvd/fvd.py": """
import numpy as np
class cdfvd:
    def __init__(self, model="i3d", n_real="full", n_fake=2048, ckpt_path=None, device="cuda"):
        assert (model, n_real, n_fake) == ("i3d", "full", "full")
        self.real, self.fake, self.ckpt_path = [], [], ckpt_path
    def add_real_stats(self, videos):
        assert videos.dtype == np.uint8 and videos.ndim == 5 and videos.shape[-1] == 3
        self.real.append(videos.mean())
    def add_fake_stats(self, videos):
        self.fake.append(videos.mean())
    def compute_fvd_from_stats(self):
        return np.float64(np.abs(np.mean(self.real) - np.mean(self.fake)))
""",
    "vbench/__init__.py": """
import json, os, pathlib
class VBench:
    def __init__(self, device, full_info_dir, output_path):
        self.output_path = output_path
    def evaluate(self, videos_path, name, dimension_list=None, mode="vbench_standard", **kwargs):
        assert mode == "custom_input"
        films = sorted(pathlib.Path(videos_path).glob("*.mp4"))
        assert films and all(film.stat().st_size for film in films)
        scores = {one: [80.0 if one == "imaging_quality" else 0.6, []] for one in dimension_list}
        pathlib.Path(self.output_path, name + "_eval_results.json").write_text(json.dumps(scores))
""",
    "vbench2_beta_i2v/__init__.py": "",
    "vbench2_beta_i2v/i2v_subject.py": """
import cv2, numpy as np
def i2v_subject(model, video_pair_list, device):
    scores = []
    for image, video in video_pair_list:
        there, first = cv2.VideoCapture(video).read()
        still = cv2.imread(image)
        scores.append(1 - float(np.abs(first[: still.shape[0], : still.shape[1]].astype(float) - still).mean()) / 255)
    return np.mean(scores), []
""",
    "vbench2_beta_i2v/i2v_background.py": "from vbench2_beta_i2v.i2v_subject import i2v_subject as i2v_background\n",
    "dreamsim/__init__.py": """
import torch
torch.hub.load = lambda *names, **more: torch.nn.Identity()
def dreamsim(pretrained=True, device="cuda"):
    return None, None
""",
}
"""What of each tool the programs use."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python whose packages are the stand-ins, as an environment of a tool's own would be."""
    home = tmp_path_factory.mktemp("tools")
    for name, text in STAND_INS.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    script = home / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{home}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def frame(number: int) -> Pictures:
    picture = np.full((48, 64, 3), 60, np.uint8)
    picture[10:30, number : 20 + number] = (200, 80, 40)
    return picture


def written(folder: Path, window: str, numbers: list[int], first: int = 1) -> None:
    (folder / window).mkdir(parents=True, exist_ok=True)
    for place, number in enumerate(numbers, first):
        cv2.imwrite(str(folder / window / f"{place}.png"), frame(number)[..., ::-1])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The truth, a row that is nearly it, and one that is far from it, of two windows."""
    truth, near, far = (tmp_path / name for name in ("truth", "near", "far"))
    for window, start in (("a", 0), ("b", 9)):
        steps = list(range(start, start + 10, 2))
        written(truth, window, steps, first=0)
        written(near, window, steps[1:-1])
        written(far, window, [40, 40, 40])
    return truth, near, far


@pytest.mark.parametrize(("tool", "best"), [("lpips", {"LPIPS": 0.0}), ("fid", {"FID": 0.0}), ("fvd", {"FVD": 0.0})])
def test_what_is_the_truth_is_at_no_distance(
    tool: str, best: dict[str, float], python: str, folders: tuple[Path, Path, Path]
) -> None:
    truth, near, far = folders
    assert tools.measure(tool, python, near, truth) == pytest.approx(best, abs=1e-9)
    cv2.imwrite(str(far / "a" / "2.png"), np.zeros((48, 64, 3), np.uint8))
    assert all(value > 0.01 for value in tools.measure(tool, python, far, truth).values())


@pytest.mark.needs("ffmpeg")
def test_vbench_is_a_mean_and_its_image_to_video_part_sees_both_keyframes(
    python: str, folders: tuple[Path, Path, Path]
) -> None:
    truth, near, _ = folders
    found = tools.measure("vbench", python, near, truth)
    assert found["VBench"] == pytest.approx((5 * 0.6 + 0.8) / 6)
    assert found["VBench++"] > 0.99
    for window in ("a", "b"):  # ends of its own, the last of them wrong
        cv2.imwrite(str(near / window / "0.png"), cv2.imread(str(truth / window / "0.png")))
        cv2.imwrite(str(near / window / "4.png"), np.zeros((48, 64, 3), np.uint8))
    worse = tools.measure("vbench", python, near, truth)
    assert 0.5 < worse["VBench++"] < 0.95, "the start fits as before, the end does not"
    fewer = tools.measure("vbench", python, near, truth, ("--dimensions", "imaging_quality"))
    assert fewer["VBench"] == pytest.approx(0.8)


def test_a_tool_that_is_not_there_is_named(folders: tuple[Path, Path, Path]) -> None:
    truth, near, _ = folders
    with pytest.raises(tools.ToolError, match=r"lpips: .*No module named 'lpips'"):
        tools.measure("lpips", sys.executable, near, truth)
    with pytest.raises(tools.ToolError, match="fid: /nowhere/python: No such file"):
        tools.measure("fid", "/nowhere/python", near, truth)


def test_frames_that_are_missing_are_named(python: str, folders: tuple[Path, Path, Path]) -> None:
    truth, near, _ = folders
    (near / "b" / "3.png").unlink()
    with pytest.raises(tools.ToolError, match="near/b: not all of 3 frames"):
        tools.measure("lpips", python, near, truth)
    with pytest.raises(tools.ToolError, match="no window of"):
        tools.measure("lpips", python, near / "a", truth)


@pytest.mark.parametrize("tool", tools.MEASURES)
def test_every_program_says_what_it_measures(tool: str, capfd: pytest.CaptureFixture[str]) -> None:
    program = f"benchmarks.clips.paper.programs.measure_{tool}"
    told = subprocess.run([sys.executable, "-m", program, "--help"], capture_output=True, text=True, check=True).stdout
    for name in tools.MEASURES[tool]:
        assert name in told
    assert "The paper" in " ".join(told.split()) or "the paper" in told, "what it left open"


@pytest.mark.needs("ffmpeg")
def test_the_table_of_the_paper_by_one_command(python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, first in (("davis", 0), ("pexels", 12)):
        clip = tmp_path / name
        written(tmp_path, name, list(range(first, first + 12)), first=0)
        for path in sorted(clip.iterdir()):
            path.rename(clip / f"{int(path.stem):04d}.png")
        (tmp_path / f"{name}.csv").write_text(f"clip,start,apart\n{name},2,8\n")
    theirs = tmp_path / "gi"
    written(theirs, "davis-00002-8", [2] * 7)
    out = tmp_path / "paper.json"
    with_tools = [word for tool in tools.MEASURES for word in ("--tool", f"{tool}={python}")]
    sets = ["--table", str(tmp_path / "davis.csv"), str(tmp_path / "pexels.csv")]
    made = ["--rows", "dissolve", "--elsewhere", str(theirs), "-o", str(out)]
    assert main(["paper", *sets, *made, *with_tools]) == 0
    told = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert set(found["DAVIS"]) == {"dissolve", "gi"}
    assert set(found["Pexels"]) == {"dissolve"}, "whose frames lie elsewhere of one set alone"
    assert all(set(values) == set(table1.COLUMNS) for rows in found.values() for values in rows.values())
    lines = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in told.splitlines() if "|" in line}
    assert lines["MPD + TRF"][0].strip() == "– · 0.2212"
    assert lines["FCVG"][9].strip() == "– · 0.9701"
    assert lines["GI"][0].strip() == f"{found['DAVIS']['gi']['LPIPS']:.4f} · 0.2432"
    assert lines["GI"][5].strip() == "– · –"
    assert re.fullmatch(r"\d\.\d{4} · –", lines["`dissolve`"][5].strip())


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """The words that name two sets: of two windows, and of one."""
    for name, starts in (("davis", (0, 2)), ("pexels", (1,))):
        written(tmp_path, name, list(range(8)), first=0)
        rows = "".join(f"{name},{start},4\n" for start in starts)
        (tmp_path / f"{name}.csv").write_text(f"clip,start,apart\n{rows}")
    return ["--table", str(tmp_path / "davis.csv"), str(tmp_path / "pexels.csv")]


def test_a_row_that_lacks_windows_of_a_set_is_named(
    sets: list[str], python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "gi"
    written(theirs, "davis-00002-4", [3, 4, 5])
    command = ["paper", *sets, "--elsewhere", str(theirs), "--tool", f"fid={python}"]
    assert main([*command, "--rows", "hold"]) == 2
    told = capsys.readouterr()
    assert "DAVIS: 'gi' lacks 1 of 2 windows that other rows have, such as davis-00000-4: bring" in told.err
    assert "fid of" not in told.err, "nothing is measured before"
    assert main([*command, "--rows", "gi"]) == 0
    assert "\nWindows measured: DAVIS 1 of 2, Pexels 0 of 1.\n" in capsys.readouterr().out
    written(theirs, "davis-00000-4", [1, 2, 3])
    assert main([*command, "--rows", "hold"]) == 0, "no window of a set is none of it"
    assert "\nWindows measured: DAVIS 2 of 2, Pexels 1 of 1.\n" in capsys.readouterr().out


def test_windows_of_an_earlier_run_are_not_measured_with_others(
    sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["paper", *sets, "--rows", "hold", "--frames", str(tmp_path / "frames")]
    assert main(command) == 0
    (tmp_path / "davis.csv").write_text("clip,start,apart\ndavis,2,4\n")
    assert main(command) == 2
    assert "DAVIS/hold: 1 windows that are not of this run, such as davis-00000-4" in capsys.readouterr().err


def test_a_tool_that_nobody_knows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["paper", "--table", "a", "b", "--tool", "psnr=python"])
    assert "with a tool of lpips, fid, fvd, vbench" in capsys.readouterr().err
