"""What SVD-XT needs at 1024x576 with 25 frames in float16, counted: its real modules run on torch's meta device.

Counted is every tensor that is alive; left out are the workspaces of cuDNN's kernels and what the allocator keeps.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpd import model
from mpd.denoiser import Condition, Plain, SvdDenoiser
from mpd.model import Model

HALF = torch.float16
IMAGE_ENCODER = 632_076_800
"""Parameters of the CLIP ViT-H/14 image encoder."""
HEIGHT, WIDTH, FRAMES = 576, 1024, 25


class Alive(TorchDispatchMode):
    """Bytes of the tensors made while it is on: alive now, and at the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


@pytest.fixture(autouse=True)
def flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as on a GPU, which keeps no matrix of all pairs."""
    attend = torch.nn.functional
    monkeypatch.setattr(attend, "scaled_dot_product_attention", lambda query, *args, **options: query.clone())


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


def bytes_of(module: torch.nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def peak(work: Callable[[], object]) -> int:
    with torch.inference_mode(), Alive() as alive:
        work()
    return alive.peak


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
