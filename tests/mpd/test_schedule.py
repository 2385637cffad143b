"""Noise levels, and which of them are early."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpd import hub
from mpd.lengths import denoiser_calls
from mpd.methods import Distillation, Settings
from mpd.schedule import NUMBERS, SVD_XT, Schedule, early_level, early_steps, karras
from mpd.sprites import PATH


def test_equals_the_published_formula() -> None:
    sigmas = karras(25, 0.002, 700.0)
    literal = [(700 ** (1 / 7) + i / 24 * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7 for i in range(25)]
    assert sigmas == pytest.approx([*literal, 0], rel=1e-12)


def test_ends_are_exact_and_levels_fall() -> None:
    sigmas = karras(10, 0.002, 700.0)
    assert sigmas[0] == pytest.approx(700)
    assert sigmas[-2] == pytest.approx(0.002)
    assert sigmas[-1] == 0
    assert sigmas == sorted(sigmas, reverse=True)


def test_one_step_goes_from_the_top_to_zero() -> None:
    assert karras(1, 0.002, 700.0) == pytest.approx([700.0, 0.0])


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.28, 0.3, 0.5, 1.0])
def test_by_noise_the_early_steps_of_svd_xt_at_its_size_are_those_by_steps(gamma: float) -> None:
    by_steps, by_noise = (Distillation(gamma, 1, 1.0, "rigid", gamma_in=way) for way in ("steps", "noise"))
    sigmas = SVD_XT.sigmas(25)
    assert early_steps(by_noise, sigmas, NUMBERS) == early_steps(by_steps, sigmas, NUMBERS)


@pytest.mark.parametrize(("gamma", "ends"), [(0.2, 182.55), (0.3, 70.54)])
def test_by_noise_they_end_lower_the_fewer_numbers_there_are(gamma: float, ends: float) -> None:
    assert early_level(gamma, NUMBERS) == pytest.approx(ends, abs=0.01)
    assert early_level(gamma, NUMBERS / 4) == pytest.approx(ends / 2, abs=0.01)
    plan = Distillation(gamma, 1, 1.0, "rigid", gamma_in="noise")
    for sigmas in (SVD_XT.sigmas(25), SVD_XT.sigmas(60), karras(15, 0.002, 40.0)):
        for numbers in (12 * 4 * 8 * 8, NUMBERS / 4, NUMBERS, 4 * NUMBERS):
            early = early_steps(plan, sigmas, numbers)
            level = early_level(gamma, numbers)
            assert [sigma > level for sigma in sigmas[:-1]] == [True] * early + [False] * (len(sigmas) - 1 - early)
    assert early_level(0.0, 1.0) == float("inf")
    assert early_level(1.0, NUMBERS) == 0


def test_a_model_has_a_schedule_of_its_own_where_the_steps_are_left_open() -> None:
    own = Schedule(0.002, 700.0, own_steps=15, own_sigma_max=40.0)
    assert own.sigmas(None) == karras(15, 0.002, 40.0)
    assert own.sigmas(15) == karras(15, 0.002, 700.0)
    assert SVD_XT.sigmas(None) == SVD_XT.sigmas(25)


def test_calls_follow_the_schedule_and_the_size() -> None:
    own = Schedule(0.002, 700.0, own_steps=15, own_sigma_max=40.0)
    assert denoiser_calls(Settings(method="mpd"), own) == 15
    assert denoiser_calls(Settings(method="mpd", steps=9), own) == 9
    by_noise = Settings(method="mpd-vibid", gamma_in="noise", steps=25)
    assert denoiser_calls(by_noise) == 65
    small = 12 * 4 * 8 * 8
    early = sum(sigma > 182.55 * (small / NUMBERS) ** 0.5 for sigma in SVD_XT.sigmas(25)[:-1])
    assert early > 8
    assert denoiser_calls(by_noise, numbers=[small, NUMBERS]) == 50 + 3 * early + 65


def test_the_card_of_the_model_that_ships_names_its_schedule(tmp_path: Path) -> None:
    assert hub.own_schedule(PATH / "README.md") == (15, 40.0)
    card = tmp_path / "README.md"
    assert hub.own_schedule(card) is None
    card.write_text("---\ninbetween_schedule: 20\n---\n")
    with pytest.raises(ValueError, match="15 from 40"):
        hub.own_schedule(card)
