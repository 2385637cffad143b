"""The files of a job: its video in each format, single frames, poster, keyframes.

A signed link to the storage is the answer (307), or the file itself where STORAGE_PROXY says so. HEAD is always
answered here: a link signed for GET does not serve it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import RedirectResponse, Response

from mpd.output.formats import OUTPUT_FORMATS
from service.api.file_response import deliver
from service.api.routes.dependencies import ONE_JOB, BaseUrl, Here, ReadableJob, problems
from service.api.services import Services
from service.api.views import absolute
from service.jobs.option_fields import Format
from service.jobs.record import Job, State, file_key
from service.problems import Problem
from service.storage import ObjectMissing

router = APIRouter(tags=["files"])

TakeNumber = Annotated[int, Query(ge=1, le=8, description="Which take, from 1: one for each seed.")]
Download = Annotated[bool, Query(description="Have a browser save the file instead of showing it.")]
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, where the server passes files on itself. Its Content-Type is the file's own.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {
        "description": "The part of it that `Range` asks for.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "The client's copy, named in `If-None-Match`, is still right."},
    307: {
        "description": "A signed, short-lived link to the file.",
        "headers": {"Location": {"description": "The link.", "schema": {"type": "string", "format": "uri"}}},
    },
}
RESULT = (*ONE_JOB, "job-not-finished", "file-not-found", "range-not-satisfiable", "invalid-request")


def _file_route(
    path: str, operation_id: str, summary: str
) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Make a decorator that adds GET, documented, and HEAD of the same path."""

    def add(endpoint: Callable[..., Response]) -> Callable[..., Response]:
        responses = {**ANSWERS, **problems(*RESULT)}
        router.get(path, operation_id=operation_id, summary=summary, response_class=Response, responses=responses)(
            endpoint
        )
        router.head(path, include_in_schema=False)(endpoint)
        return endpoint

    return add


@_file_route("/inbetween/{job_id}/video", "getVideo", "The video")
def get_video(
    request: Request,
    here: Here,
    base: BaseUrl,
    job: ReadableJob,
    take: TakeNumber = 1,
    format: Annotated[Format | None, Query(description="Which of the job's formats. Default: its first.")] = None,
    download: Download = False,
) -> Response:
    """Return one take in one of the formats that the job was asked for."""
    files = result_of(job)["files"]
    found = [
        file for file in files if file["take"] == take and file["format"] in ([format] if format else OUTPUT_FORMATS)
    ]
    found = [file for file in found if file["name"].startswith("take-")]
    if not found:
        has = sorted({file["format"] for file in files if file["name"].startswith("take-")})
        remedy = f"Choose a format of {', '.join(has)} and a take up to {len(result_of(job)['seeds'])}."
        field = "take" if take > len(result_of(job)["seeds"]) else "format"
        raise Problem(404, "file-not-found", "The job has no such take or format.", field=field, remedy=remedy)
    return answer(request, here, base, job, found[0]["name"], found[0]["content_type"], download)


@_file_route("/inbetween/{job_id}/files/{name}", "getFile", "A file by its name")
def get_file(
    request: Request,
    here: Here,
    base: BaseUrl,
    job: ReadableJob,
    name: Annotated[str, Path(description="As in the job's `result.files`.", examples=["metadata.json"])],
    download: Download = False,
) -> Response:
    """Return any of the files listed in the job's result."""
    files = result_of(job)["files"]
    found = next((file for file in files if file["name"] == name), None)
    if found is None:
        remedy = f"Choose one of {', '.join(file['name'] for file in files)}."
        raise Problem(404, "file-not-found", "The job has no file of that name.", field="name", remedy=remedy)
    return answer(request, here, base, job, found["name"], found["content_type"], download)


@_file_route("/inbetween/{job_id}/frames/{n}", "getFrame", "One frame as a JPEG")
def get_frame(
    request: Request,
    here: Here,
    base: BaseUrl,
    job: ReadableJob,
    n: Annotated[int, Path(ge=0, le=100_000, description="Its number, from 0.")],
    take: TakeNumber = 1,
    download: Download = False,
) -> Response:
    """Return a single frame of the video."""
    result = result_of(job)
    if n >= result["frames"] or take > len(result["seeds"]):
        remedy = f"Frames run from 0 to {result['frames'] - 1}, takes from 1 to {len(result['seeds'])}."
        field = "take" if take > len(result["seeds"]) else "n"
        raise Problem(404, "file-not-found", "The video has no such frame.", field=field, remedy=remedy)
    return answer(request, here, base, job, f"take-{take}/frame-{n:04d}.jpg", "image/jpeg", download)


@_file_route("/inbetween/{job_id}/poster", "getPoster", "A still for a player to show before it plays")
def get_poster(request: Request, here: Here, base: BaseUrl, job: ReadableJob, download: Download = False) -> Response:
    """Return a JPEG from the first take."""
    result_of(job)
    return answer(request, here, base, job, "poster.jpg", "image/jpeg", download)


@_file_route("/inbetween/{job_id}/keyframes/{n}", "getKeyframe", "A keyframe as it was received")
def get_keyframe(
    request: Request,
    here: Here,
    base: BaseUrl,
    job: ReadableJob,
    n: Annotated[int, Path(ge=0, le=31, description="Its number, from 0.")],
) -> Response:
    """Return the caller's own file, unchanged; it is there from the job's acceptance on."""
    if n >= len(job.keyframes):
        detail = f"The job has {len(job.keyframes)} keyframes."
        remedy = f"Ask for 0 to {len(job.keyframes) - 1}."
        raise Problem(404, "file-not-found", detail, field="n", remedy=remedy)
    keyframe = job.keyframes[n]
    return _hand_over(request, here, base, keyframe["key"], keyframe["content_type"], None, keyframe["size"])


def result_of(job: Job) -> dict[str, Any]:
    """Return the job's manifest. Raises `Problem` 409 while there is none, and when there will be none."""
    if job.result is not None and job.state is State.succeeded:
        return job.result
    if job.state.is_terminal:
        detail = f"The job is {job.state} and has no files."
        raise Problem(409, "job-without-result", detail, remedy="See its `error`, then post the request again.")
    remedy = "Wait until its `state` is `succeeded`."
    headers = {"Retry-After": "2"}
    raise Problem(409, "job-not-finished", f"The job is {job.state}.", remedy=remedy, headers=headers)


def answer(
    request: Request, here: Services, base: str, job: Job, name: str, content_type: str, download: bool
) -> Response:
    """Answer with a file of the result, which is known to be among its files: a link to it, or the file itself."""
    filename = f"{job.id}-{name.replace('/', '-')}" if download else None
    size = next((file["size"] for file in result_of(job)["files"] if file["name"] == name), None)
    return _hand_over(request, here, base, file_key(job, name), content_type, filename, size)


def _hand_over(
    request: Request, here: Services, base: str, key: str, content_type: str, filename: str | None, size: int | None
) -> Response:
    if request.method == "HEAD" or here.settings.storage_proxy:
        try:
            return deliver(
                here.storage,
                key,
                request.method,
                request.headers,
                content_type=content_type,
                filename=filename,
                size=size,
            )
        except ObjectMissing:
            raise Problem(404, "file-not-found", "The file is not in storage any more.") from None
    ttl = here.settings.signed_url_ttl
    link = here.storage.sign_get(key, expires=ttl, filename=filename, content_type=content_type)
    return RedirectResponse(absolute(link, base), 307, headers={"Cache-Control": "no-store"})
