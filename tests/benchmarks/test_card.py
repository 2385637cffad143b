"""The model's benchmarks run at small size, count what they say, and leave results that can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks import approximation, job, memory
from benchmarks.card import counts, decoders, models, results, runs, unets
from mpd.svd.accelerate import compilation
from mpd.svd.model import Model

SMALL = ["--small", "--repeats", "1", "--dtype", "bfloat16", "--frames", "3", "--width", "64", "--height", "64"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.card.clocks.SQUARES", {"cpu": (64,)})
    monkeypatch.setattr("benchmarks.card.clocks.COPIED", {"cpu": 1 << 20})


def found(folder: Path) -> dict[str, Any]:
    [path] = folder.glob("gpu-*.json")
    return dict(json.loads(path.read_text()))


def test_every_form_of_the_unet_is_the_same_network(tmp_path: Path) -> None:
    forms = [name for name in unets.FORMS if name not in unets.COMPILED]
    assert runs.main("unet", None, unets, [*SMALL, "--out", str(tmp_path), "--forms", *forms]) == 0
    section = found(tmp_path)["unet"]
    assert list(section["forms"]) == forms
    for form in section["forms"].values():
        assert 0 < form["error"] < 0.03
        assert form["seconds"] > 0
    attention = {(row["over"], row["backend"]): row for row in section["attention"]}
    assert {over for over, _ in attention} == {"pixels", "frames"}
    assert attention["pixels", "math"]["shape"] == [3, 2, 8 * 8, 16]
    assert attention["frames", "math"]["shape"] == [8 * 8, 2, 3, 16]
    assert attention["pixels", "math"]["seconds"] > 0
    assert attention["pixels", "cudnn"]["seconds"] is None
    assert attention["pixels", "cudnn"]["refused"].startswith("RuntimeError: No ")
    [table] = tmp_path.glob("gpu-*.md")
    assert "| pixels | 3, 2, 64, 16 | not here |" in table.read_text()
    assert all(f"| {name} |" in table.read_text() for name in forms)
    [picture] = tmp_path.glob("gpu-*-roofline.png")
    with Image.open(picture) as image:
        assert image.size == (920, 520)


def test_what_is_compiled_is_measured_twice_in_processes_of_its_own(tmp_path: Path) -> None:
    asked = ["--forms", "together, compiled", "--backend", "eager", "--out", str(tmp_path)]
    assert runs.main("decode", None, decoders, [*SMALL, *asked]) == 0
    form = found(tmp_path)["decode"]["forms"]["together, compiled"]
    assert 0 < form["error"] < 0.03
    assert form["compile_cold"] > 0
    assert form["compile_warm"] > 0


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to:UserWarning")
def test_a_cuda_graph_is_the_same_network_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each of its two processes does, in this one."""
    monkeypatch.setattr(compilation, "keep_in", lambda folder: None)
    monkeypatch.setattr(compilation, "BACKEND", "eager")  # so that it is again what it was
    size = replace(models.SMALL, frames=3, width=64, height=64)
    with torch.inference_mode():
        torch.save(unets.truth(size, torch.device("cpu"), torch.bfloat16), tmp_path / "truth")
    asked = ["--alone", "together, compiled, CUDA graph", "--backend", "eager"]
    files = ["--truth", str(tmp_path / "truth"), "--cache", str(tmp_path / "cache")]
    assert runs.main("unet", None, unets, [*SMALL, *asked, *files]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["error"] < 0.03


def test_every_form_of_the_decoder_is_the_same_and_chunks_are_near(tmp_path: Path) -> None:
    forms = [name for name in decoders.FORMS if name not in decoders.COMPILED]
    assert runs.main("decode", None, decoders, [*SMALL, "--out", str(tmp_path), "--forms", *forms]) == 0
    section = found(tmp_path)["decode"]
    assert all(0 <= form["error"] < 0.03 for form in section["forms"].values())
    assert [row["chunk"] for row in section["chunks"]] == [3, 2, 1]
    assert section["chunks"][0]["mean"] == 0 < section["chunks"][2]["mean"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' scheduler
def test_whole_jobs_are_compared_with_diffusers_and_with_the_floor(tmp_path: Path) -> None:
    names = ["off", "exact", "reference", "pipeline"]
    assert job.main([*SMALL, "--steps", "2", "--out", str(tmp_path), "--names", *names]) == 0
    section = found(tmp_path)["job"]
    rows = {(row["name"], row["method"]): row for row in section["rows"]}
    assert list(rows) == [
        *((name, method) for name in ("off", "exact") for method in ("mpd-vibid", "svd")),
        ("reference", "mpd-vibid"),
        ("pipeline", "svd"),
    ]
    # Of 2 steps one is early, with 3 rounds of MPD more; where σ comes to 0, nothing unconditional is needed.
    assert rows["off", "mpd-vibid"]["evaluations"] == 2 * (3 + 2 + 2) - 2
    assert rows["exact", "mpd-vibid"]["apart"] < 3
    assert all(row["floor"] > 0 and row["seconds"] > 0 for row in section["rows"])
    assert section["previews"]["seconds"] > 0


def test_svd_xt_at_full_size_is_not_for_a_cpu() -> None:
    with pytest.raises(SystemExit, match="no CUDA card"):
        runs.main("unet", None, unets, ["--device", "cpu"])


def test_svd_xt_is_counted_as_it_is_known() -> None:
    counted = counts.count(unets._on_meta(models.FULL, torch.float16, together=False))
    assert counted.operations == pytest.approx(80.0e12, rel=0.002)
    assert counted.eager == pytest.approx(345e9, rel=0.02)
    assert counted.fused == pytest.approx(126e9, rel=0.02)


def test_results_of_all_cards_come_into_the_page(tmp_path: Path) -> None:
    docs, runs = tmp_path / "docs", tmp_path / "runs"
    for folder in (docs / "figures", docs / "pictures", runs):
        folder.mkdir(parents=True)
    page = docs / "performance.md"
    page.write_text("before\n<!-- run: gpu -->\nold\n<!-- end -->\nafter\n<!-- run: x -->\n<!-- end -->\n")
    for card in ("a", "b"):
        (runs / f"gpu-{card}.json").write_text("{}\n")
        (runs / f"gpu-{card}.md").write_text(f"table of {card}\n")
    (runs / "gpu-b-roofline.png").write_bytes(b"png")
    results.publish(runs, docs)
    text = page.read_text()
    assert text.startswith("before\n<!-- run: gpu -->\ntable of a\n\ntable of b\n\n![")
    assert text.endswith("(pictures/gpu-b-roofline.png)\n<!-- end -->\nafter\n<!-- run: x -->\n<!-- end -->\n")
    assert (docs / "figures" / "gpu-a.json").exists()
    assert (docs / "pictures" / "gpu-b-roofline.png").read_bytes() == b"png"


def test_the_memory_plan_is_printed_and_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "performance.md"
    page.write_text("<!-- run: memory -->\n<!-- end -->\n")
    assert memory.main(["--docs", str(tmp_path)]) == 0
    assert "| exact | 74 frames, 1728×976 | 171 frames, 2048×1152 | 241 frames, 2048×1152 |" in page.read_text()
    assert page.read_text().splitlines()[1] in capsys.readouterr().out


def test_what_approximations_lose_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[dict[str, Any]] = []
    monkeypatch.setattr("benchmarks.pages.publish", lambda name, text, figures: published.append(figures))
    asked = ["--clips", "1", "--steps", "6", "--methods", "mpd", "--variants", "fp8", "reuse", "--publish"]
    assert approximation.main(asked) == 0
    [figures] = published
    exact, fp8, reuse = (figures["mpd"][name] for name in ("exact", "fp8", "reuse"))
    assert exact["grey_levels"] == [0, 0, 0]
    assert (exact["reused"], fp8["reused"]) == (0, 0)
    assert 0 < reuse["reused"] < 1
    assert 0 < fp8["grey_levels"][0] < 1
    assert reuse["psnr_to_exact"][0] > 30
    assert "| mpd | **reuse** |" in capsys.readouterr().out


def test_where_features_age_is_told_by_noise_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert approximation.main(["--clips", "1", "--steps", "5", "--methods", "mpd", "--each-step"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("mpd")
    losses = [float(line.split()[1]) for line in lines]
    assert len(losses) == 4
    assert max(losses[1:3]) > 0  # in the middle
    assert losses[3] == pytest.approx(0, abs=0.01)


def test_what_does_not_fit_into_the_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(decoders, "truth", full)
    monkeypatch.setitem(decoders.FORMS, "diffusers", full)
    decode = Model.decode
    monkeypatch.setattr(
        Model, "decode", lambda self, z, chunk=None, bits=8: full() if chunk == 3 else decode(self, z, chunk, bits)
    )
    assert (
        runs.main("decode", None, decoders, [*SMALL, "--out", str(tmp_path), "--forms", "diffusers", "together"]) == 0
    )
    section = found(tmp_path)["decode"]
    assert section["forms"]["diffusers"] == {"out_of_memory": True}
    assert section["forms"]["together"]["error"] is None
    assert [row["chunk"] for row in section["chunks"]] == [2, 1]
    monkeypatch.setattr("benchmarks.card.jobs.pipeline", full)
    assert job.main([*SMALL, "--steps", "1", "--out", str(tmp_path), "--names", "pipeline"]) == 0
    assert found(tmp_path)["job"]["rows"] == [{"name": "pipeline", "method": "svd", "out_of_memory": True}]
    [table] = tmp_path.glob("gpu-*.md")
    assert table.read_text().count("out of memory") == 2
