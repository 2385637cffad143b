"""Training of the sprite model: resumable, with the objective that the sampler's denoiser implies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mpd.sprites import diffusion, export, networks, stages, train, world
from mpd.sprites.attention import PlainAttention
from mpd.sprites.loop import Loop
from mpd.sprites.pictures import psnr, to_tensor
from mpd.sprites.pool import Pool, clip_input
from mpd.svd.denoiser import Condition, Plain, SvdDenoiser
from mpd.svd.model import load

FLOAT32 = torch.float32


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def networks_untrained() -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = {"unet": networks.unet(), "autoencoder": networks.autoencoder(), "tower": networks.image_encoder()}
    return {name: network.eval() for name, network in made.items()}


def fitted(folder: Path, steps: int) -> nn.Module:
    """A line fitted to y = 3x for so many steps, from wherever the folder's checkpoint is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Linear(1, 1)
    loop = Loop(folder, "line", network, rate=0.1, steps=20, minutes=1e9, half_life=3)

    def loss(step: int) -> Tensor:
        x = torch.linspace(-1, 1, 8)[:, None] * (1 + step % 3)
        return (network(x) - 3 * x).square().mean()

    if steps < 20:
        for _ in range(steps):
            loop._take(loss)
        loop.save()
        return loop.averaged
    return loop.run(loss, lambda step, averaged: {"weight": float(averaged.weight)}, every=10)  # type: ignore[arg-type]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    fitted(tmp_path / "stopped", 7)
    resumed, whole = fitted(tmp_path / "stopped", 20), fitted(tmp_path / "whole", 20)
    for one, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert 0 < lines[0]["weight"] < lines[1]["weight"]


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    before = [p.clone() for p in fitted(tmp_path, 20).parameters()]
    after = list(fitted(tmp_path, 20).parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_a_loss_that_is_not_finite_stops_the_stage(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    loop = Loop(tmp_path, "bad", network, rate=0.1, steps=5, minutes=1e9, half_life=3)
    with pytest.raises(FloatingPointError, match="bad: the loss of step 0"):
        loop.run(lambda step: network.weight.sum() * torch.nan, lambda step, averaged: {}, every=1)


def test_noise_levels_cover_the_sampler_and_favour_where_motion_is_decided() -> None:
    random = np.random.default_rng(0)
    levels = torch.cat([diffusion.noise_levels(random, 8) for _ in range(400)])
    assert levels.min() >= 0.002
    assert levels.max() <= 700
    assert 0.03 < (levels > 200).float().mean() < 0.1
    assert 0.4 < ((levels > 0.5) & (levels < 15)).float().mean() < 0.7


def test_the_loss_is_the_samplers_denoiser_weighed_by_c_out(networks_untrained: dict[str, Any], tmp_path: Path) -> None:
    unet = networks_untrained["unet"]
    pool = Pool(tmp_path / "pool.pt", networks_untrained["autoencoder"], networks_untrained["tower"], 2)
    pool.add(2)
    batch = pool.batch(np.random.default_rng(0), 2)
    sigma, kept = torch.tensor([0.7, 90.0]), torch.tensor([1.0, 0.0])
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = diffusion.velocity_error(unet, batch, sigma, noise, kept, bf16=False)
    for i, level in enumerate(sigma.tolist()):
        condition = Condition(batch.image_latents[i], batch.embeddings[i : i + 1])
        denoiser = SvdDenoiser(Plain(unet), condition, batch.time_ids[i : i + 1], FLOAT32)
        estimates = denoiser(batch.latents[i] + level * noise[i], level)
        x0 = estimates[0] if kept[i] else estimates[1]
        assert x0 is not None
        expected = (x0 - batch.latents[i]).square().mean() * (level**2 + 1) / level**2
        assert error[i].mean().item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_loss_counts_the_first_frame_more_where_the_network_is_shown_it() -> None:
    error = torch.tensor([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]])
    shown, hidden = torch.ones(2), torch.zeros(2)
    assert diffusion.weighted(error, hidden).item() == pytest.approx(4 / 3)
    assert diffusion.weighted(error, shown).item() == pytest.approx((2 * diffusion.FIRST + 2) / (diffusion.FIRST + 2))


def test_normalising_changes_the_latents_and_not_the_pictures() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = networks.autoencoder().eval()
    frames = to_tensor(world.render(world.scene(world.seeds("train", 1)[0])))
    with torch.no_grad():
        before = stages.round_trip(network, frames, 12)
        stages.normalise(network, clips=4)
        after = stages.round_trip(network, frames, 12)
        some = to_tensor(np.concatenate([world.render(world.scene(s)) for s in world.seeds("train", 4)]))
        deviations = network.encode(some).latent_dist.mode().std(dim=(0, 2, 3))
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(deviations, torch.full((4,), stages.LATENT_STD), rtol=1e-3)
    assert network.config.scaling_factor * stages.LATENT_STD == 1


def test_the_decoder_goes_on_learning_while_the_latents_stay(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        network = networks.autoencoder().requires_grad_(False)
    frames = to_tensor(world.render(world.scene(world.seeds("train", 1)[0]), count=2))
    before = network.encode(frames).latent_dist.mode(), network.decoder.conv_in.weight.clone()
    stages.train_decoder(tmp_path, network, steps=1, minutes=1e9, rate=1e-2, bf16=False)
    assert torch.equal(network.encode(frames).latent_dist.mode(), before[0])
    assert not torch.equal(network.decoder.conv_in.weight, before[1])


def test_the_pool_is_the_same_after_a_restart(networks_untrained: dict[str, Any], tmp_path: Path) -> None:
    parts = networks_untrained["autoencoder"], networks_untrained["tower"]
    whole, stopped = (Pool(tmp_path / f"{name}.pt", *parts, 5) for name in ("whole", "stopped"))
    whole.add(9)
    stopped.add(3)
    stopped.save()
    resumed = Pool(tmp_path / "stopped.pt", *parts, 5)
    assert (whole.size, resumed.size) == (5, 3)
    resumed.add(9)
    one, other = (pool.batch(np.random.default_rng(1), 5) for pool in (whole, resumed))
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.time_ids, other.time_ids)


def test_the_pool_holds_what_the_model_will_be_given(networks_untrained: dict[str, Any], tmp_path: Path) -> None:
    autoencoder, tower = networks_untrained["autoencoder"], networks_untrained["tower"]
    pool = Pool(tmp_path / "pool.pt", autoencoder, tower, 1)
    pool.add(1)
    scene = world.scene(world.seeds("train", 1)[0])
    batch = pool.batch(np.random.default_rng(0), 1)
    model = load(export.write(tmp_path / "model", networks_untrained["unet"], autoencoder, tower))
    start = model.keyframe(world.render(scene)[0])
    assert batch.time_ids[0, :2].tolist() == [scene.fps - 1, scene.motion_bucket_id]
    assert torch.allclose(batch.latents[0, 0], start.z, atol=0.02)  # halves
    assert torch.allclose(batch.embeddings[0], start.embedding[0], atol=0.02)


def test_an_exported_model_loads_as_any_other(networks_untrained: dict[str, Any], tmp_path: Path) -> None:
    parts = (networks_untrained[name] for name in ("unet", "autoencoder", "tower"))
    model = load(export.write(tmp_path, *parts))
    assert model.native_frames == world.FRAMES
    assert model.native_size == (world.SIZE, world.SIZE)
    assert model.size_multiple == networks.FACTOR
    assert model.schedule.sigmas(25)[0] == pytest.approx(700)


def test_psnr_of_a_known_error() -> None:
    black, grey = torch.full((1, 3, 4, 4), -1.0), torch.full((1, 3, 4, 4), -0.8)
    assert psnr(black, grey).item() == pytest.approx(20, abs=1e-3)  # a tenth of the range


def test_clip_input_is_what_the_pipeline_makes() -> None:
    assert clip_input(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 224, 224)
    assert clip_input(torch.full((1, 3, 64, 64), -1.0)).mean().item() == pytest.approx(-1.6, abs=0.2)


def test_the_command_says_what_it_does(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--help"])
    with pytest.raises(SystemExit) as stop:
        train.main()
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("--run", "--unet-steps", "checkpoint", "log.jsonl"))


def test_plain_attention_is_the_same_function(networks_untrained: dict[str, Any]) -> None:
    unet = networks_untrained["unet"]
    random = torch.Generator().manual_seed(2)
    x, embedding = torch.randn(1, 5, 8, 8, 8, generator=random), torch.randn(1, 1, networks.EMBEDDING, generator=random)
    ids = torch.tensor([[6.0, 127.0, 0.02]])
    own = unet.attn_processors
    with torch.no_grad():
        expected = unet(x, 0.3, embedding, ids).sample
        unet.set_attn_processor(PlainAttention())
        plain = unet(x, 0.3, embedding, ids).sample
    unet.set_attn_processor(own)
    assert torch.allclose(plain, expected, atol=1e-5)
