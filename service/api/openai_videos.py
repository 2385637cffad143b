"""OpenAI's videos in our words: their request into a `Wanted`, our job into their `video`.

    theirs                  ours
    model                   options.method; every other name is refused
    input_reference         the start keyframe; the start and the end one, or more, when it comes several times
    end                     the end keyframe: ours, since they have no field for one
    seconds                 options.frames: as many as last so long at `fps`, spread evenly between the keyframes
    size                    options.width and options.height
    fps, seed               options.fps, options.seed: ours
    prompt                  options.reference, its first 200 characters; no method here reads a text

Knows nothing of routes or storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from mpd.lengths import segment_frames
from mpd.methods import LIMITS, SettingsError
from service.api.intake.quoted import Quoted, cut
from service.api.intake.request_body import ImageSource, ReceivedImage, Wanted, file_bytes, refuse_many_values
from service.api.schemas import JobView
from service.jobs.option_fields import MethodName
from service.jobs.options import IMAGE, Options
from service.jobs.strict import Strict
from service.problems import Problem
from service.settings import ServiceSettings
from service.validation import FieldFault, from_pydantic, refused

_STATES = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "canceled": "failed",
}
_FIELDS = {"method": "model", "width": "size", "height": "size", "frames": "seconds", "seeds": "seed"}
"""Names of our settings in their request."""

_Seconds = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$")] | Annotated[float, Field(gt=0, lt=1000)] | None


class Reference(Strict):
    """An image by reference, as OpenAI writes it in JSON."""

    image_url: str | None = Field(default=None, min_length=1, description=IMAGE)
    file_id: str | None = Field(default=None, min_length=1, description="`upload:ID` from `POST /uploads`.")

    @property
    def source(self) -> str | None:
        return self.image_url or self.file_id


ReferenceImage = Annotated[str, Field(min_length=1)] | Reference


class VideoRequest(Strict):
    """What `POST /v1/videos` takes as JSON."""

    prompt: str = Field(default="", max_length=32_000, description="Read by nobody; its beginning is kept.")
    model: MethodName | None = Field(
        default=None, description="The method, as in `GET /methods`. Default: this server's."
    )
    input_reference: ReferenceImage | list[ReferenceImage] = Field(
        description=f"The start keyframe, or all of them in a list: text, or an object of that kind. {IMAGE}"
    )
    end: ReferenceImage | None = Field(default=None, description="The end keyframe, in the same ways.")
    seconds: _Seconds = Field(
        default=None,
        description="Length of the video, as text or a number. Default: the model's own number of frames a segment.",
        examples=["4"],
    )
    size: str | None = Field(
        default=None,
        pattern=r"^[0-9]{2,4}x[0-9]{2,4}$",
        description="Width and height, as `1280x720`. Default: the model's own.",
        examples=["1280x720"],
    )
    fps: int | None = Field(
        default=None,
        ge=int(LIMITS["fps"].low),
        le=int(LIMITS["fps"].high),
        description="Frames per second. Default 7.",
    )
    seed: int | None = Field(
        default=None, ge=int(LIMITS["seeds"].low), le=int(LIMITS["seeds"].high), description="Default 0."
    )


FORM_FIELDS = tuple(VideoRequest.model_fields)


def from_json(body: bytearray) -> Wanted:
    """Read a request in OpenAI's words from JSON. Raises `Problem` 400 and 422."""
    text, long = cut(body)
    refuse_many_values(text, "body")
    try:
        asked = VideoRequest.model_validate_json(text)
    except ValidationError as error:
        raise _invalid(error) from None
    images = asked.input_reference if isinstance(asked.input_reference, list) else [asked.input_reference]
    sources = [_source(image, long) for image in images]
    return _wanted(asked, sources, None if asked.end is None else _source(asked.end, long))


async def from_form(form: FormData, service: ServiceSettings) -> Wanted:
    """Read a request in OpenAI's words from a form. Raises `Problem` 422."""
    unknown = [name for name in form if name.removesuffix("[]") not in FORM_FIELDS]
    if unknown:
        remedy = f"Remove it. Known fields: {', '.join(FORM_FIELDS)}."
        raise refused([FieldFault(name[:80] or "body", "There is no such field.", remedy) for name in unknown])
    images = [*form.getlist("input_reference"), *form.getlist("input_reference[]")]
    values: dict[str, Any] = {name: form[name] for name in FORM_FIELDS if name in form}
    values |= {name: _number(name, values[name]) for name in ("fps", "seed") if name in values}
    try:
        # The images are files, which the model does not know: it is shown text in their place.
        stand_ins = {"input_reference": ["-" for _ in images], **({"end": "-"} if "end" in form else {})}
        asked = VideoRequest.model_validate({**values, **stand_ins})
    except ValidationError as error:
        raise _invalid(error) from None
    sources = [await _read(image, service, "input_reference") for image in images]
    return _wanted(asked, sources, await _read(form["end"], service, "end") if "end" in form else None)


async def _read(part: UploadFile | str, service: ServiceSettings, field: str) -> bytes | str:
    return await file_bytes(part, service, field) if isinstance(part, UploadFile) else part


def _number(name: str, text: UploadFile | str) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 10:
        raise refused([FieldFault(name, "This is no whole number.", "Send digits alone.")])
    return int(text)


