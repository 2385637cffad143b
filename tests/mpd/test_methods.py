"""Settings: what is refused and how it is said; counts that the API promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpd.lengths import denoiser_calls, groups, segment_frames, total_frames
from mpd.methods import LIMITS, METHODS, Distillation, Settings, SettingsError
from mpd.schedule import NUMBERS, share_of_steps


def test_the_defaults_are_the_papers() -> None:
    assert Settings(method="mpd-vibid").distillation == Distillation(0.2, 3, 1.0, "rigid", 0.0)
    assert Settings(method="mpd-trf").distillation == Distillation(0.3, 2, 0.5, "rigid", 0.0)
    assert Settings(method="mpd").distillation == Distillation(0.0, 0, 1.0, "closure", 0.0)
    assert Settings(method="trf").guidance_ramp == (1.0, 3.0)
    assert Settings(method="vibid").distillation is Settings(method="vibid").guidance_ramp is None


def test_own_values_replace_the_methods() -> None:
    settings = Settings(method="mpd-vibid", k=1, anchor="closure", handover=0.4)
    assert settings.distillation == Distillation(0.2, 1, 1.0, "closure", 0.4)
    assert Settings(method="trf", guidance=(2.0, 2.0)).guidance_ramp == (2.0, 2.0)


def test_what_is_spelled_out_has_the_methods_own_values() -> None:
    told = Settings(method="mpd-trf", k=1).spelled_out()
    assert (told["k"], told["gamma"], told["anchor"], told["guidance"]) == (1, 0.3, "rigid", (1.0, 3.0))
    assert (told["motion"], told["frames"], told["steps"]) == (None, None, None)
    assert Settings(method="mpd").spelled_out(15)["steps"] == 15
    assert Settings(method="mpd", steps=3).spelled_out(15)["steps"] == 3
    assert Settings(method="rife").spelled_out()["motion"] == "auto"
    assert Settings(method="rife", motion="dis").spelled_out()["motion"] == "dis"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"method": "magic"}, "method"),
        ({"frames": 1}, "frames"),
        ({"frames": 242}, "frames"),
        ({"frames": 8.0}, "frames"),
        ({"frames": True}, "frames"),
        ({"steps": 0}, "steps"),
        ({"steps": 101}, "steps"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"seeds": (-1,)}, "seeds"),
        ({"seeds": tuple(range(9))}, "seeds"),
        ({"width": 64}, "height"),
        ({"height": 64}, "width"),
        ({"width": 16, "height": 64}, "width"),
        ({"fit": "squeeze"}, "fit"),
        ({"background": "black"}, "background"),
        ({"fps": 0}, "fps"),
        ({"motion_bucket_id": 256}, "motion_bucket_id"),
        ({"noise_aug_strength": float("nan")}, "noise_aug_strength"),
        ({"gamma": 1.5}, "gamma"),
        ({"k": 11}, "k"),
        ({"lam": -0.1}, "lam"),
        ({"anchor": "loose"}, "anchor"),
        ({"handover": 2}, "handover"),
        ({"method": "mpd", "handover": 0.5}, "handover"),
        ({"method": "trf", "gamma": 0.2}, "gamma"),
        ({"method": "svd", "anchor": "pin"}, "anchor"),
        ({"method": "flow", "k": 1}, "k"),
        ({"guidance": (1.0, 3.0)}, "guidance"),
        ({"method": "trf", "guidance": (1.0,)}, "guidance"),
        ({"method": "trf", "guidance": (1.0, 21.0)}, "guidance"),
        ({"positions": (0, 5), "frames": 6}, "positions"),
        ({"positions": (1, 5)}, "positions"),
        ({"positions": (0, 5, 5)}, "positions"),
        ({"positions": (0, 241)}, "positions"),
        ({"positions": (0, 2.5)}, "positions"),
        ({"positions": (0,)}, "positions"),
        ({"positions": 5}, "positions"),
        ({"seeds": 5}, "seeds"),
        ({"seeds": None}, "seeds"),
        ({"method": ["svd"]}, "method"),
        ({"method": "trf", "guidance": 2.0}, "guidance"),
        ({"background": 0}, "background"),
        ({"loop": "no"}, "loop"),
        ({"fps": None}, "fps"),
        ({"noise_aug_strength": None}, "noise_aug_strength"),
    ],
)
def test_what_is_refused_names_the_setting_and_a_remedy(values: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(**values)
    assert refused.value.field == field
    assert refused.value.problem
    assert refused.value.remedy
    assert "\n" not in str(refused.value)


def test_a_limit_is_said_in_full() -> None:
    with pytest.raises(SettingsError, match="from 0 to 4294967295: "):
        Settings(seeds=(-1,))


def test_from_json() -> None:
    settings = Settings.from_json({"method": "trf", "seeds": [1, 2], "guidance": [1, 2.5]})
    assert settings == Settings(method="trf", seeds=(1, 2), guidance=(1, 2.5))
    with pytest.raises(SettingsError, match="frame_count: is not a setting"):
        Settings.from_json({"frame_count": 3})


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_says_why(name: str) -> None:
    limit = LIMITS[name]
    assert limit.low < limit.high
    assert len(limit.why) > 10


@pytest.mark.parametrize(
    ("method", "calls"),
    {"flow": 0, "svd": 25, "trf": 50, "vibid": 50, "mpd-trf": 66, "mpd-vibid": 65, "mpd": 25}.items(),
)
def test_denoiser_calls_at_25_steps(method: str, calls: int) -> None:
    assert denoiser_calls(Settings(method=method)) == calls
    assert denoiser_calls(Settings(method=method), numbers=[NUMBERS] * 3) == 3 * calls


@given(st.integers(0, 100), st.integers(1, 100))
def test_early_steps_are_those_below_the_exact_share(percent: int, steps: int) -> None:
    assert share_of_steps(percent / 100, steps) == sum(100 * i < percent * steps for i in range(steps))


@pytest.mark.parametrize(
    ("settings", "keyframes", "frames", "total"),
    [
        (Settings(), 2, (25,), 25),
        (Settings(frames=9), 3, (9, 9), 17),
        (Settings(frames=9, loop=True), 3, (9, 9, 9), 24),
        (Settings(method="svd"), 1, (25,), 25),
        (Settings(positions=(0, 4, 6)), 3, (5, 3), 7),
        (Settings(positions=(0, 4, 6), loop=True), 2, (5, 3), 6),
        (Settings(method="mpd"), 2, (25,), 25),
        (Settings(method="mpd", frames=9), 3, (9, 9), 17),
        (Settings(method="mpd"), 3, (13, 13), 25),
        (Settings(method="mpd"), 4, (9, 9, 9), 25),
        (Settings(method="mpd"), 5, (7, 7, 7, 7), 25),
        (Settings(method="mpd"), 6, (9, 9, 9, 9, 9), 41),
        (Settings(method="mpd"), 9, (7,) * 8, 49),
        (Settings(method="mpd", loop=True), 3, (7, 7, 7), 18),
        (Settings(method="mpd", loop=True), 4, (7, 7, 7, 7), 24),
        (Settings(method="mpd", segments="alone"), 3, (25, 25), 49),
        (Settings(method="mpd", anchor="pin"), 3, (25, 25), 49),
    ],
)
def test_frames(settings: Settings, keyframes: int, frames: tuple[int, ...], total: int) -> None:
    assert segment_frames(settings, keyframes, native_frames=25) == frames
    assert total_frames(frames, settings.loop) == total


@pytest.mark.parametrize(("native", "frames"), [(12, (7, 6)), (14, (8, 7)), (8, (8, 8)), (81, (41, 41))])
def test_a_default_storyboard_is_as_long_as_the_model(native: int, frames: tuple[int, ...]) -> None:
    """Where each segment gets six frames; else they are sampled alone."""
    assert segment_frames(Settings(method="mpd"), 3, native) == frames


@given(st.integers(2, 32), st.integers(2, 90), st.booleans())
def test_what_is_spread_is_joined(keyframes: int, native: int, loop: bool) -> None:
    settings = Settings(method="mpd", loop=loop)
    frames = segment_frames(settings, keyframes, native)
    made = groups(settings, frames, native)
    assert [number for group in made for number in group.keyframes(keyframes)[:-1]][: len(frames)] == [
        number % keyframes for number in range(len(frames))
    ]
    assert all(group.length <= native for group in made)
    if not loop and keyframes > 2 and native >= 11:
        assert all(2 <= len(group.frames) <= 4 for group in made[:-1])
        assert all(count >= 6 for group in made for count in group.frames)
        assert made[0].length == native, "as long as the model makes them"


@pytest.mark.parametrize(
    ("settings", "segments", "shown"),
    [
        (Settings(method="mpd"), (25,), [(0, 1)]),
        (Settings(method="mpd"), (9, 9, 9), [(0, 1, 2, 3)]),
        (Settings(method="mpd"), (9, 9, 10), [(0, 1, 2), (2, 3)]),
        (Settings(method="mpd"), (2, 2, 20, 2, 2), [(0, 1, 2, 3, 4, 5)]),
        (Settings(method="mpd"), (40, 3, 3), [(0, 1), (1, 2, 3)]),
        (Settings(method="mpd", loop=True), (7, 7, 7), [(0, 1, 2, 0, 1)]),
        (Settings(method="mpd", loop=True), (9, 9, 8), [(0, 1, 2, 0)]),
        (Settings(method="mpd", loop=True), (9, 9, 10), [(0, 1, 2), (2, 0)]),
        (Settings(method="mpd", loop=True), (12, 2), [(0, 1, 0, 1)]),
        (Settings(method="mpd", segments="alone"), (9, 9), [(0, 1), (1, 2)]),
        (Settings(method="mpd", segments="chained"), (9, 9), [(0, 1), (1, 2)]),
        (Settings(method="mpd", anchor="rigid"), (9, 9), [(0, 1), (1, 2)]),
        (Settings(method="mpd-vibid"), (9, 9), [(0, 1), (1, 2)]),
        (Settings(method="mpd-vibid", segments="joint"), (9, 9), [(0, 1), (1, 2)]),
    ],
)
def test_neighbours_that_fit_are_one_latent(
    settings: Settings, segments: tuple[int, ...], shown: list[tuple[int, ...]]
) -> None:
    keyframes = len(segments) + (not settings.loop)
    assert [group.keyframes(keyframes) for group in groups(settings, segments, 25)] == shown
    told = settings.spelled_out()["segments"]
    assert told == ("joint" if settings.joins else settings.segments if settings.segments != "joint" else "alone") or (
        settings.segments is None and told == "alone"
    )


@pytest.mark.parametrize(
    ("settings", "keyframes", "field"),
    [
        (Settings(), 1, "keyframes"),
        (Settings(), 33, "keyframes"),
        (Settings(method="svd", loop=True), 1, "loop"),
        (Settings(positions=(0, 4)), 3, "positions"),
        (Settings(positions=(0, 4), loop=True), 2, "positions"),
    ],
)
def test_keyframes_that_do_not_fit(settings: Settings, keyframes: int, field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        segment_frames(settings, keyframes, native_frames=25)
    assert refused.value.field == field


def test_every_method_can_be_asked_for_and_described() -> None:
    for name, method in METHODS.items():
        assert Settings(method=name).method == method.name == name
        assert method.title
        assert method.description.endswith(".")
        assert (method.host is None) == (method.calls_per_step == 0)
        assert method.reverses_time == (method.calls_per_step == 2)
        assert method.uses_end == (name != "svd")
        assert method.host_free == (name == "mpd")
        assert replace(method, name="other").needs_model == method.needs_model
