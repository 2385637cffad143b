"""What the API answers, as pydantic models: the schemas of the OpenAPI document. `views.py` makes them of records."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mpd.options import Group, OptionKind

StateName = Literal["queued", "running", "succeeded", "failed", "canceled"]


class Fault(BaseModel):
    """One field at fault."""

    field: str
    detail: str
    remedy: str


class ProblemView(BaseModel):
    """An error (RFC 9457). Decide by `type`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/invalid-request",
                    "title": "The request has a field that cannot be used",
                    "status": 422,
                    "detail": "Input should be greater than or equal to 2.",
                    "field": "options.frames",
                    "remedy": "Send a number from 2 to 241: both keyframes are frames of the segment.",
                }
            ]
        },
    )

    type: str = Field(description="Stable name of the kind of problem; `GET` it for an explanation.")
    title: str
    status: int
    detail: str = Field(description="What is wrong with this request.")
    field: str | None = Field(default=None, description="The field at fault, such as `options.frames`.")
    remedy: str | None = Field(default=None, description="What to send instead.")
    errors: list[Fault] | None = Field(default=None, description="Every field at fault, where there may be several.")
    request_id: str | None = Field(default=None, description="Names the request in the server's log.")


class Links(BaseModel):
    """Where to go from here; the last five only once there is a result."""

    self: str
    cancel: str
    events: str
    video: str | None = None
    poster: str | None = None
    contact_sheet: str | None = None
    metadata: str | None = None
    frame: str | None = Field(default=None, description="One frame; replace `{n}` by its number from 0.")


class KeyframeView(BaseModel):
    """A keyframe as it was received. width, height: after EXIF rotation."""

    url: str = Field(description="Signed and short-lived.")
    content_type: str
    width: int
    height: int
    size: int
    sha256: str
    frame: int | None = Field(default=None, description="Its place on the timeline, where the request gave one.")


class ProgressView(BaseModel):
    """How far a running job is."""

    model_config = ConfigDict(extra="allow")

    stage: str | None = Field(default=None, description="Such as `fetching`, `sampling`, `encoding`, `uploading`.")
    fraction: float | None = Field(default=None, description="Share of the whole job's steps done, from 0 to 1.")
    step: int | None = Field(default=None, ge=1, description="From 1 to `steps`.")
    steps: int | None = Field(default=None, ge=1)
    take: int | None = Field(default=None, ge=1, description="From 1 to `takes`.")
    takes: int | None = Field(default=None, ge=1)
    eta: float | None = Field(default=None, description="Seconds left, as far as can be told.")


class FileView(BaseModel):
    """A file of a finished job. take: from 1; null for a file of the whole job."""

    name: str
    take: int | None
    format: str
    content_type: str
    size: int
    sha256: str
    url: str = Field(description="Signed and short-lived; needs no API key.")


class MotionView(BaseModel):
    """How far the motion between the keyframes is to be believed, of the worst segment."""

    model_config = ConfigDict(extra="allow")

    trusted: float = Field(
        description="Share of the pixels that do not stand still whose motion both keyframes agree on, from 0 to 1."
    )
    dissolved: float = Field(description="Share of the same that are dissolved rather than moved, from 0 to 1.")
    largest: float = Field(description="Pixels that the furthest trusted motion goes.")
    says: str = Field(description="The same in one sentence.")


class ShownKeyframe(BaseModel):
    """Where the video shows a keyframe."""

    model_config = ConfigDict(extra="allow")

    sha256: str
    frame: int | None = Field(default=None, description="Of the video, from 0; null where the method shows it nowhere.")


