"""Inbetweening by Motion Prior Distillation: two keyframes in, the video between them out.

    model = mpd.load("stabilityai/stable-video-diffusion-img2vid-xt", variant="fp16")
    for report in mpd.inbetween(model, ["a.jpg", "b.jpg"], mpd.Settings(method="mpd-vibid")):
        ...  # mpd.Progress after every step, mpd.Take at the end

Importing this loads no torch: each name is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpd.base import Base, ModelError
    from mpd.inbetween import inbetween
    from mpd.loader import load
    from mpd.methods import DEFAULT_METHOD, METHODS, Distillation, Method, Settings, SettingsError
    from mpd.photographs import KeyframeError
    from mpd.progress import Progress, Take
    from mpd.registration import register

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "Base",
    "Distillation",
    "KeyframeError",
    "Method",
    "ModelError",
    "Progress",
    "Settings",
    "SettingsError",
    "Take",
    "inbetween",
    "load",
    "register",
]

_HOMES = {
    "DEFAULT_METHOD": "methods",
    "METHODS": "methods",
    "Base": "base",
    "Distillation": "methods",
    "KeyframeError": "photographs",
    "Method": "methods",
    "ModelError": "base",
    "Progress": "progress",
    "Settings": "methods",
    "SettingsError": "methods",
    "Take": "progress",
    "inbetween": "inbetween",
    "load": "loader",
    "register": "registration",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mpd' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mpd.{_HOMES[name]}"), name)


class _Package(ModuleType):
    """Keeps `mpd.inbetween` the function, though importing the module of that name would put the module there."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "inbetween" and isinstance(value, ModuleType):
            value = value.inbetween
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
