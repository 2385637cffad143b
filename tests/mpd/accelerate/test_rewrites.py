"""Every exact rewrite against the untouched diffusers module: to 1e-5 in float32, to its own error in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mpd.svd.accelerate import (
    blending,
    cross_attention,
    decoder,
    normalization,
    self_attention,
    temporal_convolution,
)
from mpd.svd.accelerate.unet import UNet
from tests.mpd.accelerate.conftest import FRAMES, asked, error

BF16 = torch.bfloat16
SHAPES = [(1, 8, 8), (2, 8, 12), (4, 4, 8), (1, 7, 9)]
"""Batch, height, width; the last has no even sides."""

REWRITES: dict[str, Callable[[nn.Module], int]] = {
    "temporal_convolution": temporal_convolution.rewrite,
    "self_attention": self_attention.rewrite,
    "cross_attention": cross_attention.rewrite,
    "blending": blending.rewrite,
    "normalization": normalization.rewrite,
}


@torch.inference_mode()
def plain(unet: Any, given: dict[str, Tensor]) -> Tensor:
    result: Tensor = unet(**given, return_dict=False)[0]
    return result


@torch.inference_mode()
def accelerated(unet: UNet, given: dict[str, Tensor]) -> Tensor:
    times = unet.times(given["timestep"], given["added_time_ids"])
    return unet(given["sample"], times, unet.context(given["encoder_hidden_states"]), unet.positions(FRAMES))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", REWRITES)
def test_each_alone_is_equal(original: Any, unet: Any, name: str, shape: tuple[int, int, int]) -> None:
    assert REWRITES[name](unet) > 5
    given = asked(*shape)
    assert error(plain(unet, given), plain(original, given)) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_all_together_are_equal(original: Any, unet: Any, shape: tuple[int, int, int]) -> None:
    given = asked(*shape)
    assert error(accelerated(UNet(unet), given), plain(original, given)) < 1e-5


@pytest.mark.parametrize("name", [*REWRITES, "all together"])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_in_bfloat16_the_error_is_bfloat16s_own(original: Any, unet: Any, name: str, batch: int) -> None:
    truth = plain(original, asked(batch, 8, 8))
    given = asked(batch, 8, 8, BF16)
    own = error(plain(copy.deepcopy(original).to(BF16), given), truth)
    unet.to(BF16)
    if name == "all together":
        got = accelerated(UNet(unet), given)
    else:
        REWRITES[name](unet)
        got = plain(unet, given)
    assert got.dtype == BF16
    assert 0 < error(got, truth) < 1.25 * own


def test_all_rewrites_one_after_the_other_are_equal_too(original: Any, unet: Any) -> None:
    for rewrite in REWRITES.values():
        rewrite(unet)
    given = asked(2, 8, 8)
    assert error(plain(unet, given), plain(original, given)) < 1e-5


@pytest.mark.parametrize("frames", [1, 6])
@pytest.mark.parametrize("side", [4, 6])
def test_the_decoder_is_equal(autoencoder: Any, frames: int, side: int) -> None:
    rewritten = copy.deepcopy(autoencoder)
    assert decoder.rewrite(rewritten.decoder) == 5
    z = torch.randn(2 * frames, 4, side, side)
    with torch.inference_mode():
        truth = autoencoder.decode(z, num_frames=frames).sample
        assert error(rewritten.decode(z, num_frames=frames).sample, truth) < 1e-5
        own = error(copy.deepcopy(autoencoder).to(BF16).decode(z.to(BF16), num_frames=frames).sample, truth)
        half = copy.deepcopy(autoencoder).to(BF16)
        decoder.rewrite(half.decoder)
        assert error(half.decode(z.to(BF16), num_frames=frames).sample, truth) < 1.25 * own


def test_reused_features_of_the_same_sample_change_nothing(unet: Any) -> None:
    network, given = UNet(unet), asked(1, 8, 8)
    with torch.inference_mode():
        times = network.times(given["timestep"], given["added_time_ids"])
        inputs = (given["sample"], times, network.context(given["encoder_hidden_states"]), network.positions(FRAMES))
        whole, deep = network.keeping(*inputs)
        assert torch.equal(network.reusing(*inputs, deep), whole)
        assert not torch.equal(network.reusing(*inputs, deep + 0.1), whole)


def test_the_whole_unet_is_one_graph(unet: Any) -> None:
    """torch.compile(fullgraph=True) raises where it would have to break it."""
    network, given = UNet(unet), asked(1, 8, 8)
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="eager")
    assert error(accelerated(compiled, given), accelerated(network, given)) < 1e-6  # type: ignore[arg-type]


def test_pictures_stay_channels_last_without_a_copy(unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = UNet(unet), asked(1, 8, 8)
    moved = []
    convolve = torch.nn.functional.conv2d

    def watched(x: Tensor, *args: Any, **options: Any) -> Tensor:
        if not x.is_contiguous(memory_format=torch.channels_last):
            moved.append(tuple(x.shape))
        return convolve(x, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    accelerated(network, given)
    assert moved == []


def test_many_sequences_are_attended_to_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = torch.randn(3, 10, 2, 4, 8)
    whole = self_attention.attend(query, key, value)
    monkeypatch.setattr(self_attention, "MOST_ROWS", 4)
    assert torch.equal(self_attention.attend(query, key, value), whole)


def test_what_is_not_svds_is_refused(unet: Any) -> None:
    with pytest.raises(ValueError, match="along time"):
        temporal_convolution.TemporalConvolution(nn.Conv3d(4, 4, 3, padding=1))
    token = cross_attention.OneToken(unet.mid_block.attentions[0].transformer_blocks[0].attn2)
    with pytest.raises(ValueError, match="one token"):
        token(torch.zeros(1, 4, 64), torch.zeros(1, 2, 32))
