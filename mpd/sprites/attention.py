"""Attention as plain matrix products, for training on a CPU. The same function as diffusers' own processors.

Over 12 frames or 64 latents torch's fused kernel for CPUs takes several times longer backwards than two products. And
where the context is one token, as SVD's image embedding is, every query gets that token whatever it asks.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


class PlainAttention:
    """A processor for `unet.set_attn_processor`. Knows no masks and no normalisation, which SVD's UNet does not use."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        if attention_mask is not None:
            raise ValueError("SVD's attention takes no mask")
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        value = attn.to_v(context)  # (B, M, C)
        if context.shape[1] == 1:
            only: Tensor = attn.to_out[0](value).expand(-1, hidden_states.shape[1], -1)
            return only
        query, key, value = (_heads(part, attn.heads) for part in (attn.to_q(hidden_states), attn.to_k(context), value))
        weights = ((query * attn.scale) @ key.transpose(-1, -2)).softmax(-1).to(value.dtype)
        mixed: Tensor = attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2))
        return mixed


def _heads(x: Tensor, heads: int) -> Tensor:
    """Split tokens (B, N, C) into heads (B, heads, N, C / heads)."""
    return x.view(len(x), x.shape[1], heads, -1).transpose(1, 2)
