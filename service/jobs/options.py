"""What a request may say, as pydantic models: the options of a job, its keyframes, an upload.

What an option is stands in `service.jobs.request_options`, its fields are made from there. What one field alone cannot
show (a parameter that the method does not have, positions that do not rise) is checked in `mpd.methods`, when
`Options.settings` makes its `Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mpd.methods import LIMITS, METHODS, OPTIONS, Settings, SettingsError
from service.jobs import baseline
from service.jobs.option_fields import OptionFields
from service.jobs.strict import Strict

SETTINGS_FIELDS = frozenset(OPTIONS)
"""Names in a job's options that are `mpd.methods.Settings`; the others are the service's own."""


class Options(OptionFields):
    """Everything but the keyframes. All are optional; a null is the same as leaving the field out."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None or name not in cls.model_fields}

    @field_validator("seeds", "formats")
    @classmethod
    def _once(cls, values: list[Any] | None) -> list[Any] | None:
        if values is not None and len(set(values)) != len(values):
            raise ValueError("the same value stands here twice")
        return values

    def settings(self, positions: tuple[int, ...] | None = None) -> Settings:
        """Make the `Settings` that `mpd` is asked for.

        positions: the frame of each keyframe, when the request gives them.

        Raises `SettingsError`, whose field is an option's name, or `keyframes` for the positions.
        """
        values = self.model_dump(exclude_none=True, include=set(SETTINGS_FIELDS))
        if self.seed is not None:
            if self.seeds is not None:
                raise SettingsError("seed", "seed and seeds both name the takes", "Send one of the two")
            values["seeds"] = [self.seed]
        if self.loop_frame is not None and not (self.loop and positions):
            raise SettingsError(
                "loop_frame", "needs loop, and keyframes at given frames", "Send those too, or remove loop_frame"
            )
        if positions is not None:
            if self.loop and self.loop_frame is None:
                raise SettingsError(
                    "loop_frame",
                    "is missing: the keyframes stand at given frames and the video loops",
                    "Send the frame at which the first keyframe comes again, or remove loop",
                )
            values["positions"] = list(positions if self.loop_frame is None else (*positions, self.loop_frame))
        return Settings.from_json(values)

    def normalised(self, positions: tuple[int, ...] | None = None) -> dict[str, Any]:
        """Give the options as a `Job` has them: `Settings` as JSON, every default filled in, and the service's own.

        Those are `formats` and `reference`. `settings_of` reads them back. Raises as `settings`.
        """
        settings = self.settings(positions)
        values: dict[str, Any] = {name: getattr(settings, name) for name in sorted(SETTINGS_FIELDS)}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        values |= {"formats": list(self.formats), "reference": self.reference}
        return {
            name: value
            for name, value in values.items()
            if value is not None or baseline.OPTION_DEFAULTS[name] is not None
        }


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Take the `Settings` out of a job's options: what is not there means what it meant when the job was written down.

    Raises `SettingsError` for options that only a newer release knows.
    """
    for name in options:
        if name not in baseline.OPTION_DEFAULTS:
            raise SettingsError(name, "is known to newer releases alone", "Upgrade the workers, then send it again")
    return Settings.from_json({name: options.get(name, baseline.OPTION_DEFAULTS[name]) for name in SETTINGS_FIELDS})


IMAGE = (
    "An https URL, a data URI (`data:image/png;base64,…`), `upload:ID` from `POST /uploads`, or `job:ID/0`: the first "
    "keyframe of a job of yours."
)


class Keyframe(Strict):
    """One image of the timeline."""

    image: str = Field(min_length=1, description=IMAGE, examples=["https://example.com/a.jpg"])
    frame: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Where on the timeline it stands, from 0. Give it for every keyframe, or for none.",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Of the file. Where it is given, another file is refused.",
    )


class InbetweenRequest(Strict):
    """Keyframes and options. Name the images as `start` and `end`, or as a list of `keyframes`."""

    start: str | None = Field(default=None, min_length=1, description=f"First keyframe. {IMAGE}")
    end: str | None = Field(default=None, min_length=1, description=f"Last keyframe. {IMAGE}")
    keyframes: list[Keyframe] | None = Field(
        default=None,
        min_length=int(LIMITS["keyframes"].low),
        max_length=int(LIMITS["keyframes"].high),
        description=f"All keyframes in order, instead of `start` and `end`; {LIMITS['keyframes'].why}.",
    )
    options: Options = Options()
    result: dict[str, Any] | None = Field(
        default=None,
        description="Ignored. `metadata.json` says here what came of the request, and can be sent again as it is.",
    )

    @model_validator(mode="after")
    def _as_it_was(self) -> Self:
        """Keep the picture of a `metadata.json` from before segments could be joined, which says nothing of them.

        Nor does it say what steps and motion bucket are where they are left out.
        """
        method = self.options.method
        if self.result is None or "groups" in self.result or method is None or not METHODS[method].needs_model:
            return self
        first = baseline.OPTION_DEFAULTS
        if self.options.steps is None:
            self.options.steps = first["steps"]
        if self.options.motion_bucket_id is None:
            self.options.motion_bucket_id = first["motion_bucket_id"]
        several = self.options.loop or len(self.keyframes or ()) > 2
        if several and self.options.segments is None:
            self.options.segments = "chained"
        return self


class UploadRequest(Strict):
    """What is going to be uploaded."""

    content_type: Literal["image/jpeg", "image/png", "image/webp", "image/avif", "image/heic", "image/heif"] = Field(
        description="Of the file; the PUT must carry the same Content-Type."
    )
    size: int = Field(ge=1, le=2**40, description="Exact bytes of the file; the link takes neither more nor less.")
