"""Operations and bytes of a call, counted on torch's meta device, where nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = ("linear", "mm", "conv", "attention")
"""What the matrix units do. Fused, everything else happens on the way to or from one of these."""


@dataclass(frozen=True)
class Counted:
    """What an evaluation takes, without running it."""

    #: Of products alone, two for a multiplication with its addition.
    operations: int
    #: Bytes read and written by all operations, one by one.
    eager: int
    #: Bytes read and written by the products alone.
    fused: int


def count(call: Callable[[], object]) -> Counted:
    """Count the operations and bytes of a call. call: on meta tensors alone."""
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        call()
    traffic = _Traffic()
    with torch.inference_mode(), traffic:
        call()
    return Counted(flops.get_total_flops(), traffic.eager, traffic.fused)


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes that operations read and write, of those that are no views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.eager = self.fused = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given, results = _tensors((args, kwargs)), _tensors(made)
        there = {tensor.untyped_storage()._cdata for tensor in given}
        new = [tensor for tensor in results if tensor.untyped_storage()._cdata not in there]
        if new:
            moved = sum(tensor.numel() * tensor.element_size() for tensor in [*given, *new])
            self.eager += moved
            if any(kind in str(function) for kind in PRODUCTS):
                self.fused += moved
        return made


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
