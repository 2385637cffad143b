"""Another rate for the finished video: which frames there are, what lies between sampled ones, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import mpd
from mpd import flow, retiming, rife, sprites
from mpd.lengths import delivered_frames, segment_frames, shown_keyframes, total_frames
from mpd.methods import Settings, SettingsError
from mpd.progress import Frames, Pictures, Progress, Take
from mpd.retiming import retimed
from worker.engine.held import Held


class TestLengths:
    def test_seven_to_twenty_four(self) -> None:
        settings = Settings(method="mpd", frames=25, output_fps=24)
        assert (settings.rate, settings.retimed) == (24, True)
        assert delivered_frames(settings, 2, 14) == (83,), "24 steps of 1/7 s are 82.3 of 1/24 s"
        assert segment_frames(settings, 2, 14) == (25,), "which the model knows nothing of"
        assert delivered_frames(replace(settings, frames=None), 2, 14) == (46,)

    @pytest.mark.parametrize("output_fps", [None, 7])
    def test_the_same_rate_changes_nothing(self, output_fps: int | None) -> None:
        settings = Settings(method="mpd", frames=25, output_fps=output_fps)
        assert not settings.retimed
        assert delivered_frames(settings, 3, 14) == segment_frames(settings, 3, 14) == (25, 25)

    def test_positions_are_those_of_the_finished_video(self) -> None:
        settings = Settings(method="mpd", positions=(0, 48, 72), output_fps=24)
        delivered = delivered_frames(settings, 3, 14)
        assert delivered == (49, 25)
        assert shown_keyframes(settings, delivered) == (0, 48, 72)
        assert segment_frames(settings, 3, 14) == (15, 8), "2 s and 1 s at 7 frames a second"

    def test_positions_are_limited_by_what_a_model_makes(self) -> None:
        with pytest.raises(SettingsError) as refusal:
            Settings(method="mpd", positions=(0, 825), output_fps=24)
        assert "1 to 824 frames" in refusal.value.remedy
        most = Settings(method="mpd", positions=(0, 824), output_fps=24)
        assert segment_frames(most, 2, 14) == (241,)
        with pytest.raises(SettingsError):
            Settings(method="mpd", positions=(0, 241))

    @given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 241), st.integers(2, 6), st.booleans())
    def test_every_keyframe_is_in_the_nearest_frame(
        self, fps: int, rate: int, frames: int, keyframes: int, loop: bool
    ) -> None:
        assume((frames - 1) * rate >= fps)
        settings = Settings(method="mpd", fps=fps, output_fps=rate, frames=frames, loop=loop)
        delivered = delivered_frames(settings, keyframes, 14)
        made = segment_frames(settings, keyframes, 14)
        for place, shown in zip(shown_keyframes(settings, made), shown_keyframes(settings, delivered), strict=True):
            assert abs(shown / rate - place / fps) <= 0.5 / rate + 1e-9
        length = total_frames(made, loop) - (not loop)
        assert abs((total_frames(delivered, loop) - (not loop)) / rate - length / fps) <= 0.5 / rate + 1e-9

    def test_two_keyframes_in_one_frame_are_refused(self) -> None:
        settings = Settings(method="mpd", fps=30, output_fps=5, frames=3)
        with pytest.raises(SettingsError) as refusal:
            delivered_frames(settings, 3, 14)
        assert (refusal.value.field, refusal.value.remedy) == ("output_fps", "Ask for at least 15, or for more frames")
        assert delivered_frames(replace(settings, output_fps=15), 3, 14) == (2, 2)


def square(number: float) -> Pictures:
    picture = np.full((64, 96, 3), 60, np.uint8)
    picture[20:44, round(8 + number) : round(32 + number)] = (200, 80, 40)
    return picture


class TestInterpolated:
    def test_a_rate_three_times_as_high_has_the_frames_of_the_lower_one(self) -> None:
        settings = Settings(method="flow", frames=5)
        lower, higher = (
            next(one for one in flow.generate([square(0), square(12)], each, 8) if isinstance(one, Take))
            for each in (settings, replace(settings, output_fps=21))
        )
        assert (lower.fps, higher.fps) == (7, 21)
        np.testing.assert_array_equal(higher.frames[::3], lower.frames)
        assert not np.array_equal(higher.frames[1], lower.frames[0])

    def test_keyframes_stay_as_they_are(self) -> None:
        keyframes = [square(0), square(12), square(3)]
        made = list(mpd.inbetween(None, keyframes, Settings(method="flow", frames=4, output_fps=30)))
        take = made[-1]
        assert isinstance(take, Take)
        assert len(take.frames) == 27
        for place, keyframe in zip((0, 13, 26), keyframes, strict=True):
            np.testing.assert_array_equal(take.frames[place], keyframe)
        assert [one.step for one in made[:-1] if isinstance(one, Progress)] == [*range(1, 15), *range(1, 14)]


Asked = list[tuple[int, int, list[float]]]
FACTS = {"name": "dissolve", "license": None, "sha256": "aa"}


def recorder(asked: Asked) -> Any:
    """Make what notes which frames it was asked to go between, and dissolves."""

    def between(start: Pictures, end: Pictures, times: Sequence[float], tell: object) -> Generator[Frames, None, None]:
        assert start.dtype == end.dtype == np.uint8
        asked.append((int(start[0, 0, 0]), int(end[0, 0, 0]), list(times)))
        for time in times:
            yield start * np.float32(1 - time) + end * np.float32(time)

    return between


def sampled(settings: Settings, frames: int, bits: int = 8) -> Iterator[Progress | Take]:
    """Give takes whose frames are grey: ten times their number, and one more for each take."""
    for index, seed in enumerate(settings.seeds):
        yield Progress(index, len(settings.seeds), 0, 1, 1, 1, (index + 1) / len(settings.seeds), 0.5, lambda: None)
        levels = (np.arange(frames) * 10 + index).astype(np.uint8)
        grey = np.broadcast_to(levels[:, None, None, None], (frames, 4, 6, 3))
        yield Take(index, seed, grey.astype(np.uint16) * 257 if bits == 16 else grey.copy(), settings.fps)


def run(settings: Settings, bits: int = 8, keyframes: int = 2) -> tuple[list[Progress], list[Take], Asked]:
    made, wanted = (lengths(settings, keyframes, 5) for lengths in (segment_frames, delivered_frames))
    asked: Asked = []
    frames = total_frames(made, settings.loop)
    reports = list(retimed(sampled(settings, frames, bits), settings, made, wanted, recorder(asked), FACTS))
    return (
        [one for one in reports if isinstance(one, Progress)],
        [one for one in reports if isinstance(one, Take)],
        asked,
    )


class TestSampled:
    def test_sampled_frames_are_kept_and_the_others_lie_between_their_neighbours(self) -> None:
        _, (take,), asked = run(Settings(method="mpd", frames=5, output_fps=14))
        assert (take.fps, take.interpolator) == (14, FACTS)
        assert list(take.frames[:, 0, 0, 0]) == [0, 5, 10, 15, 20, 25, 30, 35, 40]
        assert asked == [(0, 10, [0.5]), (10, 20, [0.5]), (20, 30, [0.5]), (30, 40, [0.5])]

    def test_times_between_two_frames_are_asked_for_at_once_and_rise(self) -> None:
        _, (take,), asked = run(Settings(method="mpd", frames=5, output_fps=24))
        assert len(take.frames) == 15  # 4 steps of 1/7 s are 13.7 of 1/24 s
        places = [start / 10 + time for start, _, times in asked for time in times]
        assert places == sorted(places)
        np.testing.assert_allclose(sorted({*places, 0, 2, 4}), np.arange(15) * 4 / 14)
        assert [pair[:2] for pair in asked] == [(0, 10), (10, 20), (20, 30), (30, 40)]
        np.testing.assert_allclose(take.frames[:, 0, 0, 0], np.rint(np.arange(15) * 40 / 14), atol=1)

    def test_an_inner_keyframe_is_itself(self) -> None:
        settings = Settings(method="mpd", frames=5, output_fps=24)
        _, (take,), _ = run(settings, keyframes=3)
        (_, inner, _) = shown_keyframes(settings, delivered_frames(settings, 3, 5))
        assert take.frames[inner, 0, 0, 0] == 40

    def test_a_loop_goes_from_its_last_frame_to_its_first(self) -> None:
        _, (take,), asked = run(Settings(method="mpd", frames=3, loop=True, output_fps=14))
        assert list(take.frames[:, 0, 0, 0]) == [0, 5, 10, 15, 20, 25, 30, 15]
        assert asked[-1] == (30, 0, [0.5])

    def test_a_lower_rate_leaves_frames_out(self) -> None:
        _, (take,), asked = run(Settings(method="mpd", frames=5, fps=14, output_fps=7))
        assert list(take.frames[:, 0, 0, 0]) == [0, 20, 40]
        assert asked == []
        assert take.interpolator is None, "none of its frames"

    def test_16_bits_stay(self) -> None:
        _, (take,), _ = run(Settings(method="mpd", frames=2, output_fps=28), bits=16)
        assert take.frames.dtype == np.uint16
        assert list(take.frames[:, 0, 0, 0]) == [0, 642, 1285, 1928, 2570]

    def test_progress_rises_to_the_end_over_all_takes(self) -> None:
        told, takes, _ = run(Settings(method="mpd", frames=5, output_fps=14, seeds=(1, 2)))
        assert [take.seed for take in takes] == [1, 2]
        assert list(takes[1].frames[:2, 0, 0, 0]) == [1, 6]
        fractions = [one.fraction for one in told]
        assert fractions == sorted(fractions)
        assert fractions[-1] == pytest.approx(1)
        assert len(told) == 2 * (1 + 9)
        assert [one.take for one in told] == [0] * 10 + [1] * 10
        shown = told[-1].preview()
        assert shown is not None
        assert shown.shape == (4, 6, 3)

    def test_it_stops_where_it_is_closed(self) -> None:
        settings = Settings(method="mpd", frames=5, output_fps=24)
        made, wanted = (lengths(settings, 2, 5) for lengths in (segment_frames, delivered_frames))
        asked: Asked = []
        reports = retimed(sampled(settings, 5), settings, made, wanted, recorder(asked), FACTS)
        list(itertools.islice(reports, 3))
        reports.close()
        assert len(asked) == 1


class TestWhole:
    KEYFRAMES = ("examples/keyframes/arrow-start.png", "examples/keyframes/arrow-end.png")

    def test_a_model_and_the_network(self) -> None:
        model = mpd.load(sprites.PATH)
        plain = Settings(method="mpd", frames=5, steps=2)
        (before,) = (one for one in mpd.inbetween(model, self.KEYFRAMES, plain) if isinstance(one, Take))
        asked = replace(plain, output_fps=14, exact_keyframes=False)
        (take,) = (one for one in mpd.inbetween(model, self.KEYFRAMES, asked) if isinstance(one, Take))
        assert (len(take.frames), take.fps) == (9, 14)
        np.testing.assert_array_equal(take.frames[::2], before.frames)
        for place in (1, 3, 5, 7):
            middle = take.frames[place].astype(float)
            steps = [np.abs(middle - take.frames[other]).mean() for other in (place - 1, place + 1)]
            assert max(steps) < 1.2 * np.abs(take.frames[place - 1].astype(float) - take.frames[place + 1]).mean()

    def test_an_engine_that_holds_no_interpolator_says_so_before_it_samples(self) -> None:
        model = mpd.load(sprites.PATH)
        settings = Settings(method="mpd", output_fps=24)
        width, height = model.native_size
        with pytest.raises(SettingsError) as refusal:
            Held(model).generate([np.zeros((height, width, 3), np.uint8)] * 2, settings, 8)
        assert refusal.value.field == "output_fps"

    def test_an_engine_with_both_brings_them_together(self) -> None:
        model = mpd.load(sprites.PATH)
        width, height = model.native_size
        pictures = [np.full((height, width, 3), level, np.uint8) for level in (40, 200)]
        settings = Settings(method="mpd", frames=3, steps=1, output_fps=14)
        *_, take = Held(model, rife.load()).generate(pictures, settings, 8)
        assert isinstance(take, Take)
        assert take.frames.shape == (5, height, width, 3)
        assert take.interpolator is not None
        assert take.interpolator["name"] == "RIFE 4.0"

    def test_film_serves_as_well(self) -> None:
        from mpd import film

        class Stub(film.Film):
            def __init__(self) -> None:
                """Load nothing."""

        assert isinstance(retiming.by(Stub()), film.Maker)
