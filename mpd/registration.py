"""Methods of one's own: a method and its host's step are tried, found to be what they say, and added.

Knows nothing of models: the trial is a few frames of a toy whose denoiser gives back what it is given.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mpd.methods import METHODS, Method, SettingsError
from mpd.samplers import HOSTS, OFFERED, Host, Paths, asked, bound

FRAMES = 6
LEVELS = ((8.0, 2.0), (2.0, 0.0))
"""Steps that a host is tried on: one between two noise levels, and the last."""


def register(method: Method, step: Host | None = None) -> None:
    """Add a method, so that settings, samplers, estimates and the command line know it until the process ends.

    step: the ordinary step of `method.host`, `(paths, x, sigma, sigma_next)` to x at sigma_next and the estimate x̂0 it
        went by; what it names beside them of `noise`, `guidance`, `lam` and `anchor` it is given. None where the
        host is there already, as for MPD over it.
    Raises `ValueError` for a name that is taken, and for a method that its step does not bear out.
    """
    if method.name in METHODS:
        raise ValueError(f"{method.name}: there is a method of this name; choose another")
    if method.host is None:
        raise ValueError(f"{method.name}: has no host, and only a method that samples can be added; name one")
    host = HOSTS.get(method.host)
    if host is not None and step is not None:
        raise ValueError(f"{method.name}: there is a host {method.host}; leave step out, or name another host")
    host = host or step
    if host is None:
        raise ValueError(f"{method.name}: there is no host {method.host}; give its step")
    check(method, host)
    HOSTS[method.host] = host
    METHODS[method.name] = method


def read_file(path: str | Path) -> None:
    """Run a Python file that registers methods. Raises `SettingsError` where it cannot, or registers none."""
    before = len(METHODS)
    name = f"mpd_methods_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError("methods", f"{path} is no Python file", "Name a file that ends in .py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SettingsError("methods", f"{path} cannot be run ({reason})", "Give a file that runs") from error
    if len(METHODS) == before:
        raise SettingsError("methods", f"{path} adds no method", "Let it call mpd.register")


def check(method: Method, host: Host) -> None:
    """Try a host, and raise `ValueError` for whatever it does that the method does not say, or the other way round."""
    _check_parameters(method, host)
    tries = [_HostStep(method.name, host, *levels) for levels in LEVELS]
    calls = {one.calls for one in tries}
    if calls != {method.calls_per_step}:
        counted = " or ".join(map(str, sorted(calls)))
        raise ValueError(f"{method.name}: calls_per_step is {method.calls_per_step}, and a step makes {counted}")
    reverses = any(one.reversed for one in tries)
    if reverses != method.reverses_time:
        raise ValueError(f"{method.name}: reverses_time is {method.reverses_time}, and a step says {reverses}")
    uses_end = method.distillation is not None or any(one.uses_end for one in tries)
    if uses_end != method.uses_end:
        raise ValueError(f"{method.name}: uses_end is {method.uses_end}, and a step says {uses_end}")
    if uses_end and method.min_keyframes < 2:
        raise ValueError(f"{method.name}: uses the end keyframe, so that min_keyframes has to be 2 or more")


def _check_parameters(method: Method, host: Host) -> None:
    names = asked(host)
    try:
        inspect.signature(host).bind("paths", "x", "sigma", "sigma_next", **dict.fromkeys(names))
    except TypeError as error:
        offered = f"paths, x, sigma, sigma_next, and by name {', '.join(OFFERED)}"
        raise ValueError(f"{method.name}: a step is called with {offered}, and this one is not: {error}") from error
    if "guidance" in names and method.guidance is None:
        raise ValueError(f"{method.name}: a step asks for guidance, and the method has none; give its default ramp")
    if {"lam", "anchor"} & set(names) and method.distillation is None:
        raise ValueError(f"{method.name}: a step asks for lam or anchor, and the method has no distillation; give one")


@dataclass
class _Watched:
    """A denoiser that gives back what it is given, counts its calls, and sees frames that come in the wrong order."""

    calls: int = 0
    reversed: bool = False

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        self.calls += 1
        first, *_, last = x.mean((1, 2, 3)).tolist()
        self.reversed = self.reversed or last < first
        return x, x if need_uncond else None


class _HostStep:
    """One step of a host on frames that grow brighter, and what was seen of it.

    Raises `ValueError` for a result that is none, or another one every time.
    """

    def __init__(self, name: str, host: Host, sigma: float, sigma_next: float) -> None:
        step = bound(host, {"noise": torch.zeros_like, "guidance": (1.0, 2.0), "lam": 1.0, "anchor": "rigid"})
        x = torch.arange(FRAMES, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 4, 2, 2).contiguous()
        start, end = _Watched(), _Watched()
        paths = Paths(start, end, x[0], x[-1])
        result = step(paths, x.clone(), sigma, sigma_next)
        self.calls = start.calls + end.calls
        self.reversed = start.reversed or end.reversed
        if not isinstance(result, tuple) or [getattr(part, "shape", None) for part in result] != [x.shape] * 2:
            raise ValueError(f"{name}: a step has to give x at sigma_next and the estimate x0, both shaped like x")
        if not torch.equal(step(paths, x.clone(), sigma, sigma_next)[0], result[0]):
            raise ValueError(
                f"{name}: a step draws noise of its own, so that no seed gives a video again; ask for noise"
            )
        other = step(Paths(start, end, x[0], x[-1] + 1), x.clone(), sigma, sigma_next)
        self.uses_end = end.calls > 0 or not torch.equal(other[0], result[0])
