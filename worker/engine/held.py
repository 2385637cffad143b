"""What an engine holds: a base model, the learned interpolator, or both; and which of them makes a job's frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpd import loader, rife
from mpd.methods import METHODS, Settings, SettingsError
from mpd.progress import Pictures, Progress, Take
from mpd.rife import weights
from service.fleet import engines
from service.settings import Settings as ServiceSettings

if TYPE_CHECKING:
    from mpd.base import Base
    from mpd.rife.interpolator import Interpolator


@dataclass(frozen=True)
class Held:
    """At least one of the two is there."""

    model: Base | None
    interpolator: Interpolator | None

    def generate(self, pictures: list[Pictures], settings: Settings, bits: int) -> Iterator[Progress | Take]:
        """Make the frames of a job. Raises `SettingsError` for a method of what is not held."""
        if METHODS[settings.method].interpolator is not None and self.interpolator is not None:
            return rife.generate(self.interpolator, pictures, settings, bits)
        if METHODS[settings.method].needs_model and self.model is not None:
            from mpd import segments

            return segments.generate(self.model, pictures, settings, bits)
        raise SettingsError(
            "method", f"{settings.method} is not held by this engine", f"Choose one of {', '.join(self.methods)}"
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """Name the methods that it can do."""
        from mpd import segments

        sampled = segments.methods(self.model) if self.model is not None else ()
        learned = [one.name for one in METHODS.values() if one.interpolator is not None] if self.interpolator else ()
        return (*learned, *sampled)

    @property
    def interpolators(self) -> dict[str, dict[str, Any]]:
        """Say of each learned interpolator what a result tells of it, by its name."""
        if self.interpolator is None:
            return {}
        facts = {**self.interpolator.facts, "device": str(self.interpolator.device)}
        return {"rife": {**facts, "dtype": str(self.interpolator.dtype).removeprefix("torch.")}}


def interpolates(settings: ServiceSettings) -> bool:
    """Tell whether an engine with these settings holds an interpolator. Raises `WeightsError`."""
    return settings.rife != "off" and weights.find(settings.rife) is not None


def anything(settings: ServiceSettings) -> bool:
    """Tell whether there is an engine with these settings. Raises `WeightsError`."""
    return bool(settings.model) or interpolates(settings)


def load(settings: ServiceSettings) -> Held:
    """Load what the settings name. Raises `ModelError` and `WeightsError`."""
    model = None
    if settings.model:
        model = loader.load(
            settings.model,
            revision=settings.model_revision,
            variant=settings.model_variant,
            device=settings.device,
            dtype=settings.dtype,
            accelerate=settings.accelerate,
            compile_cache=settings.compile_cache,
        )
    interpolator = None
    found = weights.find(settings.rife) if settings.rife != "off" else None
    if found is not None:
        from mpd.rife.interpolator import Interpolator

        interpolator = Interpolator(found, model.device if model is not None else settings.device)
    return Held(model, interpolator)


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
    }


def capabilities(held: Held) -> dict[str, Any]:
    """Say what an engine publishes of what it holds (`service.fleet.engines.Engine`)."""
    methods = held.methods
    if held.model is None:
        return {"methods": methods}
    facts = model_facts(held.model)
    del facts["name"], facts["dtype"], facts["acceleration"]
    return {
        **facts,
        "model": engines.shown_name(held.model.name),
        "methods": methods,
        "max_frames": held.model.max_frames,
        "max_pixels": held.model.room.pixels if held.model.room else None,
        "max_volume": held.model.room.volume if held.model.room else None,
    }
