"""torch.compile for the shapes that a worker was warmed up with.

Other shapes run uncompiled: minutes of compiling have no place in the middle of a job.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BACKEND: str | Callable[..., Any] = "inductor"


class Compiled:
    """A function of tensors, compiled whole for each shape of its first argument that it saw within `warming_up`."""

    def __init__(
        self,
        function: Callable[..., Any],
        backend: str | Callable[..., Any] | None = None,
        mode: str | None = None,
    ) -> None:
        """Prepare to compile a function for the shapes seen within `warming_up`. mode: of torch.compile."""
        self._plain = function
        self._compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=backend or BACKEND, mode=mode)
        self._shapes: set[tuple[int, ...]] = set()
        self._warming = False

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        self._warming = True
        try:
            yield
        finally:
            self._warming = False

    def __call__(self, first: Tensor, *others: Any, **named: Any) -> Any:
        shape = tuple(first.shape)
        if self._warming:
            self._shapes.add(shape)
        return (self._compiled if shape in self._shapes else self._plain)(first, *others, **named)


def keep_in(folder: Path) -> None:
    """Keep compiled code in a folder, so that a worker's next start finds it. To be called before the first compile."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
