"""What an engine holds: a base model, learned interpolators, or both; and which of them makes a job's frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd import loader, rife
from mpd.base import ModelError
from mpd.lengths import delivered_frames, segment_frames
from mpd.methods import METHODS, Settings, SettingsError
from mpd.progress import Pictures, Progress, Take
from mpd.rife import weights
from mpd.schedule import Schedule
from service.fleet import engines
from service.settings import ServiceSettings

if TYPE_CHECKING:
    import torch

    from mpd.base import Base
    from mpd.film import Film
    from mpd.rife.interpolator import Interpolator


class HeldError(Exception):
    """What a setting names cannot be held; the message is one line that begins with the setting's name."""


@dataclass(frozen=True)
class Held:
    """At least one is there."""

    model: Base | None
    rife: Interpolator | None = None
    film: Film | None = None

    def generate(self, pictures: list[Pictures], settings: Settings, bits: int) -> Iterator[Progress | Take]:
        """Make the frames of a job. Raises `SettingsError` for a method of what is not held."""
        method = METHODS[settings.method]
        if method.interpolator == "rife" and self.rife is not None:
            return rife.generate(self.rife, pictures, settings, bits)
        if method.interpolator == "film" and self.film is not None:
            from mpd import film

            return film.generate(self.film, pictures, settings, bits)
        if method.needs_model and self.model is not None:
            from mpd import segments

            sampled = segments.generate(self.model, pictures, settings, bits)
            return self._at_rate(sampled, self.model, pictures, settings)
        raise SettingsError(
            "method", f"{settings.method} is not held by this engine", f"Choose one of {', '.join(self.methods)}"
        )

    def _at_rate(
        self, reports: Iterator[Progress | Take], model: Base, pictures: list[Pictures], settings: Settings
    ) -> Iterator[Progress | Take]:
        """Bring sampled frames to the rate that is asked for. Raises `SettingsError` where no interpolator is held."""
        if not settings.retimed:
            return reports
        if not self._learned:
            problem = "needs an interpolator beside the model, which this engine does not hold"
            raise SettingsError("output_fps", problem, "Leave it out")
        from mpd import retiming

        made, wanted = (
            lengths(settings, len(pictures), model.native_frames) for lengths in (segment_frames, delivered_frames)
        )
        name, interpolator = next(iter(self._learned.items()))
        between, facts = retiming.by(interpolator), self.interpolators[name]
        return retiming.retimed(reports, settings, made, wanted, between, facts)

    @property
    def methods(self) -> tuple[str, ...]:
        """Name the methods that it can do."""
        from mpd import segments

        sampled = segments.methods(self.model) if self.model is not None else ()
        learned = [one.name for one in METHODS.values() if one.interpolator in self.interpolators]
        return (*learned, *sampled)

    @property
    def interpolators(self) -> dict[str, dict[str, Any]]:
        """Say of each learned interpolator what a result tells of it, by its name."""
        return {
            name: {**one.facts, "device": str(one.device), "dtype": str(one.dtype).removeprefix("torch.")}
            for name, one in self._learned.items()
        }

    @property
    def _learned(self) -> dict[str, Interpolator | Film]:
        """Give the interpolators by name, that for another rate first."""
        return {name: one for name, one in (("rife", self.rife), ("film", self.film)) if one is not None}


def interpolators(settings: ServiceSettings) -> tuple[str, ...]:
    """Name the interpolators that an engine with these settings holds. Raises `HeldError`."""
    try:
        with_rife = settings.rife != "off" and weights.find(settings.rife) is not None
    except weights.WeightsError as error:
        raise HeldError(f"RIFE: {error}") from error
    if settings.film and not Path(settings.film).expanduser().is_file():
        raise HeldError(f"FILM: {settings.film}: there is no such file")
    return (*(["rife"] if with_rife else []), *(["film"] if settings.film else []))


def anything(settings: ServiceSettings) -> bool:
    """Tell whether there is an engine with these settings. Raises `HeldError`."""
    return bool(settings.model) or bool(interpolators(settings))


def load(settings: ServiceSettings) -> Held:
    """Load what the settings name. Raises `HeldError`."""
    model = None
    if settings.model:
        try:
            model = loader.load(
                settings.model,
                revision=settings.model_revision,
                variant=settings.model_variant,
                device=settings.device,
                dtype=settings.dtype,
                accelerate=settings.accelerate,
                compile_cache=settings.compile_cache,
            )
        except ModelError as error:
            raise HeldError(f"MODEL: {error}") from error
    device = model.device if model is not None else settings.device
    return Held(model, _rife(settings, device), _film(settings, device))


def _rife(settings: ServiceSettings, device: str | torch.device) -> Interpolator | None:
    try:
        found = weights.find(settings.rife) if settings.rife != "off" else None
        if found is None:
            return None
        from mpd.rife.interpolator import Interpolator

        return Interpolator(found, device)
    except weights.WeightsError as error:
        raise HeldError(f"RIFE: {error}") from error


def _film(settings: ServiceSettings, device: str | torch.device) -> Film | None:
    if not settings.film:
        return None
    from mpd.film import Film

    try:
        return Film(settings.film, device)
    except weights.WeightsError as error:
        raise HeldError(f"FILM: {error}") from error


def model_facts(model: Base) -> dict[str, Any]:
    """Say what clients must know of a base model to prepare a job, and what a result tells of it."""
    return {
        "name": engines.shown_name(model.name),
        "revision": model.revision,
        "license": model.license,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "acceleration": model.acceleration,
        "native_frames": model.native_frames,
        "native_size": model.native_size,
        "size_multiple": model.size_multiple,
        "own_steps": model.schedule.own_steps,
    }


def capabilities(held: Held) -> dict[str, Any]:
    """Say what an engine publishes of what it holds (`service.fleet.engines.Engine`)."""
    methods = held.methods
    if held.model is None:
        return {"methods": methods}
    facts = model_facts(held.model)
    del facts["name"], facts["dtype"], facts["acceleration"], facts["own_steps"]
    width, height = held.model.native_size
    return {
        **facts,
        "model": engines.shown_name(held.model.name),
        "methods": methods,
        "max_frames": held.model.max_frames,
        "max_pixels": held.model.room.pixels if held.model.room else None,
        "max_volume": held.model.room.volume if held.model.room else None,
        "schedule": held.model.schedule if isinstance(held.model.schedule, Schedule) else None,
        "latent_share": math.prod(held.model.latent_shape(1, width, height)) / (width * height),
        "calibrated": held.model.calibration is not None,
    }
