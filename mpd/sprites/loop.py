"""A training loop that can be stopped and resumed: optimiser, averaged weights, learning rate, log, checkpoints.

Knows nothing of what is trained: a stage gives the network and a loss.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

Loss = Callable[[int], Tensor]
Report = Callable[[int, nn.Module], dict[str, float]]


class Loop:
    """Adam with warm-up, cosine decay and clipped gradients, and an exponential average of the weights.

    folder: where `{name}.pt` (the checkpoint) and `log.jsonl` are written.
    steps: how many there are in all. minutes: of training after which the stage ends although it has not taken them
        all; the learning rate follows whichever of the two is further along. Both count over resumed runs.
    half_life: of the averaged weights, in steps, once that many have been taken; a tenth of the steps before.
    """

    def __init__(
        self, folder: Path, name: str, network: nn.Module, *, rate: float, steps: int, minutes: float, half_life: int
    ) -> None:
        self.folder, self.name, self.network = folder, name, network
        self.steps, self.minutes, self.rate, self.half_life = steps, minutes, rate, half_life
        self.averaged = copy.deepcopy(network).requires_grad_(False).eval()
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-3)
        self.step, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / f"{name}.pt"
        if self.checkpoint.exists():
            self._resume()

    @property
    def progress(self) -> float:
        """0 to 1: the part of the budget that is spent, of steps or of minutes."""
        return min(1.0, max(self.step / self.steps, self.seconds / (60 * self.minutes)))

    def run(self, loss: Loss, report: Report, *, every: int) -> nn.Module:
        """Train to the end of the budget; `report` is logged and a checkpoint written `every` so many steps.

        Returns the network with the averaged weights. A loss that is not finite raises FloatingPointError.
        """
        bar = tqdm(total=self.steps, initial=self.step, desc=self.name, mininterval=5, smoothing=0.05)
        recent: list[float] = []
        while self.progress < 1:
            began = time.monotonic()
            recent.append(self._take(loss))
            self.seconds += time.monotonic() - began
            bar.update()
            if self.step % every == 0 or self.progress >= 1:
                mean = sum(recent) / len(recent)
                numbers = {"loss": mean, **report(self.step, self.averaged)}
                self._log(numbers)
                bar.set_postfix({key: f"{value:.4g}" for key, value in numbers.items()})
                recent = []
                self.save()
        bar.close()
        return self.averaged

    def _take(self, loss: Loss) -> float:
        rate = self.rate * min(1.0, (self.step + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * self.progress)) / 2)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        value = loss(self.step)
        if not torch.isfinite(value):
            raise FloatingPointError(f"{self.name}: the loss of step {self.step} is {value.item()}")
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.5 ** (1 / self.half_life), 0.5 ** (10 / self.step))
        with torch.no_grad():
            for average, weight in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                average.lerp_(weight, 1 - keep)
        return float(value.detach())

    def _log(self, numbers: dict[str, float]) -> None:
        line = {"stage": self.name, "step": self.step, "minutes": round(self.seconds / 60, 2)}
        line |= {key: float(f"{value:.5g}") for key, value in numbers.items()}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Write the checkpoint beside itself first, so that a killed run leaves a whole one."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def _resume(self) -> None:
        state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
