"""Several clips at once through one UNet: what threads ask of it at the same time is answered as one batch.

On a CPU a batch of sixteen small clips costs a third of sixteen clips one by one. Every clip is sampled as if it were
alone, in a thread of its own; only the UNet is shared. Knows nothing of samplers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class _Call:
    """One thread's question, and its answer once there is one."""

    def __init__(self, sample: Tensor, timestep: Tensor, embedding: Tensor, time_ids: Tensor) -> None:
        self.sample, self.timestep, self.embedding, self.time_ids = sample, timestep, embedding, time_ids
        self.thread = threading.get_ident()
        self.answer: Tensor | None = None
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.answer is not None or self.error is not None


class Abreast:
    """A UNet for threads that are members: a call waits until every member waits, then all go as one batch.

    bf16: products in bfloat16.
    """

    def __init__(self, unet: Any, bf16: bool) -> None:
        self._unet, self._bf16 = unet, bf16
        self._change = threading.Condition()
        self._members = 0
        self._waiting: list[_Call] = []
        self._debts: dict[int, float] = {}

    @contextmanager
    def member(self) -> Iterator[None]:
        """Join for the length of the block. Only members may call; one that has left is not waited for."""
        with self._change:
            self._members += 1
            self._debts[threading.get_ident()] = 0.0
        try:
            yield
        finally:
            with self._change:
                self._members -= 1
                self._answer_if_all_wait()

    def seconds(self) -> float:
        """Count the calling member's CPU seconds so far, its share of every batch included and no more than that."""
        return time.thread_time() + self._debts[threading.get_ident()]

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        *,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Evaluate as diffusers' `UNetSpatioTemporalConditionModel` does; sample: (1, N, 2C, h, w)."""
        call = _Call(sample, timestep, encoder_hidden_states, added_time_ids)
        with self._change:
            self._waiting.append(call)
            self._answer_if_all_wait()
            self._change.wait_for(lambda: call.is_done)
        if call.answer is None:
            raise RuntimeError("the batch that this clip was part of failed") from call.error
        return (call.answer,)

    def _answer_if_all_wait(self) -> None:
        if not self._waiting or len(self._waiting) < self._members:
            return
        calls, self._waiting = self._waiting, []
        began = time.thread_time()
        try:
            for call, answer in zip(calls, self._answers(calls), strict=True):
                call.answer = answer
        except Exception as error:  # noqa: BLE001  every thread of the batch raises it
            for call in calls:
                call.error = error
        seconds = time.thread_time() - began
        self._debts[threading.get_ident()] -= seconds
        for call in calls:
            self._debts[call.thread] += seconds / len(calls)
        self._change.notify_all()

    @torch.inference_mode()
    def _answers(self, calls: Sequence[_Call]) -> Sequence[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            answers: Tensor = self._unet(
                torch.cat([call.sample for call in calls]),
                torch.stack([call.timestep for call in calls]),
                encoder_hidden_states=torch.cat([call.embedding for call in calls]),
                added_time_ids=torch.cat([call.time_ids for call in calls]),
                return_dict=False,
            )[0]
        return torch.split(answers.float(), 1)