def _source(image: str | Reference, long: Mapping[str, Quoted]) -> str | Quoted:
    source = image if isinstance(image, str) else image.source
    if not source:
        raise refused([FieldFault("input_reference", "The reference is empty.", "Send `image_url` or `file_id`.")])
    return long.get(source, source)


def _wanted(asked: VideoRequest, images: Sequence[ImageSource], end: ImageSource | None) -> Wanted:
    pictures = [ReceivedImage(source, "input_reference") for source in images]
    if end is not None:
        pictures.append(ReceivedImage(end, "end"))
    if not all(picture.source for picture in pictures) or not images:
        raise refused(
            [FieldFault("input_reference", "An image is missing or empty.", "Send the file, or a URL as text.")]
        )
    values: dict[str, Any] = {"method": asked.model, "reference": asked.prompt[:200] or None}
    values |= {"fps": asked.fps, "seed": asked.seed}
    if asked.size is not None:
        values["width"], values["height"] = map(int, asked.size.split("x"))
    try:
        options = Options.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise _invalid(error) from None
    positions = None if asked.seconds is None else _positions(float(asked.seconds), options.fps, len(pictures))
    try:
        if positions is not None and len(pictures) < 2:  # a keyframe alone has no place on a timeline
            options, positions = options.model_copy(update={"frames": positions[-1] + 1}), None
        settings = options.settings(positions)
        segment_frames(settings, len(pictures), 2)
    except SettingsError as error:
        field = {"keyframes": "input_reference", "positions": "seconds"}.get(error.field, error.field)
        raise refused([FieldFault(_FIELDS.get(field, field), f"{error.problem}.", f"{error.remedy}.")]) from None
    return Wanted(tuple(pictures), positions, options, settings)


def _positions(seconds: float, fps: int, keyframes: int) -> tuple[int, ...]:
    """Place each keyframe at its frame in a video that lasts so long, spread evenly."""
    frames, segments = round(seconds * fps), max(1, keyframes - 1)
    most = segments * (int(LIMITS["frames"].high) - 1) + 1
    if not segments + 1 <= frames <= most:
        remedy = f"At {fps} frames a second, send {(segments + 1) / fps:.2f} to {most / fps:.0f} seconds."
        raise refused([FieldFault("seconds", f"{frames} frames cannot be made of {keyframes} keyframes.", remedy)])
    return tuple(round(number * (frames - 1) / segments) for number in range(segments + 1))


def _invalid(error: ValidationError) -> Problem:
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return Problem(400, "malformed-body", "The body is not JSON.", remedy="Send a JSON object in UTF-8.")
    # A field of several kinds has a fault for each; the first says enough. Its name alone is what was sent.
    by_field = {_FIELDS.get(name, name): fault for fault in reversed(faults) for name in map(str, fault["loc"][:1])}
    for field, fault in by_field.items():
        fault["loc"] = (field,)
    return from_pydantic([*by_field.values()][::-1] or faults, "", VideoRequest)


class VideoError(BaseModel):
    """Why there is no video. code: the problem's type, or `canceled`."""

    code: str
    message: str


class Video(BaseModel):
    """A job as OpenAI describes one."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(description="The job's id, which every other route knows it by too.")
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(description="Percent.")
    created_at: int = Field(description="Seconds since 1970.")
    completed_at: int | None = None
    expires_at: int | None = None
    prompt: str | None = None
    seconds: str | None = Field(default=None, description="Length of the video, once it is known.")
    size: str | None = Field(default=None, description="Width and height, once they are known.")
    remixed_from_video_id: None = None
    error: VideoError | None = None


def video(job: JobView) -> Video:
    """Show the job in OpenAI's words. A canceled job has failed: they know no other end."""
    fraction = job.progress.fraction if job.progress is not None and job.progress.fraction else 0.0
    error = None
    if job.error is not None:
        error = VideoError(code=job.error.type.rpartition("/")[2], message=job.error.detail)
    elif job.state == "canceled":
        error = VideoError(code="canceled", message="The job was canceled.")
    done = job.finished_at is not None
    result = job.result
    return Video(
        id=job.id,
        model=str(job.options["method"]),
        status=_STATES[job.state],
        progress=100 if job.state == "succeeded" else int(100 * fraction),
        created_at=int(job.created_at.timestamp()),
        completed_at=int(job.finished_at.timestamp()) if done and job.finished_at else None,
        expires_at=int(job.expires_at.timestamp()) if job.expires_at else None,
        prompt=job.reference,
        seconds=f"{result.duration:g}" if result else None,
        size=f"{result.width}x{result.height}" if result else _asked_size(job.options),
        error=error,
    )


def _asked_size(options: dict[str, Any]) -> str | None:
    return f"{options['width']}x{options['height']}" if "width" in options else None


def error_object(problem: dict[str, Any]) -> dict[str, Any]:
    """Make of a problem the `error` that OpenAI's clients look for."""
    slug = str(problem["type"]).rpartition("/")[2]
    kind = "invalid_request_error" if problem["status"] < 500 else "server_error"
    return {"message": problem["detail"], "type": kind, "param": problem.get("field"), "code": slug}
