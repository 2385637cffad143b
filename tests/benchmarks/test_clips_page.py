"""docs/clips.md: its commands, on small clips in the places of those that it names."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.clips.__main__ import main
from benchmarks.clips.rows import ROWS
from tests.benchmarks.test_paper_measures import python

PAGE = Path(__file__).parents[2] / "docs" / "clips.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)

__all__ = ["python"]


def clip(path: Path, frames: int) -> None:
    path.parent.mkdir(exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 7, (96, 64))
    for number in range(frames):
        picture = np.full((64, 96, 3), 60, np.uint8)
        picture[20:40, 8 + number % 60 : 28 + number % 60] = (40, 80, 200)
        writer.write(picture)
    writer.release()


@pytest.mark.timeout(900)
def test_its_commands_run(
    tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    clip(Path("clips/box.mp4"), 40)
    clip(Path("clips/bikes.mp4"), 244)
    for name in ("davis", "pexels"):
        clip(Path(f"clips/{name}.mp4"), 20)
    Path("windows").mkdir()
    for name in ("davis", "pexels"):
        Path(f"windows/{name}.csv").write_text(f"clip,start,apart\n../clips/{name}.mp4,2,8\n")
    Path("tools").mkdir()
    Path("tools/python").symlink_to(python)
    Path("theirs/gi").mkdir(parents=True)
    lines = [line for block in BLOCKS for line in block.splitlines()]
    assert {shlex.split(line)[3] for line in lines} == {"cut", "run", "table", "speed", "sheet", "paper"}
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "benchmarks.clips"]
        small = {"run": ["--rows", "truth,dissolve,rife"], "speed": ["--frames", "3", "--size", "64x48"]}.get(
            words[3], []
        )
        fewer = ["1" if word == "48" else word for word in words[3:]]
        assert main([*fewer, *small]) == 0, (line, capsys.readouterr().err)
        if words[3] == "cut":
            head, *windows = Path(words[-1]).read_text().splitlines(keepends=True)
            assert windows
            Path(words[-1]).write_text(head + windows[0])
    told = capsys.readouterr().out
    assert "**24 apart**" in told
    assert "**drawings**: 1 windows" in told
    assert "| MPD + TRF | – · 0.2212" in told
    assert Path("worst.png").stat().st_size > 1000


def test_it_names_every_row_and_every_measure() -> None:
    page = PAGE.read_text()
    for row in (*ROWS, "truth", "film"):
        assert f"`{row}`" in page, row
    for measure in ("PSNR", "SSIM", "torn", "distance", "Fréchet", "VMAF", "keyframes", "warping error", "smoothness"):
        assert re.search(rf"^\| [^|]*{measure}", page, re.M), measure


def test_tables_go_into_the_page_and_figures_beside_it(tmp_path: Path) -> None:
    measured, page = tmp_path / "m.jsonl", tmp_path / "clips.md"
    measured.write_text(
        '{"kind": "k", "window": "w", "row": "dissolve", "psnr": 20.0, "ssim": 0.5, "disturbed": 0.0}\n'
    )
    page.write_text("before\n<!-- run: clips -->\nold\n<!-- end -->\n<!-- run: clips-speed --><!-- end -->\nafter\n")
    assert main(["table", str(measured), "--publish", "--docs", str(tmp_path)]) == 0
    assert main(["speed", "--frames", "3", "--size", "64x48", "--publish", "--docs", str(tmp_path)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| `dissolve` | 20.00 |" in text
    assert re.search(
        r"3 frames of 64×48 on .*cores.*\n\n.*\n.*\n\| `flow` \| \d+\.\d \| \d+\.\d \|\n\| `rife` \|", text
    )
    beside = json.loads((tmp_path / "figures" / "clips.json").read_text())
    assert beside == {"k": {"w": {"dissolve": {"psnr": 20.0, "ssim": 0.5, "disturbed": 0.0}}}}
