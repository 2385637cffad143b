"""`/v1/videos`: the same jobs for tools that speak OpenAI's API; `openai_videos.py` says what is mapped onto what.

The key, the limits and the errors are those of all routes; an error carries OpenAI's `error` object besides.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.api import openai_videos
from service.api.edge.scope import TRACEPARENT
from service.api.intake import request_body
from service.api.intake.byte_budget import Hold
from service.api.intake.request_body import Wanted
from service.api.openai_videos import Video, video
from service.api.routes import files, jobs
from service.api.routes.dependencies import (
    ONE_JOB,
    READ,
    BaseUrl,
    ChangeableJob,
    Here,
    ReadableJob,
    Reader,
    Submitter,
    admitted,
    problems,
    view,
)
from service.api.schemas import JobView
from service.jobs.record import State
from service.problems import Problem
from service.settings import ServiceSettings

router = APIRouter(prefix="/v1/videos", tags=["openai"])

_REQUEST = {"$ref": f"#/components/schemas/{openai_videos.VideoRequest.__name__}"}
_FIELDS = openai_videos.VideoRequest.model_json_schema()["properties"]
_FILE = {"type": "string", "format": "binary"}
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "As a form the images are files, or text as in JSON; `input_reference` may come several times.",
    "content": {
        "application/json": {"schema": _REQUEST},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["input_reference"],
                "properties": {
                    **{name: _FIELDS[name] for name in ("prompt", "model", "seconds", "size", "fps", "seed")},
                    "input_reference": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": 32},
                    "end": _FILE,
                },
            }
        },
    },
}


class VideoList(BaseModel):
    """Newest first."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


@router.post(
    "",
    operation_id="createVideo",
    summary="Ask for a video between keyframes, in OpenAI's words",
    response_model=Video,
    responses=problems(*READ, *jobs.SUBMIT, "idempotency-key-reused", "idempotency-in-flight"),
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def create_video(
    request: Request,
    here: Here,
    base: BaseUrl,
    key: Submitter,
    idempotency_key: jobs.IdempotencyKey = None,
    traceparent: jobs.Traceparent = None,
) -> Response:
    """Ask for a video between two keyframes or more, in OpenAI's words.

    `input_reference` is the start keyframe and `end` the end keyframe, or `input_reference` comes once for each.
    `model` names a method; `prompt` is kept and not read.
    """
    async with admitted(request, here, key) as hold:
        wanted = await _read(request, here.settings, hold)
        answer, _ = await jobs.submit(here, key, wanted, base, request.scope[TRACEPARENT], idempotency_key)
    return JSONResponse(video(JobView.model_validate(answer)).model_dump(mode="json"))


@router.get(
    "",
    operation_id="listVideos",
    summary="Your jobs as OpenAI lists them",
    responses=problems(*READ, "invalid-request"),
)
def list_videos(
    here: Here,
    base: BaseUrl,
    key: Reader,
    limit: Annotated[int, Query(ge=1, le=100, description="Videos on a page.")] = 20,
    after: Annotated[str | None, Query(pattern=jobs.CURSOR, description="`last_id` of the page before.")] = None,
    order: Annotated[Literal["desc"], Query(description="Newest first; there is no other order.")] = "desc",
) -> VideoList:
    """List every job of the key's owner, whichever way it was asked for; expired ones are left out."""
    page = here.jobs.list(key.owner, limit, after)
    found = [video(view(here, job, base)) for job in page.jobs if job.state is not State.expired]
    # The cursor and not the last video shown: the page may have ended with expired jobs.
    last = page.next_cursor or (found[-1].id if found else None)
    first = found[0].id if found else None
    return VideoList(data=found, first_id=first, last_id=last, has_more=page.next_cursor is not None)


@router.get("/{job_id}", operation_id="getVideoJob", summary="One job as OpenAI shows it", responses=problems(*ONE_JOB))
def get_video(here: Here, base: BaseUrl, job: ReadableJob) -> Video:
    """Return the job as OpenAI shows it.

    `status` goes from `queued` over `in_progress` to `completed` or `failed`; a canceled job has failed.
    """
    return video(view(here, job, base))


@router.get(
    "/{job_id}/content",
    operation_id="getVideoContent",
    summary="The video, its thumbnail or its contact sheet",
    response_class=Response,
    responses={**files.ANSWERS, **problems(*files.RESULT)},
)
def get_content(
    request: Request,
    here: Here,
    base: BaseUrl,
    job: ReadableJob,
    variant: Annotated[
        Literal["video", "thumbnail", "spritesheet"],
        Query(description="`thumbnail` is the poster, `spritesheet` the contact sheet; both are JPEG."),
    ] = "video",
) -> Response:
    """Return the first take in the first of the job's formats: MP4, if it was asked for here."""
    result = files.result_of(job)
    start = {"thumbnail": "poster.", "spritesheet": "contact-sheet.", "video": "take-1"}[variant]
    found = next((file for file in result["files"] if file["name"].startswith(start)), None)
    if found is None:
        remedy = "Choose another variant."
        raise Problem(404, "file-not-found", "The job has no such file.", field="variant", remedy=remedy)
    return files.answer(request, here, base, job, found["name"], found["content_type"], download=False)


@router.delete(
    "/{job_id}", operation_id="deleteVideo", summary="Erase a job with its files", responses=problems(*ONE_JOB)
)
def delete_video(here: Here, job: ChangeableJob) -> Deleted:
    """Delete a job in any state; a running job is stopped."""
    jobs.delete_inbetween(here, job)
    return Deleted(id=job.id)


async def _read(request: Request, settings: ServiceSettings, hold: Hold) -> Wanted:
    if request_body.is_json(request):
        return await to_thread.run_sync(openai_videos.from_json, await request_body.whole(request, hold))
    async with request_body.open_form(request, settings, hold) as form:
        return await openai_videos.from_form(form, settings)
