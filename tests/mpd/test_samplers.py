"""Every step against its literal equations: indices from 1 as in the papers, frame by frame, in float64 numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpd.lengths import denoiser_calls
from mpd.methods import METHODS, Distillation, Settings
from mpd.samplers import Paths, mpd_step, sample, svd_step, trf_step, vibid_step
from mpd.schedule import SVD_XT, karras, share_of_steps

Clip = NDArray[np.float64]
N = 6
SHAPE = (N, 2, 3, 4)
SIGMAS = karras(8, 0.05, 20.0)


def cond(clip: Clip, sigma: float, key: float) -> Clip:
    """An estimate that depends on all a denoiser sees: the frames' order, their neighbours, σ, the keyframe."""
    place = np.arange(1, len(clip) + 1).reshape(-1, 1, 1, 1)
    return np.tanh(clip / (1 + sigma)) * np.cos(place + key) + 0.3 * np.roll(clip, 1, 0) / (1 + sigma**2)


def uncond(clip: Clip, sigma: float) -> Clip:
    return 0.8 * np.tanh(clip / (2 + sigma))


class Toy:
    """A denoiser of the two functions above that counts its calls and remembers which needed x̂0_∅."""

    def __init__(self, key: float) -> None:
        self.key = key
        self.needs: list[bool] = []

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        self.needs.append(need_uncond)
        clip = x.double().numpy()
        x0_c = torch.from_numpy(cond(clip, sigma, self.key)).to(x.dtype)
        return x0_c, torch.from_numpy(uncond(clip, sigma)).to(x.dtype) if need_uncond else None


