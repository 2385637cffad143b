"""Cross-attention to one token. A softmax over one key is 1: whatever the query, the result is `to_out(to_v(token))`.

SVD's UNet attends to the image's embedding alone, so each of these layers adds a constant of the image.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class OneToken(nn.Module):
    """diffusers' `Attention` to a single token; its weights are shared."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.to_v, self.to_out = attention.to_v, attention.to_out[0]

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        """Attend to the image as diffusers' blocks ask for it, the same for all tokens.

        encoder_hidden_states: (S, 1, D), to (S, 1, C).
        """
        if encoder_hidden_states.shape[1] != 1:
            raise ValueError(f"attention to one token was asked for {encoder_hidden_states.shape[1]}")
        return self.constant(encoder_hidden_states)

    def constant(self, embedding: Tensor) -> Tensor:
        """Compute what the attention to an image adds. embedding: (…, D), to (…, C)."""
        result: Tensor = self.to_out(self.to_v(embedding))
        return result


def rewrite(root: nn.Module) -> int:
    """Replace the cross-attention of every transformer block below `root`; returns how many there were."""
    from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock

    blocks = [
        module for module in root.modules() if isinstance(module, BasicTransformerBlock | TemporalBasicTransformerBlock)
    ]
    for block in blocks:
        block.attn2 = OneToken(block.attn2)
        block.norm2 = nn.Identity()  # what it normalised was the query
    return len(blocks)
