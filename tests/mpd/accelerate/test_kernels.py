"""The Triton kernels in Triton's interpreter against float64, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from mpd.svd.accelerate import normalization

SCRIPT = """
import torch
from mpd.svd.accelerate import kernels, normalization
torch.manual_seed(0)
cases = [(2, 300, 64, torch.float32, 3e-6), (1, 2100, 96, torch.float32, 3e-6), (3, 70, 320, torch.float16, 1e-3),
         (1, 1024, 32, torch.bfloat16, 8e-3), (1, 2, 32, torch.float32, 1e-4)]
for number, (samples, rows, channels, dtype, bound) in enumerate(cases):
    for silu in (True, False) if number > 1 else (number == 0,):
        x = (3 * torch.randn(samples, rows, channels) + 50).to(dtype)  # a mean that would swallow the variance
        weight, bias = torch.randn(2, channels).to(dtype)
        got = kernels.group_norm(x, weight, bias, 32, 1e-5, silu)
        exact = torch.nn.functional.group_norm(x.double().transpose(1, 2), 32, weight.double(), bias.double(), 1e-5)
        exact = torch.nn.functional.silu(exact) if silu else exact
        off = float((got.double() - exact.transpose(1, 2)).norm() / exact.norm())
        assert got.dtype == dtype and off < bound, (samples, rows, channels, dtype, silu, off)
        opaque = normalization.fused(x, weight, bias, 32, 1e-5, silu)
        assert torch.equal(opaque, got)
checks = ("test_schema", "test_faketensor")
torch.library.opcheck(normalization.fused, (x, weight, bias, 32, 1e-5, silu), test_utils=checks)
print("equal")
"""


def test_group_norm_and_silu_are_those_of_pytorch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr


def test_the_kernels_are_one_operation_of_a_compiled_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile would have to look into, it could not: Triton's launcher."""
    operations: list[str] = []

    def backend(graph: Any, examples: list[Tensor]) -> Any:
        operations.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return lambda *inputs: (torch.zeros_like(examples[0]),)

    monkeypatch.setattr(normalization, "plain", normalization.fused)
    compiled = torch.compile(normalization.normalize, fullgraph=True, backend=backend)
    compiled(torch.zeros(1, 4, 32), torch.ones(32), torch.zeros(32), 32, 1e-5, True)
    assert [one for one in operations if "built-in" not in one] == ["mpd.group_norm.default"]
