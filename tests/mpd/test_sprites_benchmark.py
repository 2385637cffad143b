"""The sprite benchmark: runs every method, goes on where it stopped, and says what differs from what."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mpd.sprites
from mpd.model import load
from mpd.sprites import world


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "sprites.py"
    spec = importlib.util.spec_from_file_location("benchmark_sprites", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_method_is_judged_and_a_stopped_run_goes_on(benchmark: ModuleType, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model, variants = load(mpd.sprites.PATH), ["truth", *benchmark.VARIANTS]
    seeds, log = world.seeds("development", 2), tmp_path / "clips.jsonl"
    benchmark.run(model, log, seeds[:1], 2, variants)
    rows = benchmark.run(model, log, seeds, 2, ["truth", "flow"])
    assert len(rows) == 4
    assert len(log.read_text().splitlines()) == len(variants) + 2
    table = benchmark.summary(benchmark.read(log)[: len(variants)], variants)
    assert {f"{a} − {b}" for a, b in benchmark.CLAIMS} <= table.keys()
    assert table["truth"]["psnr"][0] > 27
    text = "\n".join(benchmark.markdown(table, 1, 2))
    assert all(name in text for name in variants)
    json.dumps(table)


def test_differences_are_taken_clip_by_clip(benchmark: ModuleType) -> None:
    def row(variant: str, seed: int, psnr: float) -> object:
        judged = benchmark.Judged(psnr, 1, 1, 1, 1, 0, 0, 1, 0)
        return benchmark.Row(variant, seed, 0.1, judged)

    rows = [row("vibid", seed, 10.0 * seed) for seed in range(6)]
    rows += [row("mpd-vibid", seed, 10.0 * seed + 1) for seed in range(6)]
    table = benchmark.summary(rows, ["vibid", "mpd-vibid"])
    assert table["mpd-vibid − vibid"]["psnr"] == pytest.approx((1, 1, 1))
    assert table["vibid"]["psnr"][2] - table["vibid"]["psnr"][1] > 10
