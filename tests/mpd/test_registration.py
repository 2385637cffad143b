"""A method of one's own is known everywhere once it is registered, and one that lies about itself is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mpd
from mpd import Method, registration, segments
from mpd.base import Base
from mpd.lengths import denoiser_calls
from mpd.methods import METHODS, Distillation, Settings, SettingsError
from mpd.operators import euler, flip, pin
from mpd.progress import Frames, Pictures, Take
from mpd.samplers import HOSTS, Noise, Paths, mpd_step, svd_step, vibid_step
from mpd.segments import generate
from mpd.svd.model import Model
from tests.mpd.second_base import RandomWalk

OWN = Method("own", "One's own", "Both ends pinned.", host="own", calls_per_step=1)


def own_step(paths: Paths, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    """As `mpd` with the anchor `pin`."""
    x0_c, x0_u = paths.start(x, sigma, sigma_next > 0)
    assert paths.z_end is not None
    x0 = pin(pin(x0_c, 0, paths.z_start), -1, paths.z_end)
    return euler(x, x0, x0_u, sigma, sigma_next), x0


def frames_of(model: Base, pictures: list[Pictures], settings: Settings) -> Frames:
    *_, last = generate(model, pictures, settings)
    assert isinstance(last, Take)
    return last.frames.astype(int)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    methods, hosts = dict(METHODS), dict(HOSTS)
    yield
    for table, before in ((METHODS, methods), (HOSTS, hosts)):
        table.clear()
        table.update(before)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.needs_model])
def test_every_method_of_ours_is_what_it_says(name: str) -> None:
    method = METHODS[name]
    assert method.host is not None
    registration.check(method, HOSTS[method.host])
    for lie in (
        {"calls_per_step": 3},
        {"reverses_time": not method.reverses_time},
        {"uses_end": not method.uses_end},
    ):
        (field,) = lie
        with pytest.raises(ValueError, match=f"{name}: {field} is"):
            registration.check(replace(method, **lie), HOSTS[method.host])


def test_a_registered_method_samples(tiny_model: Model, pictures: list[Pictures]) -> None:
    with pytest.raises(SettingsError, match="unknown method 'own'"):
        Settings(method="own")
    mpd.register(OWN, own_step)
    settings = Settings(method="own", steps=3, frames=4)
    assert denoiser_calls(settings) == 3
    made = frames_of(tiny_model, pictures[:2], settings)
    known = frames_of(tiny_model, pictures[:2], replace(settings, method="mpd", anchor="pin"))
    other = frames_of(tiny_model, pictures[:2], replace(settings, method="mpd", anchor="rigid"))
    assert np.abs(made - known).max() <= 1  # the anchor adds and takes away again what is put in place here
    assert np.abs(made - other).max() > 1


def test_mpd_goes_over_a_registered_host(tiny_model: Model, pictures: list[Pictures]) -> None:
    mpd.register(OWN, own_step)
    over = replace(OWN, name="mpd-own", distillation=Distillation(gamma=0.5, k=2, lam=1.0, anchor="closure"))
    mpd.register(over)
    settings = Settings(method="mpd-own", steps=4, frames=2, k=1)
    assert denoiser_calls(settings) == 4 + 2
    calls: list[float] = []
    base: Base = Counted(tiny_model, calls)
    list(generate(base, pictures[:2], settings))
    assert len(calls) == 6


class Counted:
    """A model whose denoisers note the noise level of each call."""

    def __init__(self, model: Model, calls: list[float]) -> None:
        self._model, self._calls = model, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def denoiser(self, *arguments: Any) -> Any:
        denoiser = self._model.denoiser(*arguments)

        def noted(x: Tensor, sigma: float, need_uncond: bool = True) -> Any:
            self._calls.append(sigma)
            return denoiser(x, sigma, need_uncond)

        return noted


def test_a_step_is_given_what_it_names() -> None:
    asked: list[tuple[Any, Any, Any, Any]] = []

    def step(
        paths: Paths, x: Tensor, s: float, t: float, noise: Noise, lam: float, guidance: Any, anchor: str, own: int = 7
    ) -> tuple[Tensor, Tensor]:
        asked.append((guidance, lam, anchor, own))
        return own_step(paths, x + noise(x), s, t)

    plan = Distillation(gamma=0.0, k=0, lam=0.25, anchor="pin")
    mpd.register(replace(OWN, distillation=plan, guidance=(1.0, 4.0)), step)
    asked.clear()
    z = torch.zeros(1, 2, 2)
    paths = Paths(registration._Watched(), None, z, z)
    list(mpd.samplers.sample("own", paths, torch.zeros(3, 1, 2, 2), [1.0, 0.0], noise=torch.ones_like))
    assert asked == [((1.0, 4.0), 0.25, "pin", 7)]


def twice(paths: Paths, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    paths.start(x, sigma, False)
    return own_step(paths, x, sigma, sigma_next)


def sparing(paths: Paths, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    return (twice if sigma_next > 0 else own_step)(paths, x, sigma, sigma_next)


def backwards(paths: Paths, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    assert paths.z_end is not None
    x, x0 = own_step(replace(paths, z_start=paths.z_end, z_end=paths.z_start), flip(x), sigma, sigma_next)
    return flip(x), flip(x0)


def alone(paths: Paths, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    return own_step(replace(paths, z_end=paths.z_start), x, sigma, sigma_next)


def drawing(paths: Paths, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    x, x0 = own_step(paths, x, sigma, sigma_next)
    return x + torch.randn_like(x), x0


def shrinking(paths: Paths, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    x, x0 = own_step(paths, x, sigma, sigma_next)
    return x[1:], x0[1:]


def greedy(paths: Paths, x: Tensor, sigma: float, sigma_next: float, seed: int) -> tuple[Tensor, Tensor]:
    return own_step(paths, x, sigma, sigma_next)


@pytest.mark.parametrize(
    ("method", "step", "said"),
    [
        (OWN, twice, "calls_per_step is 1, and a step makes 2"),
        (OWN, sparing, "calls_per_step is 1, and a step makes 1 or 2"),
        (OWN, backwards, "reverses_time is False, and a step says True"),
        (OWN, alone, "uses_end is True, and a step says False"),
        (replace(OWN, uses_end=False), own_step, "uses_end is False, and a step says True"),
        (replace(OWN, min_keyframes=1), own_step, "min_keyframes has to be 2"),
        (OWN, drawing, "draws noise of its own"),
        (OWN, shrinking, "both shaped like x"),
        (OWN, greedy, "by name noise, guidance, lam, anchor, and this one is not: missing a required argument: 'seed'"),
        (OWN, svd_step, "asks for guidance"),
        (OWN, mpd_step, "asks for lam or anchor"),
        (OWN, None, "there is no host own"),
        (replace(OWN, host=None), own_step, "has no host"),
        (replace(OWN, host="trf"), own_step, "there is a host trf"),
        (replace(OWN, name="mpd"), own_step, "there is a method of this name"),
        (replace(OWN, name="flow"), own_step, "there is a method of this name"),
    ],
)
def test_what_is_not_so_is_refused_and_nothing_added(method: Method, step: Any, said: str) -> None:
    before = dict(METHODS), dict(HOSTS)
    with pytest.raises(ValueError, match=said):
        mpd.register(method, step)
    assert before == (METHODS, HOSTS)


def test_a_registered_two_path_method_is_refused_where_time_goes_one_way(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="own: there is no host"):
        mpd.register(replace(OWN, reverses_time=True, calls_per_step=2))
    mpd.register(replace(OWN, reverses_time=True), backwards)
    mpd.register(replace(OWN, name="vibid-again", host="vibid-again", reverses_time=True, calls_per_step=2), vibid_step)
    assert METHODS["own"].reverses_time
    assert {"own", "vibid-again"} <= set(segments.methods(tiny_model))
    assert segments.methods(RandomWalk("walk")) == ("svd", "mpd")


FILE = """
from __future__ import annotations
from dataclasses import dataclass
import mpd
from mpd.operators import euler, pin