class Tape:
    """Noise in order of the calls, and a copy of all of it for the literal side."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.drawn: list[Clip] = []

    def __call__(self, like: Tensor) -> Tensor:
        self.drawn.append(self._rng.standard_normal(like.shape))
        return torch.from_numpy(self.drawn[-1]).to(like.dtype)


START, END = 0.3, 1.7


@pytest.fixture
def x() -> Clip:
    return 20 * np.random.default_rng(1).standard_normal(SHAPE)


@pytest.fixture
def z() -> tuple[Clip, Clip]:
    rng = np.random.default_rng(2)
    return rng.standard_normal(SHAPE[1:]), rng.standard_normal(SHAPE[1:])


@pytest.fixture
def paths(z: tuple[Clip, Clip]) -> Paths:
    return Paths(Toy(START), Toy(END), torch.from_numpy(z[0]), torch.from_numpy(z[1]))


def svd(x: Clip, s: float, t: float, low: float, high: float) -> Clip:
    c, u = cond(x, s, START), uncond(x, s)
    out = np.empty_like(x)
    for i in range(1, N + 1):
        w = low + (high - low) * (i - 1) / (N - 1)
        x0 = u[i - 1] + w * (c[i - 1] - u[i - 1])
        out[i - 1] = x[i - 1] + (t - s) * (x[i - 1] - x0) / s
    return out


def trf(x: Clip, s: float, t: float, low: float, high: float) -> Clip:
    y = x[::-1]
    c, u, c_end, u_end = cond(x, s, START), uncond(x, s), cond(y, s, END), uncond(y, s)
    out = np.empty_like(x)
    for i in range(1, N + 1):
        j = N + 1 - i
        w, w_end = low + (high - low) * (i - 1) / (N - 1), low + (high - low) * (j - 1) / (N - 1)
        forward = u[i - 1] + w * (c[i - 1] - u[i - 1])
        backward = u_end[j - 1] + w_end * (c_end[j - 1] - u_end[j - 1])
        a = 1 - (i - 1) / (N - 1)
        x0 = a * forward + (1 - a) * backward
        out[i - 1] = x[i - 1] + (t - s) * (x[i - 1] - x0) / s
    return out


def vibid(x: Clip, s: float, t: float, z: tuple[Clip, Clip], noise: Clip) -> Clip:
    c, u = cond(x, s, START), uncond(x, s)
    c[N - 1] = z[1]
    x = c + t * (x - u) / s
    x = x + math.sqrt(s**2 - t**2) * noise
    y = x[::-1]
    c, u = cond(y, s, END), uncond(y, s)
    c[N - 1] = z[0]
    y = c + t * (y - u) / s
    return y[::-1]


def mpd(x: Clip, s: float, t: float, z: tuple[Clip, Clip], lam: float, anchor: str) -> Clip:
    c, u = cond(x, s, START), uncond(x, s)
    x0 = np.empty_like(x)
    for i in range(1, N + 1):
        gain = {"rigid": 1.0, "pin": float(i == N), "closure": (i - 1) / (N - 1)}[anchor]
        x0[i - 1] = c[i - 1] + lam * gain * (z[1] - c[N - 1])
    x0[0] = z[0]
    return x0 + t / s * (x - u)


def close(ours: Tensor, literal: Clip) -> None:
    torch.testing.assert_close(ours, torch.from_numpy(np.ascontiguousarray(literal)), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(("s", "t"), [(20.0, 9.0), (0.4, 0.05), (0.4, 0.0)])
class TestStepsEqualTheirEquations:
    def test_svd(self, paths: Paths, x: Clip, s: float, t: float) -> None:
        close(svd_step(paths, torch.from_numpy(x), s, t, (1.0, 3.0))[0], svd(x, s, t, 1.0, 3.0))

    def test_trf(self, paths: Paths, x: Clip, s: float, t: float) -> None:
        close(trf_step(paths, torch.from_numpy(x), s, t, (1.0, 3.0))[0], trf(x, s, t, 1.0, 3.0))

    def test_vibid(self, paths: Paths, x: Clip, z: tuple[Clip, Clip], s: float, t: float) -> None:
        tape = Tape()
        ours = vibid_step(paths, torch.from_numpy(x), s, t, tape)[0]
        close(ours, vibid(x, s, t, z, tape.drawn[0]))

    @pytest.mark.parametrize("anchor", ["rigid", "pin", "closure"])
    def test_mpd(self, paths: Paths, x: Clip, z: tuple[Clip, Clip], s: float, t: float, anchor: str) -> None:
        ours = mpd_step(paths, torch.from_numpy(x), s, t, 0.5, anchor)[0]  # type: ignore[arg-type]
        close(ours, mpd(x, s, t, z, 0.5, anchor))


Host = Callable[[Clip, float, float, Callable[[], Clip]], Clip]


def composed(x: Clip, z: tuple[Clip, Clip], d: Distillation, host: Host, noise: Callable[[], Clip]) -> Clip:
    """Algorithm 1 as the reference runs it, with the handover."""
    steps = len(SIGMAS) - 1
    for i in range(steps):
        s, t = SIGMAS[i], SIGMAS[i + 1]
        if i < d.gamma * steps:
            for _ in range(d.k):
                x = mpd(x, s, t, z, d.lam, d.anchor)
                x = x + math.sqrt(s**2 - t**2) * noise()
        x = mpd(x, s, t, z, d.lam, d.anchor) if i < d.handover * steps else host(x, s, t, noise)
    return x


@pytest.mark.parametrize("handover", [0.0, 0.5])
@pytest.mark.parametrize("method", ["trf", "vibid", "mpd-trf", "mpd-vibid"])
def test_mpd_is_a_composition_over_its_host(
    method: str, handover: float, paths: Paths, x: Clip, z: tuple[Clip, Clip]
) -> None:
    base = METHODS[method].distillation or Distillation(0.0, 0, 0.0, "rigid")
    plan = replace(base, handover=handover)
    tape = Tape()
    final = last(method, paths, x, tape, plan)
    recorded = iter(tape.drawn)

    def host(clip: Clip, s: float, t: float, noise: Callable[[], Clip]) -> Clip:
        return vibid(clip, s, t, z, noise()) if method.endswith("vibid") else trf(clip, s, t, 1.0, 3.0)

    close(final, composed(x, z, plan, host, lambda: next(recorded)))
    assert next(recorded, None) is None


@pytest.mark.parametrize(("gamma", "k"), [(0.0, 0), (0.5, 2)])
@pytest.mark.parametrize("anchor", ["rigid", "pin", "closure"])
def test_the_host_free_method(anchor: str, gamma: float, k: int, paths: Paths, x: Clip, z: tuple[Clip, Clip]) -> None:
    plan = Distillation(gamma, k, 0.8, anchor)  # type: ignore[arg-type]
    tape = Tape()
    final = last("mpd", replace(paths, end=None), x, tape, plan)
    recorded = iter(tape.drawn)
    literal = composed(x, z, plan, lambda clip, s, t, _: mpd(clip, s, t, z, 0.8, anchor), lambda: next(recorded))
    close(final, literal)


def last(method: str, paths: Paths, x: Clip, tape: Tape, plan: Distillation | None = None) -> Tensor:
    *_, step = sample(method, paths, torch.from_numpy(x), SIGMAS, distillation=plan, noise=tape)
    return step.x


def test_steps_are_numbered_and_name_the_level_reached(paths: Paths, x: Clip) -> None:
    steps = list(sample("trf", paths, torch.from_numpy(x), SIGMAS, noise=Tape()))
    assert [step.index for step in steps] == list(range(8))
    assert {step.total for step in steps} == {8}
    assert [step.sigma for step in steps] == SIGMAS[1:]
    torch.testing.assert_close(steps[-1].x, steps[-1].x0)


CALLS = {"svd": 25, "trf": 50, "vibid": 50, "mpd-trf": 66, "mpd-vibid": 65, "mpd": 25}


@pytest.mark.parametrize(("method", "calls"), CALLS.items())
def test_denoiser_calls_at_25_steps(method: str, calls: int, x: Clip, z: tuple[Clip, Clip]) -> None:
    start, end = Toy(START), Toy(END)
    paths = Paths(start, end, torch.from_numpy(z[0]), torch.from_numpy(z[1]))
    list(sample(method, paths, torch.from_numpy(x), karras(25, 0.002, 700.0), noise=Tape()))
    assert len(start.needs) + len(end.needs) == calls == denoiser_calls(Settings(method=method))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(method="mpd-vibid", handover=0.5),
        Settings(method="mpd-trf", handover=1.0, gamma=0.28, k=3),
        Settings(method="mpd", gamma=0.4, k=2),
        Settings(method="mpd-vibid", gamma=1.0, k=1, steps=7),
    ],
)
def test_denoiser_calls_as_announced(settings: Settings, x: Clip, z: tuple[Clip, Clip]) -> None:
    start, end = Toy(START), Toy(END)
    paths = Paths(start, end, torch.from_numpy(z[0]), torch.from_numpy(z[1]))
    sigmas = SVD_XT.sigmas(settings.steps)
    plan = settings.distillation
    list(sample(settings.method, paths, torch.from_numpy(x), sigmas, distillation=plan, noise=Tape()))
    assert len(start.needs) + len(end.needs) == denoiser_calls(settings)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(method="mpd", anchor="field", steps=6),
        Settings(method="mpd", anchor="field", gamma=0.5, k=2, steps=5),
        Settings(method="mpd-vibid", anchor="field", steps=10),
        Settings(method="mpd-trf", anchor="field", handover=0.4, steps=10),
    ],
)
def test_the_field_takes_half_a_call_more_for_each_mpd_step(settings: Settings, x: Clip, z: tuple[Clip, Clip]) -> None:
    counted = []
    for anchor in ("closure", settings.anchor):
        asked = replace(settings, anchor=anchor)
        start, end = Toy(START), Toy(END)
        paths = Paths(start, end, torch.from_numpy(z[0]), torch.from_numpy(z[1]))
        sigmas = SVD_XT.sigmas(settings.steps)
        plan = asked.distillation
        list(sample(settings.method, paths, torch.from_numpy(x), sigmas, distillation=plan, noise=Tape()))
        counted.append((len(start.needs) + len(end.needs), denoiser_calls(asked)))
    (calls, announced), (with_field, announced_then) = counted
    assert calls == announced
    assert with_field > calls
    assert announced_then == announced + math.ceil((with_field - calls) / 2)


def test_the_unconditional_estimate_is_asked_for_only_where_it_counts(x: Clip, z: tuple[Clip, Clip]) -> None:
    def needs(method: str, guidance: tuple[float, float] | None = None) -> list[bool]:
        toy = Toy(START)
        paths = Paths(toy, Toy(END), torch.from_numpy(z[0]), torch.from_numpy(z[1]))
        list(sample(method, paths, torch.from_numpy(x), SIGMAS, guidance=guidance, noise=Tape()))
        return toy.needs

    assert needs("vibid") == [True] * 7 + [False]
    assert needs("mpd") == [True] * 7 + [False]
    assert needs("svd") == [True] * 8
    assert needs("svd", (1.0, 1.0)) == [False] * 8
    assert needs("trf", (1.0, 2.0)) == [True] * 8


def test_which_steps_are_early_is_exact() -> None:
    assert [share_of_steps(share, 25) for share in (0.0, 0.2, 0.28, 0.3, 1.0)] == [0, 5, 7, 8, 25]
    assert 0.28 * 25 > 7  # what floating point would have said


def test_a_two_path_method_without_its_end_is_refused(paths: Paths, x: Clip) -> None:
    with pytest.raises(ValueError, match="end keyframe"):
        list(sample("trf", replace(paths, end=None), torch.from_numpy(x), SIGMAS, noise=Tape()))
    with pytest.raises(ValueError, match="samples nothing"):
        list(sample("flow", paths, torch.from_numpy(x), SIGMAS, noise=Tape()))
