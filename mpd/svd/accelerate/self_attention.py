"""Self-attention with one product for query, key and value, over pixels or over frames, without moving the tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_ROWS = 65_535
"""Sequences that scaled_dot_product_attention takes at once on CUDA: a limit of its grid."""


class SelfAttention(nn.Module):
    """diffusers' `Attention` of tokens to themselves: the three projections side by side, the output's shared."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        parts = (attention.to_q, attention.to_k, attention.to_v)
        if any(part.bias is not None for part in parts) or attention.residual_connection:
            raise ValueError(f"not SVD's self-attention: {attention}")
        self.heads = attention.heads
        weight = torch.cat([part.weight for part in parts])
        self.to_qkv = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
        self.to_qkv.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.to_out = attention.to_out[0]

    def forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        """Let each of S sequences (S, L, C) look at itself, as diffusers' blocks ask for it."""
        query, key, value = self._project(hidden_states).permute(2, 0, 3, 1, 4)  # each (S, heads, L, d)
        return self._output(attend(query, key, value).transpose(1, 2))

    def over_pixels(self, x: Tensor) -> Tensor:
        """Let the tokens of a frame look at each other. x: (B, N, M, C) tokens of M pixels."""
        return self.forward(x.flatten(0, 1)).view(x.shape)

    def over_frames(self, x: Tensor) -> Tensor:
        """Let the N tokens of a pixel look at each other. x: (B, N, M, C)."""
        videos, _, pixels, _ = x.shape
        sequences = self._project(x).permute(3, 0, 2, 4, 1, 5)  # (3, B, M, heads, N, d)
        query, key, value = sequences.flatten(1, 2)  # no copy where B is 1
        result = attend(query, key, value)
        result = result.view(videos, pixels, *result.shape[1:])  # (B, M, heads, N, d)
        return self._output(result.permute(0, 3, 1, 2, 4))

    def _project(self, x: Tensor) -> Tensor:
        projected: Tensor = self.to_qkv(x)
        return projected.view(*x.shape[:-1], 3, self.heads, -1)

    def _output(self, x: Tensor) -> Tensor:
        """Project the heads' results, x: (…, heads, d), to channels."""
        result: Tensor = self.to_out(x.flatten(-2))
        return result


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute scaled_dot_product_attention of any number of sequences. All (S, heads, L, d)."""
    if len(query) <= MOST_ROWS:
        return F.scaled_dot_product_attention(query, key, value)
    parts = zip(*(torch.split(each, MOST_ROWS) for each in (query, key, value)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*part) for part in parts])


def rewrite(root: nn.Module) -> int:
    """Replace the self-attention of every transformer block below `root`; returns how many there were."""
    from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock

    blocks = [
        module for module in root.modules() if isinstance(module, BasicTransformerBlock | TemporalBasicTransformerBlock)
    ]
    for block in blocks:
        block.attn1 = SelfAttention(block.attn1)
    return len(blocks)
