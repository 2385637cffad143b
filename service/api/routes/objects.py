"""Signed links of the local store, and uploads on either store."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.file_response import deliver
from service.api.routes.dependencies import READ, BaseUrl, Here, Submitter, problems
from service.api.routes.files import ANSWERS
from service.api.schemas import UploadView
from service.api.services import Services
from service.api.views import absolute, moment
from service.jobs.options import UploadRequest
from service.jobs.uploads import UPLOAD_PREFIX
from service.problems import Problem
from service.storage import Grant, LinkExpired, LinkInvalid, LocalStorage, ObjectMissing

router = APIRouter(tags=["files"])
LINK = ("link-invalid", "link-expired", "not-found")


@router.post(
    "/uploads",
    operation_id="createUpload",
    status_code=201,
    summary="A place to send an image to, ahead of the request",
    responses=problems(
        *READ,
        "invalid-request",
        "malformed-body",
        "image-too-large",
        "body-too-large",
        "too-many-uploads",
        "too-slow",
    ),
)
def create_upload(here: Here, base: BaseUrl, key: Submitter, asked: UploadRequest) -> UploadView:
    """PUT the file to `url` with `headers`, then send `image` in place of the image.

    The link takes exactly the announced number of bytes. An upload may be used by any number of requests until it
    expires, or until a job that was made of it is deleted.
    """
    upload = here.uploads.grant(key.owner, asked.content_type, asked.size)
    return UploadView(
        id=upload.id,
        image=UPLOAD_PREFIX + upload.id,
        url=absolute(upload.url, base),
        method="PUT",
        headers={"Content-Type": upload.content_type},
        expires=moment(upload.expires_at),
    )


@router.get(
    "/objects/{token}",
    operation_id="getObject",
    summary="A file by its signed link",
    response_class=Response,
    responses={**ANSWERS, **problems(*LINK, "range-not-satisfiable")},
)
def get_object(request: Request, here: Here, token: str) -> Response:
    """Return a file by the API's own signed link, as there are where files lie in a local folder.

    The link is the permission.
    """
    storage, grant = _grant(here, token, request.method)
    try:
        answer = deliver(
            storage,
            grant.key,
            request.method,
            request.headers,
            content_type=grant.content_type,
            filename=grant.filename,
        )
    except ObjectMissing:
        raise Problem(404, "not-found", "The file is not there any more.") from None
    # Whatever the bytes are, a browser that opens them runs nothing.
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'"
    return answer


router.head("/objects/{token}", include_in_schema=False)(get_object)


@router.put(
    "/objects/{token}",
    operation_id="putObject",
    summary="Send a file to its signed link",
    responses={
        200: {"description": "The file is stored.", "content": {}},
        **problems(*LINK, "body-too-large", "too-slow", "unsupported-media-type", "upload-mismatch"),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    response_class=Response,
)
async def put_object(request: Request, here: Here, token: str) -> Response:
    """Take the file for the `url` of `POST /uploads`, where files lie in a local folder."""
    storage, grant = await to_thread.run_sync(_grant, here, token, "PUT")
    size = grant.size or 0
    sent = request.headers.get("content-type", "")
    if sent != grant.content_type:
        detail = f"The link was signed for {grant.content_type}."
        remedy = f"Send Content-Type: {grant.content_type}."
        raise Problem(415, "unsupported-media-type", detail, remedy=remedy)
    announced = request.headers.get("content-length")
    if announced is not None and announced != str(size):
        raise _mismatch(size)
    with storage.scratch() as file:
        await _receive(request, file, size)
        await to_thread.run_sync(storage.put, grant.key, Path(file.name), grant.content_type)
    return Response(status_code=200)


async def _receive(request: Request, file: IO[bytes], size: int) -> None:
    """Write exactly `size` bytes of body to a file, and read not one more."""
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > size:
            raise _mismatch(size)
        await to_thread.run_sync(file.write, piece)
    if seen != size:
        raise _mismatch(size)
    await to_thread.run_sync(file.flush)


def _mismatch(size: int) -> Problem:
    remedy = f"Send exactly {size} bytes, or ask POST /uploads for another link."
    return Problem(422, "upload-mismatch", f"The link was signed for {size} bytes.", remedy=remedy)


def _grant(here: Services, token: str, method: str) -> tuple[LocalStorage, Grant]:
    """Return the local store, and what the link allows in it."""
    if not isinstance(here.storage, LocalStorage):
        raise Problem(404, "not-found", "Files do not lie with this server.")
    try:
        return here.storage, here.storage.verify(token, method)
    except LinkExpired:
        raise Problem(410, "link-expired", "The link's time is over.", remedy="Ask for a fresh link.") from None
    except LinkInvalid:
        detail = "The link was altered, or is not for this method."
        raise Problem(403, "link-invalid", detail, remedy="Use the link as it was given.") from None