class ResultView(BaseModel):
    """The finished video, with everything needed to make it again."""

    model_config = ConfigDict(extra="allow")

    frames: int
    fps: int
    width: int
    height: int
    duration: float = Field(description="Seconds.")
    alpha: bool = Field(default=False, description="Whether the formats that can hold transparency have it.")
    seeds: list[int] = Field(description="One per take.")
    settings: dict[str, Any] = Field(description="What the sampler was asked for, the method's own values included.")
    model: dict[str, Any] | None = Field(default=None, description="The model that made it; null for `flow`.")
    interpolator: dict[str, Any] | None = Field(
        default=None, description="What made frames between the model's, for another rate; null where nothing did."
    )
    background: str | None = Field(default=None, description="What transparent pixels and bars were laid over.")
    motion: MotionView | None = Field(default=None, description="Null for sampled methods, which measure none.")
    warnings: list[str] = Field(default=[], description="What to know before trusting the video, in sentences.")
    keyframes: list[ShownKeyframe] = Field(default=[], description="In the order of the request.")
    groups: list[list[int]] = Field(
        default=[],
        description="The keyframes, by their numbers from 0, that were sampled as one, for each latent; empty for "
        "methods without a model.",
    )
    motion_bucket_ids: list[int] = Field(
        default=[], description="The motion bucket that each of these latents was asked for."
    )
    timings: dict[str, Any] | None = Field(default=None, description="Seconds per stage.")
    gpu_seconds: float | None = Field(default=None, description="Of sampling on a GPU, as counted for the key's day.")
    files: list[FileView]


class WebhookView(BaseModel):
    url: str
    events: list[str]


class JobView(BaseModel):
    """One request for a video, from its acceptance to its result."""

    id: str
    state: StateName = Field(description="queued → running → succeeded, failed or canceled.")
    priority: Literal["high", "default", "low"]
    position: int | None = Field(default=None, description="Jobs that go before this one; null unless queued.")
    attempt: int = Field(description="Grows whenever the job is put into the queue (again).")
    created_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = Field(default=None, description="When the job and its files go.")
    options: dict[str, Any] = Field(description="The options with every default filled in.")
    keyframes: list[KeyframeView]
    reference: str | None = Field(default=None, description="Your own name for the job.")
    webhook: WebhookView | None = None
    progress: ProgressView | None = None
    eta: float | None = Field(default=None, description="Seconds until a running job is done, as far as can be told.")
    cancel_requested: bool = Field(description="Whether a running job has been asked to stop.")
    result: ResultView | None = None
    error: ProblemView | None = Field(default=None, description="Why a failed job failed.")
    quarantined: bool = Field(default=False, description="Whether it waits in the dead-letter list.")
    links: Links


class JobList(BaseModel):
    """Newest first."""

    jobs: list[JobView]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null at the end.")
    next: str | None = Field(description="The next page's URL.")


class CostView(BaseModel):
    """What a job takes, all takes included."""

    model_config = ConfigDict(from_attributes=True)

    steps: int = Field(description="Sampling steps.")
    denoiser_calls: int = Field(description="Each a conditional and an unconditional estimate.")
    frames: int | None = Field(description="Of each finished take; null while no model says its own number.")
    groups: list[list[int]] | None = Field(
        description="The keyframes, by their numbers from 0, that would be sampled as one, for each latent; null while "
        "no model says how many frames it makes."
    )
    gpu_seconds: float | None = Field(description="From the engines' measured speed; null when there is none.")
    reason: str | None = Field(description="Why a number is missing, or zero.")


class QueueView(BaseModel):
    """What a job would find if it were submitted now."""

    model_config = ConfigDict(from_attributes=True)

    lane: Literal["gpu", "cpu"]
    ahead: int = Field(description="Queued jobs that would go first.")
    running: int
    engines: int = Field(description="Engines that are ready.")
    wait_seconds: float | None = Field(description="Until it would start; null when that cannot be known.")
    reason: str | None = Field(description="Why there is no number.")


class EstimateView(BaseModel):
    """What would become of a request."""

    accepted: bool = Field(description="Whether `POST /inbetween` would take it.")
    refusals: list[ProblemView] = Field(description="Everything for which it would be refused.")
    cost: CostView | None = Field(description="Null when the options themselves cannot be read.")
    queue: QueueView | None


