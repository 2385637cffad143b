"""The accelerated model as samplers and the engine use it: the same videos, compiled sizes, reused features, fp8."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mpd import sprites
from mpd.base import ModelError
from mpd.methods import Settings
from mpd.progress import Pictures, Take
from mpd.segments import generate
from mpd.sprites import world
from mpd.svd.accelerate import fp8
from mpd.svd.accelerate.compilation import Compiled, keep_in
from mpd.svd.accelerate.reuse import Features, Interval
from mpd.svd.model import Model, load
from mpd.svd.network import Accelerated
from tests.mpd.accelerate.conftest import asked, error


def video(model: Model, method: str, steps: int = 25) -> Any:
    scene = world.scene(world.seeds("development", 1)[0])
    clip = world.render(scene)
    settings = Settings(method=method, seeds=(3,), steps=steps, fps=scene.fps, motion_bucket_id=scene.motion_bucket_id)
    pictures: list[Pictures] = [clip[0], clip[-1]]
    [take] = [event for event in generate(model, pictures, settings) if isinstance(event, Take)]
    return take.frames.astype(float)


@pytest.mark.parametrize("method", ["mpd-vibid", "trf"])
def test_a_sampled_video_stays_the_same(method: str) -> None:
    off = video(load(sprites.PATH, device="cpu"), method, steps=8)
    exact = video(load(sprites.PATH, device="cpu", accelerate="exact"), method, steps=8)
    assert np.abs(exact - off).mean() < 0.01  # of 255 grey levels; the issue of rounding alone
    assert np.abs(exact - off).max() <= 3


def test_approximations_stay_close_and_skip_what_they_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(sprites.PATH, device="cpu", accelerate="max")
    assert model._accelerated is not None
    counts = {"keeping": 0, "reusing": 0}

    def counting(name: str, part: Any) -> Any:
        def call(*args: Any) -> Any:
            counts[name] += 1
            return part(*args)

        return call

    parts = {name: counting(name, part) for name, part in model._accelerated._parts.items()}
    monkeypatch.setattr(model._accelerated, "_parts", parts)
    exact = video(load(sprites.PATH, device="cpu", accelerate="exact"), "svd")
    reused = video(model, "svd")
    assert counts["reusing"] > 4
    assert counts["keeping"] + counts["reusing"] == 2 * 25
    assert 0 < np.abs(reused - exact).mean() < 2


def test_levels_and_their_defaults(tiny_folder: Path) -> None:
    assert load(tiny_folder, device="cpu").acceleration == "off"
    assert load(tiny_folder, device="cpu", accelerate="exact").acceleration == "exact"
    with pytest.raises(ModelError, match="accelerate 'fast' is not known: choose auto, off, exact, max"):
        load(tiny_folder, device="cpu", accelerate="fast")


def test_features_serve_only_where_little_has_changed() -> None:
    features, shape = Features(Interval(free_above=100.0, middle=6.0, turn=0.2)), (1, 5, 8, 8, 8)
    assert not features.usable(1.0, shape)
    features.keep(torch.zeros(1), 101.0, shape)
    assert not features.usable(99.0, shape), "made where nothing may be reused"
    features.keep(torch.zeros(1), 6.0, shape)
    assert features.usable(4.1, shape)
    assert not features.usable(3.9, shape), "the middle, where they age fastest"
    features.keep(torch.zeros(1), 1.0, shape)
    assert features.usable(0.001, shape)
    features.keep(torch.zeros(1), 100.0, shape)
    assert features.usable(25.0, shape)
    assert not features.usable(22.0, shape)
    assert not features.usable(100.0, shape), "σ did not fall: the same step, noised anew"
    assert not features.usable(100.1, shape), "σ rose: another take"
    assert not features.usable(99.0, (1, 6, 8, 8, 8))


def test_only_sizes_seen_while_warming_up_are_compiled() -> None:
    compiled: list[tuple[int, ...]] = []

    def backend(graph: Any, examples: list[Tensor]) -> Any:
        compiled.append(tuple(examples[0].shape))
        return graph.forward

    function = Compiled(lambda x, y: torch.sin(x) + y, backend)
    x, y = torch.ones(2, 3), torch.zeros(1)
    assert torch.equal(function(x, y), torch.sin(x))
    assert compiled == []
    with function.warming_up():
        function(x, y)
    assert compiled == [(2, 3)]
    function(x, y)
    assert torch.equal(function(torch.ones(4, 3), y), torch.sin(torch.ones(4, 3)))
    assert compiled == [(2, 3)]


def test_an_accelerated_unet_is_compiled_while_warming_up(unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def backend(graph: Any, examples: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr("mpd.svd.accelerate.compilation.BACKEND", backend)
    network, given = Accelerated(unet, "exact", compiled=True), asked(1, 8, 8)
    branch = network.branch(given["encoder_hidden_states"])
    with torch.inference_mode():
        times = network.times(given["timestep"], given["added_time_ids"])
        before = branch(given["sample"], times, 1.0)
        assert graphs == []
        with network.warming_up():
            assert error(branch(given["sample"], times, 1.0), before) < 1e-6
        assert len(graphs) == 1
        assert error(branch(given["sample"], times, 1.0), before) < 1e-6
    assert len(graphs) == 1


def test_the_decoder_is_compiled_too_where_it_pays(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def backend(graph: Any, examples: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr("mpd.svd.accelerate.compilation.BACKEND", backend)
    monkeypatch.setattr(Model, "compiles", True)  # as on CUDA
    model, z = load(tiny_folder, device="cpu", accelerate="exact"), torch.randn(4, 4, 8, 8)
    before = model.decode(z)
    assert graphs == []
    with model.warming_up():
        assert np.array_equal(model.decode(z), before)
    assert len(graphs) == 1
    assert np.array_equal(model.decode(z), before)
    assert model.decode(z[:3]).shape == (3, 64, 64, 3)
    assert len(graphs) == 1


def test_compiled_code_is_kept_where_it_is_asked_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    keep_in(tmp_path / "cache")
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    assert Path(cache_dir()) == tmp_path / "cache" / "inductor"


def test_fp8_rounds_every_row_by_its_own_scale() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 48)
    linear.weight.data[3] *= 1000
    x = torch.randn(5, 7, 64)
    x[2] *= 1000
    x[4] = 0
    with torch.inference_mode():
        truth, got = linear(x), fp8.Fp8Linear(linear)(x)
    assert got.shape == truth.shape
    plain = [channel for channel in range(48) if channel != 3]
    for row in itertools.product(range(4), range(7)):
        assert 0 < error(got[row][plain], truth[row][plain]) < 0.08  # e4m3 has three bits after the point
    assert error(got[:2, :, 3], truth[:2, :, 3]) < 0.08
    assert error(got[4], truth[4]) < 0.01


def test_fp8_is_for_the_feed_forwards_of_cards_that_have_it(unet: Any) -> None:
    assert not fp8.has_fp8(torch.device("cpu"))
    original = [module for module in unet.modules() if type(module) is nn.Linear]
    count = fp8.rewrite(unet)
    left = [module for module in unet.modules() if type(module) is nn.Linear]
    assert count == len(original) - len(left) > 10