@dataclass
class Pinned:
    last: int = -1

    def __call__(self, paths, x, sigma, sigma_next):
        x0, _ = paths.start(x, sigma, False)
        x0 = pin(x0, self.last, paths.z_end)
        return euler(x, x0, x0, sigma, sigma_next), x0

mpd.register(mpd.Method("pinned", "Pinned", "The last frame pinned.", host="pinned", calls_per_step=1), Pinned())
"""


def test_a_file_of_methods_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(FILE)
    registration.read_file(path)
    assert METHODS["pinned"].title == "Pinned"
    command = [sys.executable, "-m", "mpd", "--methods", str(path), "--list-methods"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pinned      Pinned                    25  The last frame pinned." in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("own.txt", FILE, "is no Python file"),
        ("own.py", None, r"cannot be run \(FileNotFoundError"),
        ("own.py", "1 +", r"cannot be run \(SyntaxError"),
        ("own.py", FILE.replace('"pinned"', '"mpd"', 1), r"cannot be run \(ValueError: mpd: there is a method"),
        ("own.py", "import mpd", "adds no method"),
    ],
)
def test_a_file_that_adds_nothing_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError, match=said) as refused:
        registration.read_file(tmp_path / name)
    assert refused.value.field == "methods"
    assert len(str(refused.value).splitlines()) == 1
