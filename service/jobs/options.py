"""What a request may say, as pydantic models: the options of a job, its keyframes, an upload.

The bounds and their reasons come from `mpd.methods`; what one field alone cannot show (a parameter that the method
does not have, positions that do not rise) is checked there too, when `Options.settings` makes its `Settings`.
Strict: a number in quotes is no number, an unknown field is refused by name.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mpd.methods import LIMITS, Anchor, Fit, Settings, SettingsError
from mpd.output.formats import FORMATS

MethodName = Literal["flow", "svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"]
Format = Literal["mp4", "webm", "gif", "apng", "webp", "png", "png16", "prores", "prores4444"]
Priority = Literal["high", "default", "low"]
EventType = Literal["inbetween.succeeded", "inbetween.failed", "inbetween.canceled"]
EVENT_TYPES: tuple[EventType, ...] = ("inbetween.succeeded", "inbetween.failed", "inbetween.canceled")

RESULT_TTL = (60, 31_536_000)
SETTINGS_FIELDS = frozenset(field.name for field in fields(Settings))
"""Names in a job's options that are `mpd.methods.Settings`; the others are the service's own."""


def _bounded(name: str, description: str, default: Any = None) -> Any:
    """A number within its `LIMITS`, whose reason goes into the description."""
    limit = LIMITS[name]
    low, high = (int(end) if float(end).is_integer() else end for end in (limit.low, limit.high))
    return Field(default, ge=low, le=high, description=f"{description} {low} to {high}: {limit.why}.")


Seed = Annotated[int, Field(ge=int(LIMITS["seeds"].low), le=int(LIMITS["seeds"].high))]
Scale = Annotated[float, Field(ge=LIMITS["guidance"].low, le=LIMITS["guidance"].high)]


def _every_event() -> list[EventType]:
    return list(EVENT_TYPES)


def _only_mp4() -> list[Format]:
    return ["mp4"]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        """JSON knows one kind of number: 25.0 is the whole number 25."""
        return [_whole(entry) for entry in value] if isinstance(value, list) else _whole(value)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Webhook(Strict):
    """Where to send a signed event when the job is over."""

    url: str = Field(
        min_length=1,
        max_length=2000,
        description="Receives a POST signed as Standard Webhooks describe; the operator gives you the secret "
        "(`inbetween-server keys webhook-secret OWNER`). https, unless the operator allows the host.",
        examples=["https://example.com/hooks/inbetween"],
    )
    events: list[EventType] = Field(
        default_factory=_every_event, min_length=1, max_length=3, description="Which events to send. Default: all."
    )


class Options(Strict):
    """Everything but the keyframes. All are optional; a null is the same as leaving the field out."""

    method: MethodName | None = Field(
        default=None,
        description="How the frames are made; `GET /methods` describes each, and names this server's default.",
        examples=["mpd-vibid"],
    )
    frames: int | None = _bounded(
        "frames", "Frames of each segment, both its keyframes included. Default: the model's own number.", None
    )
    steps: int = _bounded("steps", "Sampling steps.", 25)
    seed: int | None = _bounded("seeds", "Shorthand for `seeds` with one seed. Default 0.", None)
    seeds: list[Seed] | None = Field(
        default=None,
        min_length=int(LIMITS["takes"].low),
        max_length=int(LIMITS["takes"].high),
        description=f"One take per seed, each used once; {LIMITS['takes'].why}.",
        examples=[[1, 2]],
    )
    width: int | None = _bounded("width", "Width of the sampled frames, with `height`. Default: the model's own.", None)
    height: int | None = _bounded("height", "Height of the sampled frames, with `width`.", None)
    fit: Fit = Field(
        default="cover", description="How a keyframe of another shape is made to fit: crop, bars, or distort."
    )
    background: str = Field(
        default="#000000", pattern=r"^#[0-9a-fA-F]{6}$", description="Colour under transparent pixels and of the bars."
    )
    loop: bool = Field(default=False, description="Return to the first keyframe at the end, so that the video repeats.")
    exact_keyframes: bool = Field(
        default=False,
        description="Show the keyframes' own pixels at their frames, where a model has made its own of them.",
    )
    loop_frame: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="With `loop` and keyframes at given frames: the frame at which the first keyframe comes again.",
    )
    fps: int = _bounded("fps", "Frames per second of the video.", 7)
    motion_bucket_id: int = _bounded("motion_bucket_id", "How much motion the model is asked for.", 127)
    noise_aug_strength: float = _bounded("noise_aug_strength", "Noise added to the conditioning keyframe.", 0.02)
    gamma: float | None = _bounded(
        "gamma", "MPD: share of the early steps that are distilled. Default: the method's.", None
    )
    k: int | None = _bounded("k", "MPD: rounds at each early step. Default: the method's.", None)
    lam: float | None = _bounded("lam", "MPD: weight λ of the distilled estimate. Default: the method's.", None)
    anchor: Anchor | None = Field(
        default=None, description="MPD: how the end keyframe's error is spread over the frames."
    )
    handover: float | None = _bounded(
        "handover", "MPD: share of the early steps in which the MPD step replaces the host's step.", None
    )
    guidance: list[Scale] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="Guidance scale at the first and the last frame, for methods that have one.",
        examples=[[1.0, 3.0]],
    )
    formats: list[Format] = Field(
        default_factory=_only_mp4,
        min_length=1,
        max_length=len(FORMATS),
        description="What to deliver: "
        + "; ".join(f"`{one.name}`, {one.description}" for one in FORMATS.values())
        + ". Transparency that all keyframes have is kept in "
        + ", ".join(f"`{one.name}`" for one in FORMATS.values() if one.alpha)
        + "; elsewhere `background` shows through.",
        examples=[["mp4", "gif"]],
    )
    priority: Priority = Field(default="default", description="Which line the job waits in.")
    result_ttl: int | None = Field(
        default=None,
        ge=RESULT_TTL[0],
        le=RESULT_TTL[1],
        description="Seconds the finished job and its files are kept. Default: the server's.",
    )
    webhook: Webhook | None = None
    reference: str | None = Field(
        default=None,
        max_length=200,
        description="Your own name for the job; comes back unchanged.",
        examples=["shot-012"],
    )

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
        """What `mpd` is asked for. `positions`: the frame of each keyframe, when the request gives them.

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
        """The options as a job's record keeps them: `Settings` as JSON, every default filled in, and the
        service's `formats` and `reference`. `settings_of` reads them back. Raises as `settings`.
        """
        settings = self.settings(positions)
        values: dict[str, Any] = {name: getattr(settings, name) for name in sorted(SETTINGS_FIELDS)}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        values |= {"formats": list(self.formats), "reference": self.reference}
        return {name: value for name, value in values.items() if value is not None}


def settings_of(options: dict[str, Any]) -> Settings:
    """The `Settings` within the options of a job's record."""
    return Settings.from_json({name: value for name, value in options.items() if name in SETTINGS_FIELDS})


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


class UploadRequest(Strict):
    """What is going to be uploaded."""

    content_type: Literal["image/jpeg", "image/png", "image/webp", "image/avif", "image/heic", "image/heif"] = Field(
        description="Of the file; the PUT must carry the same Content-Type."
    )
    size: int = Field(ge=1, le=2**40, description="Exact bytes of the file; the link takes neither more nor less.")
