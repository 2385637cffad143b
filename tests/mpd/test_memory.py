"""What SVD-XT needs at 1024x576 with 25 frames in float16, counted: its real modules run on torch's meta device.

Counted is every tensor that is alive; left out are the workspaces of cuDNN's kernels and what the allocator keeps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

from mpd.base import ModelError, Room
from mpd.svd import memory, model, weights
from mpd.svd.accelerate import Acceleration
from mpd.svd.denoiser import Condition, Plain, SvdDenoiser
from mpd.svd.memory import Alive, bytes_of, peak
from mpd.svd.model import Model

HALF = torch.float16
IMAGE_ENCODER = 632_076_800
"""Parameters of the CLIP ViT-H/14 image encoder."""
HEIGHT, WIDTH, FRAMES = 576, 1024, 25


@pytest.fixture(scope="module")
def vae() -> Any:
    widths, blocks = (128, 256, 512, 512), ("DownEncoderBlock2D",) * 4
    with torch.device("meta"):
        made = AutoencoderKLTemporalDecoder(down_block_types=blocks, block_out_channels=widths, layers_per_block=2)
    made.to("meta").decoder.to(HALF)
    return made


@pytest.fixture(scope="module")
def unet() -> Any:
    """diffusers' defaults are SVD-XT's UNet."""
    with torch.device("meta"):
        return UNetSpatioTemporalConditionModel(num_frames=FRAMES).to("meta", HALF)


@pytest.fixture
def svd_xt(vae: Any, monkeypatch: pytest.MonkeyPatch) -> Model:
    """As much of a model as chooses the chunk, on a GPU of 24 GB that holds the weights."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (24e9 - 4.7e9, 24e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    made = object.__new__(Model)
    made.vae, made.dtype, made.device, made.size_multiple = vae, HALF, torch.device("cuda"), 8
    return made


def test_a_decoded_frame_takes_no_more_than_estimated(vae: Any) -> None:
    z = torch.empty(3, 4, HEIGHT // 8, WIDTH // 8, dtype=HALF, device="meta")
    counted = peak(lambda: vae.decode(z, num_frames=3))
    full_size = 3 * HEIGHT * WIDTH * 256 * 2
    assert 0.6 * model.TENSORS_PER_FRAME < counted / full_size < 0.8 * model.TENSORS_PER_FRAME  # the rest: workspaces


def test_the_peak_stays_under_24_gb(svd_xt: Model, vae: Any, unet: Any) -> None:
    weights = bytes_of(vae) + bytes_of(unet) + 2 * IMAGE_ENCODER
    assert weights == pytest.approx(4.7e9, rel=0.05)
    latents = torch.empty(FRAMES, 4, HEIGHT // 8, WIDTH // 8, device="meta")
    condition = Condition(latents[0], torch.empty(1, 1, 1024, device="meta"))
    denoiser = SvdDenoiser(Plain(unet), condition, torch.empty(1, 3, device="meta"), HALF)
    chunk = svd_xt._decode_chunk(latents[0, 0].numel())
    assert chunk > 4  # fewer would know too few neighbours
    stages = [
        peak(lambda: denoiser(latents, 700.0)),
        peak(lambda: vae.decode(latents[:chunk].to(HALF), num_frames=chunk)),
        peak(lambda: vae.encode(torch.empty(1, 3, HEIGHT, WIDTH, device="meta"))),
    ]
    assert weights + 1.5 * max(stages) < 24e9  # half as much again for workspaces and what the allocator keeps


def test_a_full_gpu_decodes_fewer_frames_together(svd_xt: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5e9, 140e9))
    assert svd_xt._decode_chunk(HEIGHT * WIDTH // 64) == 2
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4e9)
    assert svd_xt._decode_chunk(HEIGHT * WIDTH // 64) == 3


def test_a_large_gpu_decodes_all_frames_together(svd_xt: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80e9 - 4.7e9, 80e9))
    assert svd_xt._decode_chunk(HEIGHT * WIDTH // 64) >= FRAMES


def test_what_is_alive_is_counted_while_it_lives() -> None:
    there = torch.empty(1000, device="meta")
    with torch.inference_mode(), Alive() as alive:
        seen = there[:10]
        assert alive.now == 0  # what was there before is not counted, nor are views of it
        first = seen + 1
        second = torch.cat([first, first])
        assert alive.now == 40 + 80
        del first
        third = second.view(4, 5) * 2
        assert alive.now == 80 + 80
        del second, third
        query = torch.empty(1, 2, 300, 8, device="meta")
        attended = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        assert attended.shape == query.shape
    assert alive.peak == 2 * 4 * query.numel()  # and no 300 x 300


LEVELS: list[tuple[Acceleration, bool]] = [("off", False), ("exact", False), ("max", True)]


@pytest.fixture(scope="module")
def needs(vae: Any, unet: Any) -> dict[str, memory.MemoryNeed]:
    return {
        level: memory.need(unet.config, vae.config, 2 * IMAGE_ENCODER, HALF, level, has_fp8)
        for level, has_fp8 in LEVELS
    }


def test_the_need_is_what_the_modules_take(needs: dict[str, memory.MemoryNeed], vae: Any, unet: Any) -> None:
    need = needs["off"]
    assert need.weights == pytest.approx(bytes_of(vae) + bytes_of(unet) + 2 * IMAGE_ENCODER, rel=1e-6)
    latents = torch.empty(FRAMES, 4, HEIGHT // 8, WIDTH // 8, device="meta")
    condition = Condition(latents[0], torch.empty(1, 1, 1024, device="meta"))
    denoiser = SvdDenoiser(Plain(unet), condition, torch.empty(1, 3, device="meta"), HALF)
    whole = peak(lambda: denoiser(latents, 700.0))
    assert need.sampling * FRAMES * HEIGHT * WIDTH == pytest.approx(whole, rel=0.01)  # however many pixels
    encoding = peak(lambda: vae.encode(torch.empty(1, 3, HEIGHT, WIDTH, device="meta")))
    assert need.picture * HEIGHT * WIDTH == pytest.approx(encoding, rel=0.01)


def test_rewrites_need_hardly_more_and_approximations_keep_features(needs: dict[str, memory.MemoryNeed]) -> None:
    off, exact, most = (needs[level] for level, _ in LEVELS)
    assert exact.weights < off.weights
    assert exact.sampling < 1.1 * off.sampling
    assert most.weights < exact.weights  # a third of the UNet in fp8
    deep = 4 * 640 * 2 / 64  # features of four branches, 640 channels of half precision for each pixel of the latent
    assert most.sampling > exact.sampling + deep


def test_a_card_holds_what_is_needed_and_no_more(needs: dict[str, memory.MemoryNeed]) -> None:
    need = needs["exact"]
    room = need.room(24_000_000_000)
    frames = room.volume // (WIDTH * HEIGHT)
    assert need.total(frames, WIDTH, HEIGHT) <= 24_000_000_000 < need.total(frames + 1, WIDTH, HEIGHT)
    assert frames > FRAMES
    assert need.total(1, room.pixels, 1) <= 24_000_000_000
    assert need.room(4_000_000_000) == Room(0, 0)


def test_a_card_too_small_for_anything_is_refused_before_it_is_filled(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, device = weights.read(str(tiny_folder), None, None, HALF), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 8_000_000_000))
    room = memory.room_on(device, parts, HALF, "exact")
    assert room.volume > room.pixels > 2048 * 2048
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1_000_000_000))
    with pytest.raises(ModelError, match=r"needs 1\.0 GB for the smallest video, and cuda has 1\.0 GB"):
        memory.room_on(device, parts, HALF, "exact")
