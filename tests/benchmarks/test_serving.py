"""Both commands that measure the service, at the smallest size: real processes, no peers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import pages
from benchmarks.scale.__main__ import main as scale
from benchmarks.serving.__main__ import main as serving


def test_the_service_is_measured_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "serving.json"
    size = ["--rounds", "1", "--shape", "2x64x64", "--alone", "3", "--seconds", "0.5", "--gaps", "2"]
    assert serving([*size, "--connections", "2", "--json", str(report)]) == 0
    ours = json.loads(report.read_text())["shapes"]["2x64x64"]["inbetween"]
    assert all(ours[name]["per_second"] > 0 for name in ("submissions", "polls", "results"))
    assert ours["overhead"]["p50_ms"] > 0
    assert ours["gaps"]["p50_ms"] >= 0
    assert "| inbetween |" in capsys.readouterr().out


def test_workers_and_queues_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "scale.json"
    workers = ["--workers", "1", "--generation", "0.1", "--each", "2"]
    assert scale([*workers, "--depths", "0", "10", "--times", "3", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["workers"][0]["jobs"] == 2
    assert found["workers"][0]["redis_commands_each"] > 10
    assert [one["queued"] for one in found["queues"]] == [0, 10]
    assert found["queues"][1]["sweep_seconds"] < 2
    assert "| 10 |" in capsys.readouterr().out


def test_a_run_takes_its_place_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- run: one -->\nold\n<!-- end -->\nbetween\n<!-- run: two -->\nstays\n<!-- end -->\n")
    pages.publish("one", r"new \1" + "\n", {"figure": 1}, tmp_path)
    assert r"<!-- run: one -->" + "\n" + r"new \1" + "\n<!-- end -->\nbetween\n" in page.read_text()
    assert "stays" in page.read_text()
    assert json.loads((tmp_path / "figures" / "one.json").read_text()) == {"figure": 1}
