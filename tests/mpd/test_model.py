"""Loading, refusing, encoding and decoding."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.utils._paths import filter_repo_objects
from safetensors.torch import load_file

from mpd import sprites, tiny
from mpd.base import ModelError
from mpd.methods import Settings
from mpd.progress import Pictures, Take
from mpd.segments import generate
from mpd.sprites import world
from mpd.svd.denoiser import Plain, SvdDenoiser
from mpd.svd.model import Model, load, spans


def test_what_a_caller_must_know_of_a_model(tiny_model: Model, tiny_folder: Path) -> None:
    assert tiny_model.name == str(tiny_folder)
    assert (tiny_model.native_frames, tiny_model.native_size, tiny_model.size_multiple) == (8, (64, 64), 8)
    assert (tiny_model.license, tiny_model.revision, tiny_model.reversible) == ("apache-2.0", None, True)
    assert (tiny_model.device.type, tiny_model.dtype) == ("cpu", torch.float32)
    assert tiny_model.schedule.sigmas(25)[0] == pytest.approx(700)


def test_svds_own_configuration_means_1024x576(tiny_folder: Path, changed: Callable[..., Path]) -> None:
    folder = changed("unet/config.json", sample_size=96, num_frames=25)
    model = load(folder, device="cpu")
    assert model.native_size == (1024, 576)
    assert model.native_frames == 25


def test_the_same_seed_builds_the_same_model(tmp_path: Path, tiny_folder: Path) -> None:
    state = torch.random.get_rng_state()
    again, other = tiny.build(tmp_path / "again"), tiny.build(tmp_path / "other", seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    name = Path("unet") / "diffusion_pytorch_model.safetensors"
    assert (again / name).read_bytes() == (tiny_folder / name).read_bytes()
    assert (other / name).read_bytes() != (tiny_folder / name).read_bytes()


@pytest.fixture
def changed(tiny_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny model with values changed in one of its files."""

    def make(name: str, **values: object) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_folder, folder)
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return folder

    return make


