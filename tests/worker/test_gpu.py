"""What is published of a GPU, and that nothing is where there is none."""

from __future__ import annotations

import pytest
import structlog
import torch

from worker.engine.gpu import Gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver to ask")
def test_without_a_driver_there_are_no_figures_and_one_line_says_so() -> None:
    with structlog.testing.capture_logs() as lines:
        gpu = Gpu("00000000-0000-0000-0000-000000000000")
        assert gpu.figures() == gpu.figures() == {}
    assert [line["log_level"] for line in lines] == ["warning"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_says_what_is_in_use() -> None:
    gpu = Gpu(str(torch.cuda.get_device_properties(0).uuid))
    before = gpu.figures()
    kept = torch.ones(256 << 20, dtype=torch.uint8, device="cuda:0")
    after = gpu.figures()
    assert after["gpu_memory_used"] - before["gpu_memory_used"] >= kept.nbytes
    assert after["gpu_memory_total"] >= torch.cuda.get_device_properties(0).total_memory
    assert 0 <= after["gpu_utilization"] <= 1