class EngineView(BaseModel):
    """One engine at work, as it describes itself. Sizes are (width, height); null limits are none."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    state: Literal["starting", "ready", "failed"]
    model: str
    revision: str | None
    license: str | None
    device: str
    methods: list[str]
    native_frames: int | None
    native_size: tuple[int, int] | None
    size_multiple: int | None
    max_frames: int | None = Field(description="Of one segment.")
    max_pixels: int | None = Field(description="Width × height of one frame.")
    max_volume: int | None = Field(description="Pixels of all frames of one segment: width × height × frames.")
    seconds_per_call: float | None = Field(description="Measured, per megapixel of one frame.")
    calibrated: bool | None = Field(
        default=None, description="Whether `motion_bucket_id` can be `auto`, and is unless the request says."
    )
    error: str | None


class MethodView(BaseModel):
    """One way from keyframes to a video."""

    name: str
    title: str
    description: str
    needs_model: bool
    uses_end: bool = Field(description="Whether the end keyframe has a part in the frames.")
    min_keyframes: int
    native_frames: int | None = Field(description="Of a segment, unless the request says; null: the model's own.")
    denoiser_calls: int = Field(description="Of one segment of one take at 25 steps.")
    defaults: dict[str, float | str | list[float] | None] = Field(
        description="The method's own values of the options that not all methods have; null where it has none."
    )
    available: bool | None = Field(description="Whether a live engine has it; null while no engine is ready.")


class LimitView(BaseModel):
    minimum: float
    maximum: float
    why: str


class OptionView(BaseModel):
    """One option of a request, with all that a form needs to ask for it."""

    name: str
    kind: OptionKind = Field(description="`integers`, `numbers` and `choices` are lists; `webhook` is an object.")
    default: Any = Field(description="What holds where it is left out; null where `unset` says it.")
    unset: str | None = Field(description="In words, what holds where it is left out, if that is no one value.")
    limit: LimitView | None = Field(description="Of a number, of each one in a list.")
    size: LimitView | None = Field(description="How many values a list has, how many characters a text.")
    label: str
    hint: str
    group: Group
    choices: list[str]
    methods: list[str] = Field(description="Which methods have it; for others it is refused.")


class MethodsView(BaseModel):
    """Everything a request can choose from."""

    default: str = Field(description="The method of a request that names none: what suits the models at work.")
    methods: list[MethodView]
    options: list[OptionView]
    limits: dict[str, LimitView]
    formats: dict[str, str] = Field(description="Media type of each output format.")
    engines: list[EngineView]


class UploadView(BaseModel):
    """A place to PUT one file to."""

    id: str
    image: str = Field(description="Send this in place of an image: `upload:ID`.")
    url: str = Field(description="Signed; needs no API key.")
    method: Literal["PUT"]
    headers: dict[str, str] = Field(description="Send the file with these headers, and no others that matter.")
    expires: datetime


class HealthView(BaseModel):
    status: Literal["alive", "ready"]


class TryView(BaseModel):
    at: datetime
    status: int | None = Field(description="HTTP status of the answer; null when there was none.")
    ms: int
    error: str | None


class DeliveryView(BaseModel):
    """A webhook event on its way to its receiver."""

    id: str = Field(description="The `webhook-id` that the receiver sees.")
    job: str
    event: str
    url: str
    state: Literal["pending", "delivered", "failed", "disabled", "superseded"] = Field(
        description="`disabled`: the receiver answered 410. `superseded`: an event of a later attempt was sent first."
    )
    tries: int
    created_at: datetime
    next_at: datetime | None = Field(description="When the next try is due.")
    log: list[TryView] = Field(description="The last tries, oldest first.")


class DeliveryList(BaseModel):
    """Newest first."""

    deliveries: list[DeliveryView]
    next_cursor: str | None
    next: str | None