class TestRefusals:
    """Each is one line that names the model and the reason."""

    def refused(self, source: str | Path, **options: Any) -> str:
        with pytest.raises(ModelError) as error:
            load(source, device="cpu", **options)
        message = str(error.value)
        assert "\n" not in message
        assert str(source) in message
        return message

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        assert "no such folder" in self.refused(tmp_path / "nowhere")

    def test_a_folder_that_is_no_model(self, tmp_path: Path) -> None:
        assert "has no model_index.json" in self.refused(tmp_path)

    @pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "scheduler", "feature_extractor"])
    def test_a_missing_part(self, changed: Callable[..., Path], part: str) -> None:
        folder = changed("model_index.json")
        shutil.rmtree(folder / part)
        assert f"has no {part}/" in self.refused(folder)

    def test_missing_weights(self, changed: Callable[..., Path]) -> None:
        folder = changed("model_index.json")
        (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
        assert "weights cannot be read" in self.refused(folder)

    def test_broken_weights(self, changed: Callable[..., Path]) -> None:
        folder = changed("model_index.json")
        (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
        assert "weights cannot be read" in self.refused(folder)

    def test_weights_of_another_shape(self, changed: Callable[..., Path]) -> None:
        assert "weights cannot be read" in self.refused(changed("unet/config.json", block_out_channels=[32, 32]))

    def test_another_pipeline(self, changed: Callable[..., Path]) -> None:
        folder = changed("model_index.json", _class_name="FluxPipeline")
        assert "is a FluxPipeline, not a StableVideoDiffusionPipeline" in self.refused(folder)

    def test_another_architecture(self, changed: Callable[..., Path]) -> None:
        assert "do not fit SVD's architecture" in self.refused(changed("unet/config.json", in_channels=4))

    def test_another_prediction(self, changed: Callable[..., Path]) -> None:
        folder = changed("scheduler/scheduler_config.json", prediction_type="epsilon")
        assert "scheduler is not SVD's" in self.refused(folder)

    def test_a_configuration_that_is_no_json(self, changed: Callable[..., Path]) -> None:
        folder = changed("model_index.json")
        (folder / "vae" / "config.json").write_text("{")
        assert "vae/config.json cannot be read" in self.refused(folder)

    @pytest.mark.parametrize("device", ["tpu", "cuda:99", "cuda:x"])
    def test_a_device_that_is_not_there(self, tiny_folder: Path, device: str) -> None:
        with pytest.raises(ModelError, match=device):
            load(tiny_folder, device=device)

    def test_an_unknown_dtype(self, tiny_folder: Path) -> None:
        with pytest.raises(ModelError, match="float8"):
            load(tiny_folder, device="cpu", dtype="float8")


def as_fp16(source: Path, target: Path) -> Path:
    """The folder as a repository that holds half-precision weights alone, named by their variant."""
    shutil.copytree(source, target)
    for path in target.glob("*/*.safetensors"):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    return target


def test_a_folder_with_one_variant_alone_needs_no_naming_of_it(tiny_folder: Path, tmp_path: Path) -> None:
    folder = as_fp16(tiny_folder, tmp_path / "half")
    assert load(folder, device="cpu").native_frames == 8
    assert load(folder, variant="fp16", device="cpu").native_frames == 8


class TestHub:
    """A repository in the hub's cache, with the network off."""

    REVISION = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def cache(self, tiny_folder: Path, tmp_path: Path) -> Path:
        repository = tmp_path / "hub" / "models--acme--tiny"
        snapshot = as_fp16(tiny_folder, repository / "snapshots" / self.REVISION)
        (snapshot / "README.md").write_text(
            "---\nlicense: other\nlicense_name: acme-community\nlicense_link: LICENSE.md\n---\n# Tiny\n"
        )
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(self.REVISION)
        return tmp_path / "hub"

    def test_an_id_is_read_from_the_cache_and_a_revision_that_is_not_there_refused(self, cache: Path) -> None:
        code = (
            "import mpd\n"
            "model = mpd.load('acme/tiny', variant='fp16', device='cpu')\n"
            "print(model.name, model.revision, model.license)\n"
            "try: mpd.load('acme/tiny', variant='fp16', revision='v9', device='cpu')\n"
            "except mpd.ModelError as error: print(error)\n"
        )
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        loaded, refused = done.stdout.splitlines()
        assert loaded == f"acme/tiny {self.REVISION} acme-community"
        assert refused.startswith("acme/tiny: no such folder, and the hub does not give it: ")


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    """URL of a proxy that lets nobody through."""

    class Refusal(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_proxy_that_refuses_is_one_line(refusing_proxy: str, tmp_path: Path) -> None:
    code = "import mpd\ntry: mpd.load('acme/tiny', device='cpu')\nexcept mpd.ModelError as error: print(error)"
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HTTPS_PROXY": refusing_proxy, "HF_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (refused,) = done.stdout.splitlines()
    assert refused.startswith("acme/tiny: no such folder, and the hub does not give it: 403")


SVD_XT = [
    ".gitattributes",
    "LICENSE.md",
    "README.md",
    "model_index.json",
    "svd_xt.safetensors",
    "svd_xt_image_decoder.safetensors",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "image_encoder/config.json",
    "image_encoder/model.fp16.safetensors",
    "image_encoder/model.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
]
"""What SVD-XT's own repository holds."""


@pytest.mark.parametrize(("variant", "ending"), [("fp16", ".fp16.safetensors"), (None, "model.safetensors")])
def test_only_the_files_that_are_read_are_fetched(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, variant: str | None, ending: str
) -> None:
    fetched: list[str] = []

    def snapshot(source: str, *, revision: str, allow_patterns: list[str], ignore_patterns: list[str] | None) -> str:
        assert (source, revision) == ("stabilityai/stable-video-diffusion-img2vid-xt", "9e43909")
        fetched.extend(filter_repo_objects(SVD_XT, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with contextlib.suppress(ModelError):  # the tiny folder that stands in has no fp16 weights
        load("stabilityai/stable-video-diffusion-img2vid-xt", revision="9e43909", variant=variant, device="cpu")
    assert [name for name in fetched if not name.endswith(".safetensors")] == [
        name for name in SVD_XT if name.endswith(".json") or name == "README.md"
    ]
    weights = [name for name in fetched if name.endswith(".safetensors")]
    assert [name.partition("/")[0] for name in weights] == ["image_encoder", "unet", "vae"]
    assert all(name.endswith(ending) for name in weights)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_only_the_encoder_stays_in_float32(
    tiny_folder: Path, pictures: list[Pictures], dtype: str
) -> None:
    model = load(tiny_folder, device="cpu", dtype=dtype)
    half = getattr(torch, dtype)
    for module, expected in [
        (model.unet, half),
        (model.image_encoder, half),
        (model.vae.encoder, torch.float32),
        (model.vae.quant_conv, torch.float32),
        (model.vae.decoder, half),
    ]:
        assert {parameter.dtype for parameter in module.parameters()} == {expected}
    keyframe = model.keyframe(pictures[0])
    assert keyframe.z.dtype == torch.float32
    condition = model.condition(keyframe, torch.zeros(3, 64, 64), 0.02)
    x0, x0_u = model.denoiser(condition, 7, 127, 0.02)(700 * torch.randn(2, 4, 8, 8), 700.0)
    assert x0_u is not None
    assert x0.dtype == x0_u.dtype == torch.float32
    *_, take = generate(model, pictures[:2], Settings(steps=2, frames=2))
    assert isinstance(take, Take)
    assert take.frames.std() > 1


class TestDenoiser:
    """The preconditioning, against the table's formulas over a UNet that is a known function."""

    class Unet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[dict[str, Any]] = []

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor, **options: Any) -> tuple[torch.Tensor]:
            self.seen.append({"sample": sample, "timestep": timestep, **options})
            return (sample[:, :, :4].sin(),)

    @pytest.mark.parametrize("sigma", [0.002, 1.3, 700.0])
    def test_estimates_and_inputs(self, tiny_model: Model, pictures: list[Pictures], sigma: float) -> None:
        unet = self.Unet()
        condition = tiny_model.condition(tiny_model.keyframe(pictures[0]), torch.zeros(3, 64, 64), 0.0)
        time_ids = torch.tensor([[6.0, 127.0, 0.02]])
        x = sigma * torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        x0_c, x0_u = SvdDenoiser(Plain(unet), condition, time_ids, torch.float32)(x, sigma)
        c_in = 1 / (sigma**2 + 1) ** 0.5
        literal = x / (sigma**2 + 1) - sigma / (sigma**2 + 1) ** 0.5 * (c_in * x).sin()
        torch.testing.assert_close(x0_c, literal)
        torch.testing.assert_close(x0_u, literal)
        conditional, unconditional = unet.seen
        assert conditional["sample"].shape == (1, 5, 8, 8, 8)
        for frame in range(5):
            torch.testing.assert_close(conditional["sample"][0, frame, 4:], condition.image_latents)
        assert not unconditional["sample"][:, :, 4:].any()
        assert not unconditional["encoder_hidden_states"].any()
        torch.testing.assert_close(conditional["encoder_hidden_states"], condition.embedding)
        for seen in unet.seen:
            assert float(seen["timestep"]) == pytest.approx(0.25 * np.log(sigma), rel=1e-6)
            assert seen["added_time_ids"].tolist() == time_ids.tolist()

    def test_without_the_unconditional_estimate_it_is_not_evaluated(
        self, tiny_model: Model, pictures: list[Pictures]
    ) -> None:
        unet = self.Unet()
        condition = tiny_model.condition(tiny_model.keyframe(pictures[0]), torch.zeros(3, 64, 64), 0.0)
        denoiser = SvdDenoiser(Plain(unet), condition, torch.zeros(1, 3), torch.float32)
        assert denoiser(torch.zeros(2, 4, 8, 8), 1.0, need_uncond=False)[1] is None
        assert len(unet.seen) == 1

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("sigma", [0.002, 1.3, 700.0])
    def test_half_precision_begins_behind_the_preconditioning(
        self, tiny_model: Model, pictures: list[Pictures], dtype: torch.dtype, sigma: float
    ) -> None:
        unet = self.Unet()
        condition = tiny_model.condition(tiny_model.keyframe(pictures[0]), torch.zeros(3, 64, 64), 0.0)
        x = 200 * sigma * torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))  # beyond float16 at 700
        x0, _ = SvdDenoiser(Plain(unet), condition, torch.tensor([[6.0, 127.0, 0.02]]), dtype)(x, sigma)
        for seen in unet.seen:
            assert seen["sample"].dtype == seen["encoder_hidden_states"].dtype == dtype
            assert seen["timestep"].dtype == torch.float32
            assert float(seen["timestep"]) == pytest.approx(0.25 * np.log(sigma), rel=1e-6)
            assert seen["added_time_ids"][0].tolist() == pytest.approx([6, 127, 0.02], rel=2e-3)
            scaled = seen["sample"][0, :, :4].double()
            torch.testing.assert_close(scaled, x.double() / (sigma**2 + 1) ** 0.5, rtol=5e-3, atol=1e-3)
        v = unet.seen[0]["sample"][0, :, :4].sin().float()
        torch.testing.assert_close(x0, x / (sigma**2 + 1) - sigma / (sigma**2 + 1) ** 0.5 * v)

    def test_the_unet_is_told_one_frame_a_second_less(
        self, tiny_model: Model, pictures: list[Pictures], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unet = self.Unet()
        monkeypatch.setattr(tiny_model, "unet", unet)
        condition = tiny_model.condition(tiny_model.keyframe(pictures[0]), torch.zeros(3, 64, 64), 0.5)
        tiny_model.denoiser(condition, 7, 100, 0.5)(torch.zeros(2, 4, 8, 8), 1.0, False)
        assert unet.seen[0]["added_time_ids"].tolist() == [[6.0, 100.0, 0.5]]


class TestDecoding:
    LATENTS = torch.randn(7, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def test_frames_come_in_even_chunks(self, tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []
        decode = tiny_model.vae.decode

        def recording(z: torch.Tensor, num_frames: int) -> Any:
            sizes.append(num_frames)
            return decode(z, num_frames=num_frames)

        monkeypatch.setattr(tiny_model.vae, "decode", recording)
        frames = tiny_model.decode(self.LATENTS, chunk=3)
        assert sizes == [3, 2, 2]  # too short to overlap
        assert frames.shape == (7, 64, 64, 3)
        assert frames.flags.c_contiguous
        whole = tiny_model.decode(self.LATENTS)
        assert sizes[3:] == [7]
        faded = tiny_model.decode(self.LATENTS, chunk=4)
        assert sizes[4:] == [4, 4]
        assert faded.shape == whole.shape
        single = tiny_model.decode(self.LATENTS[:3], chunk=3)
        assert np.array_equal(frames[:3], single)
        assert not np.array_equal(frames, whole)

    def test_the_frames_that_chunks_share_go_over_from_the_first_to_the_second(
        self, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two chunks of eight frames that share two; of each is known whose it is, so the wrong direction shows."""
        chunks = iter((0.0, 1.0))

        def plain(z: torch.Tensor, num_frames: int) -> Any:
            return SimpleNamespace(sample=torch.full((num_frames, 3, 2, 2), next(chunks)))

        monkeypatch.setattr(tiny_model.vae, "decode", plain)
        frames = torch.cat(list(tiny_model._faded(torch.zeros(14, 4, 8, 8), chunk=8)))
        shares = [0.0] * 6 + [1 / 3, 2 / 3] + [1.0] * 6
        torch.testing.assert_close(frames[:, 0, 0, 0], torch.tensor(shares))

    @pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 8, 9, 24, 25])
    def test_spans_cover_every_frame_and_share_the_overlap(self, chunk: int) -> None:
        overlap = min(2, chunk // 4)
        made = spans(25, chunk, overlap)
        assert (made[0].start, made[-1].stop) == (0, 25)
        assert all(before.stop - after.start == overlap for before, after in itertools.pairwise(made))
        lengths = {len(span) for span in made}
        assert max(lengths) <= chunk
        assert max(lengths) - min(lengths) <= 1

    def test_where_chunks_meet_one_fades_into_the_other(self) -> None:
        """The step over a border is not to be seen: less than a grey level more than where all is decoded together."""
        model = load(sprites.PATH, device="cpu")
        clip = world.render(world.scene(world.seeds("development", 1)[0]), 24)
        z = torch.stack([model.keyframe(frame).z for frame in clip])
        whole = model.decode(z, chunk=24).astype(float)
        assert whole.shape == clip.shape

        def worst_step(chunk: int) -> float:
            pieces = model.decode(z, chunk=chunk).astype(float)
            assert pieces.shape == whole.shape
            assert np.abs(pieces - whole).mean() < 1
            steps, smooth = (np.abs(np.diff(each, axis=0)).mean((1, 2, 3)) for each in (pieces, whole))
            return float((steps - smooth).max())

        assert worst_step(8) < 1

    def test_the_chunk_shrinks_with_the_picture_and_never_below_one(self, tiny_model: Model) -> None:
        chunks = [tiny_model._decode_chunk(side * side) for side in (8, 128, 4096)]
        assert chunks == sorted(chunks, reverse=True)
        assert chunks[0] > 100
        assert chunks[-1] == 1


def test_a_preview_shows_the_colours_of_the_middle_frame(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an encoder that mixes colours linearly, as SVD's nearly does, they come back."""
    model = load(tiny_folder, device="cpu")
    mix = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.0, 1.0], [-1.0, 0.0, 2.0, 1.0]])

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool2d(pixels, 8)
        return torch.einsum("rhw,rc->chw", means, mix) / 0.18215

    monkeypatch.setattr(model, "_encode", encode)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 60, 30), (20, 90, 230)
    clip = torch.stack([torch.zeros(4, 8, 8), model.keyframe(picture).z, torch.zeros(4, 8, 8)])
    preview = model.preview(clip)
    assert preview.shape == (8, 8, 3)
    assert np.abs(preview.astype(int) - picture[::8, ::8].astype(int)).max() <= 4


def test_the_weights_of_the_tiny_model_are_a_few_megabytes(tiny_folder: Path) -> None:
    total = sum(path.stat().st_size for path in tiny_folder.rglob("*") if path.is_file())
    assert total < 16e6
    assert all(tensor.isfinite().all() for tensor in load_file(next(tiny_folder.glob("vae/*.safetensors"))).values())
