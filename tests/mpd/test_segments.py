"""Every method end to end on the tiny model: counts, joints, seeds, progress, cancellation."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mpd import segments
from mpd.base import Room
from mpd.lengths import denoiser_calls
from mpd.methods import METHODS, Settings, SettingsError
from mpd.progress import Pictures, Progress, Take
from mpd.samplers import Paths, Step
from mpd.schedule import NUMBERS, Schedule
from mpd.segments import generate
from mpd.svd.denoiser import Condition, SvdDenoiser
from mpd.svd.model import Model

DIFFUSION = [name for name, method in METHODS.items() if method.needs_model]


def takes(model: Model, pictures: list[Pictures], **settings: Any) -> list[Take]:
    reports = generate(model, pictures, Settings(**{"steps": 2, "frames": 3, **settings}))
    return [report for report in reports if isinstance(report, Take)]


@pytest.mark.parametrize("method", DIFFUSION)
def test_every_method_gives_the_frames_asked_for(tiny_model: Model, pictures: list[Pictures], method: str) -> None:
    (take,) = takes(tiny_model, pictures[:2], method=method, frames=5, fps=12)
    assert take.frames.shape == (5, 64, 64, 3)
    assert take.frames.dtype == np.uint8
    assert take.fps == 12
    assert take.frames.std() > 1


def test_without_a_count_the_models_own(tiny_model: Model, pictures: list[Pictures]) -> None:
    (take,) = takes(tiny_model, pictures[:2], frames=None)
    assert len(take.frames) == tiny_model.native_frames == 8


@pytest.mark.parametrize(
    ("keyframes", "settings", "frames"),
    [
        (1, {"method": "svd"}, 3),
        (2, {"loop": True}, 4),
        (3, {}, 5),
        (3, {"loop": True}, 6),
        (3, {"frames": None, "positions": (0, 1, 5)}, 6),
        (3, {"frames": None, "positions": (0, 1, 5, 7), "loop": True}, 7),
        (2, {"frames": 2}, 2),
    ],
)
def test_segments_share_their_keyframe_and_loops_drop_the_return(
    tiny_model: Model, pictures: list[Pictures], keyframes: int, settings: dict[str, Any], frames: int
) -> None:
    (take,) = takes(tiny_model, pictures[:keyframes], **settings)
    assert len(take.frames) == frames


class Still(Model):
    """Gives back what a latent was conditioned on: grey levels that go straight from keyframe to keyframe."""

    def decode(self, latents: torch.Tensor, chunk: int | None = None, bits: int = 8) -> Pictures:
        nearest = [min((float((z - known).abs().max()), level) for level, known in self.seen) for z in latents]
        places = [place for place, (apart, _) in enumerate(nearest) if apart < 1e-4]
        assert {0, len(latents) - 1} <= {*places}, "the ends are pinned"
        levels = np.interp(range(len(latents)), places, [nearest[place][1] for place in places])
        return np.broadcast_to(levels.round().astype(np.uint8)[:, None, None, None], (len(latents), 64, 64, 3))

    def keyframe(self, picture: Pictures) -> Any:
        keyframe = super().keyframe(picture)
        self.seen = [*getattr(self, "seen", []), (int(picture.flat[0]), keyframe.z)]
        return keyframe


@pytest.fixture
def still(tiny_model: Model) -> Still:
    """The tiny model whose decoder names the keyframes that the ends of the latents are pinned to."""
    model = object.__new__(Still)
    model.__dict__.update({**vars(tiny_model), "seen": []})
    return model


@pytest.mark.parametrize("how", ["joint", "alone", "chained"])
@pytest.mark.parametrize(
    ("positions", "loop", "expected", "groups"),
    [
        ((0, 4, 6), False, [10, 20, 30, 40, 50, 140, 230], ((0, 1, 2),)),
        ((0, 4, 6, 9), True, [10, 20, 30, 40, 50, 140, 230, 157, 83], ((0, 1, 2), (2, 0))),
        ((0, 1, 2), False, [10, 50, 230], ((0, 1, 2),)),
        ((0, 4, 9), False, [10, 20, 30, 40, 50, 86, 122, 158, 194, 230], ((0, 1), (1, 2))),
        ((0, 2, 3, 5), True, [10, 30, 50, 230, 120], ((0, 1, 2, 0, 1),)),
    ],
)
def test_the_timeline_passes_each_keyframe_once_in_order(
    still: Still,
    how: Any,
    positions: tuple[int, ...],
    loop: bool,
    expected: list[int],
    groups: tuple[tuple[int, ...], ...],
) -> None:
    """The tiny model has 8 frames: a loop that fits with its first segment once more passes its seam."""
    pictures = [np.full((64, 64, 3), level, np.uint8) for level in (10, 50, 230)]
    settings = {"method": "mpd", "steps": 1, "frames": None, "positions": positions, "loop": loop, "segments": how}
    (take,) = takes(still, pictures, **settings)
    assert take.frames[:, 0, 0, 0].tolist() == expected
    assert take.groups == (groups if how == "joint" else ((0, 1), (1, 2), (2, 0))[: 3 if loop else 2])


@pytest.mark.parametrize(
    ("method", "how", "same"),
    [("vibid", "alone", True), ("vibid", None, True), ("mpd", "joint", True), ("vibid", "chained", False)],
)
def test_a_group_can_be_made_again_without_the_others(
    tiny_model: Model, pictures: list[Pictures], method: str, how: Any, same: bool
) -> None:
    """Its noise is its own, where that of `chained` depends on how much was drawn before it."""
    asked = {"method": method, "segments": how, "frames": None, "seeds": (5,)}
    (one,) = takes(tiny_model, pictures, **asked, positions=(0, 5, 8))
    (other,) = takes(tiny_model, pictures, **asked, positions=(0, 6, 9))
    assert np.array_equal(one.frames[5:], other.frames[6:]) == same
    (first,) = takes(tiny_model, pictures[:2], **asked, positions=(0, 5))
    assert np.array_equal(one.frames[:5], first.frames[:5]), "the first has the seed's own numbers"


def test_the_same_seed_gives_the_same_bits_whatever_else_drew_noise(
    tiny_model: Model, pictures: list[Pictures]
) -> None:
    (first,) = takes(tiny_model, pictures[:2], seeds=(3,))
    state = torch.random.get_rng_state()
    several = takes(tiny_model, pictures[:2], seeds=(5, 3))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [(take.index, take.seed) for take in several] == [(0, 5), (1, 3)]
    assert np.array_equal(first.frames, several[1].frames)
    assert not np.array_equal(several[0].frames, several[1].frames)


def test_noise_is_drawn_in_the_documented_order(
    tiny_model: Model, pictures: list[Pictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []
    starts: list[torch.Tensor] = []
    randn, estimate = torch.randn, SvdDenoiser.__call__

    def recording(*args: Any, **options: Any) -> torch.Tensor:
        noise = randn(*args, **options)
        drawn.append(noise)
        assert options["generator"].device.type == "cpu"
        return noise

    def watched(self: SvdDenoiser, x: torch.Tensor, *args: Any) -> Any:
        starts.append(x)
        return estimate(self, x, *args)

    monkeypatch.setattr(torch, "randn", recording)
    monkeypatch.setattr(SvdDenoiser, "__call__", watched)
    monkeypatch.setattr(tiny_model, "schedule", Schedule(1.0, 1.0, own_steps=1))
    takes(tiny_model, pictures[:2], method="vibid", steps=1)
    pixels, latents = (3, 64, 64), (3, 4, 8, 8)
    assert [tuple(noise.shape) for noise in drawn] == [pixels, latents, pixels, latents]
    torch.testing.assert_close(starts[0], 2**0.5 * drawn[1])  # x_T = √(1 + σ_max²) n


@pytest.mark.parametrize("method", DIFFUSION)
def test_denoiser_calls_are_those_announced(
    tiny_model: Model, pictures: list[Pictures], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counting(self: SvdDenoiser, x: torch.Tensor, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return x, x

    monkeypatch.setattr(SvdDenoiser, "__call__", counting)
    settings = Settings(method=method, frames=2, seeds=(0, 1))
    list(generate(tiny_model, pictures, settings))
    assert calls == 2 * denoiser_calls(settings, numbers=[NUMBERS] * (1 if settings.joins else 2))


def test_progress_counts_every_step_of_the_whole_job(tiny_model: Model, pictures: list[Pictures]) -> None:
    settings = Settings(method="mpd", steps=2, frames=2, seeds=(0, 1), segments="alone")
    reports = list(generate(tiny_model, pictures, settings))
    steps = [report for report in reports if isinstance(report, Progress)]
    assert [(p.take, p.segment, p.step) for p in steps] == [
        (take, segment, step) for take in (0, 1) for segment in (0, 1) for step in (1, 2)
    ]
    assert [p.fraction for p in steps] == [n / 8 for n in range(1, 9)]
    assert {(p.takes, p.segments, p.steps) for p in steps} == {(2, 2, 2)}
    assert [p.sigma for p in steps[:2]] == tiny_model.schedule.sigmas(2)[1:]
    assert [type(report) for report in reports[4:5]] == [Take]
    preview = steps[0].preview()
    assert preview is not None
    assert preview.shape == (8, 8, 3)
    assert preview.dtype == np.uint8


def test_a_job_stops_where_it_is_closed_and_leaves_no_mode_behind(
    tiny_model: Model, pictures: list[Pictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bool] = []
    monkeypatch.setattr(tiny_model, "decode", lambda latents: decoded.append(True))
    reports = generate(tiny_model, pictures[:2], Settings(steps=3, frames=2))
    next(reports)
    assert not torch.is_inference_mode_enabled()
    reports.close()
    assert not torch.is_inference_mode_enabled()
    assert list(reports) == []
    assert decoded == []


def test_augmentation_strength_and_time_ids_reach_the_denoiser(
    tiny_model: Model, pictures: list[Pictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Condition, int, int, float]] = []
    denoiser = Model.denoiser

    def recording(self: Model, *args: Any) -> SvdDenoiser:
        asked.append(args)
        return denoiser(self, *args)

    monkeypatch.setattr(Model, "denoiser", recording)
    takes(tiny_model, pictures[:2], fps=30, motion_bucket_id=9, noise_aug_strength=0.0, steps=1)
    assert [args[1:] for args in asked] == [(30, 9, 0.0)] * 2
    clean = tiny_model.keyframe(pictures[0]).z / 0.18215
    torch.testing.assert_close(asked[0][0].image_latents, clean)


def test_a_segment_is_sampled_from_its_start_to_its_end_as_the_settings_say(
    tiny_model: Model, pictures: list[Pictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[tuple[str, Paths, list[float], dict[str, Any]]] = []

    def sample(method: str, paths: Paths, x: torch.Tensor, sigmas: list[float], **options: Any) -> Iterator[Step]:
        sampled.append((method, paths, sigmas, options))
        yield Step(0, 1, 0.0, x, x)

    monkeypatch.setattr(segments, "sample", sample)
    monkeypatch.setattr(tiny_model, "denoiser", lambda condition, *rest: condition)
    own = {"method": "mpd-trf", "steps": 7, "k": 4, "anchor": "pin", "guidance": (2.0, 5.0)}
    takes(tiny_model, pictures, loop=True, noise_aug_strength=0.0, **own)
    z = [tiny_model.keyframe(picture).z for picture in pictures]
    usual = METHODS["mpd-trf"].distillation
    assert usual is not None
    plan = replace(usual, k=4, anchor="pin")
    for (method, paths, sigmas, options), (start, end) in zip(sampled, [(0, 1), (1, 2), (2, 0)], strict=True):
        for found, known in [(paths.z_start, z[start]), (paths.z_end, z[end])]:
            torch.testing.assert_close(found, known)
        conditions: list[tuple[Any, Any]] = [(paths.start, z[start]), (paths.end, z[end])]
        for condition, known in conditions:
            torch.testing.assert_close(condition.image_latents, known / 0.18215)
        assert (method, len(sigmas)) == ("mpd-trf", 8)
        assert (options["distillation"], options["guidance"]) == (plan, (2.0, 5.0))


@pytest.mark.parametrize(
    ("shapes", "settings", "field"),
    [
        ([(64, 64, 3)] * 2, {"method": "flow"}, "method"),
        ([(64, 64, 3), (64, 72, 3)], {}, "keyframes"),
        ([(60, 64, 3)] * 2, {}, "width"),
        ([(64, 64, 3)], {}, "keyframes"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(
    tiny_model: Model, shapes: list[tuple[int, ...]], settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        generate(tiny_model, [np.zeros(shape, np.uint8) for shape in shapes], Settings(**settings))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("room", "settings", "field", "remedy"),
    [
        (Room(64 * 64, 5 * 64 * 64), {"frames": 6}, "frames", "at most 5 frames"),
        (Room(64 * 64, 5 * 64 * 64), {"positions": (0, 5)}, "positions", "at most 5 frames"),
        (Room(64 * 64 - 1, 5 * 64 * 64), {"frames": 2}, "width", "at most 4095 pixels"),
        (Room(64 * 64, 2 * 64 * 64 - 1), {"frames": 2}, "width", "at most 4095 pixels"),
    ],
)
def test_what_a_gpus_memory_does_not_hold_is_refused_at_once(
    tiny_model: Model, pictures: list[Pictures], room: Room, settings: dict[str, Any], field: str, remedy: str
) -> None:
    model = copy.copy(tiny_model)
    model.room = room
    with pytest.raises(SettingsError, match=remedy) as refused:
        generate(model, pictures[:2], Settings(**settings))
    assert refused.value.field == field
    model.room = Room(64 * 64, 6 * 64 * 64)
    generate(model, pictures[:2], Settings(**settings))
