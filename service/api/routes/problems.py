"""Every error as problem+json: the one place where exceptions become answers, and the page that explains each type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from redis.exceptions import ConnectionError as RedisDown
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisSlow
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from service import machine
from service.api import openai_videos
from service.api.routes import dependencies
from service.database.identity import DatabaseUnknown
from service.database.outages import is_outage
from service.jobs.store import Conflict, JobMissing
from service.problems import MEDIA_TYPE, PROBLEMS, Problem, reference
from service.storage import StorageFull, StorageUnavailable
from service.validation import from_pydantic

RETRY_AFTER = "5"
_OF_STATUS = {
    400: "malformed-body",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}

_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
"""An S3 server's own word for what is wrong."""

log = structlog.get_logger(__name__)
router = APIRouter(tags=["service"])


def response(problem: Problem, request_id: str | None = None) -> JSONResponse:
    body = problem.to_dict()
    if problem.status >= 500 and request_id is not None:
        body["request_id"] = request_id
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


@router.get(
    "/problems",
    operation_id="explainProblems",
    summary="All types of problems",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}, **dependencies.problems()},
)
def explain_all() -> PlainTextResponse:
    """Every error that this API can answer, with what to do about it."""
    return PlainTextResponse(reference(), media_type="text/markdown")


@router.get(
    "/problems/{slug}",
    operation_id="explainProblem",
    summary="What a type of problem means",
    response_class=PlainTextResponse,
    responses=dependencies.problems("problem-not-found"),
)
def explain(slug: str) -> PlainTextResponse:
    """Every error names its type as a path such as `/problems/job-expired`; this is the text behind it."""
    kind = PROBLEMS.get(slug)
    if kind is None:
        raise Problem(404, "problem-not-found", "There is no problem of that name.")
    text = f"{slug}\n\n{kind.status} · {kind.title}\n\n{kind.meaning}\n\nWhat to do: {kind.remedy}\n"
    return PlainTextResponse(text)


def install(app: FastAPI) -> None:
    """Answer all exceptions of the routes, the framework's own included."""

    def answer(request: Request, problem: Problem) -> JSONResponse:
        if request.url.path.startswith("/v1/"):
            problem.extra["error"] = openai_videos.error_object(problem.to_dict())
        return response(problem, request.scope.get("request_id"))

    @app.exception_handler(Problem)
    async def _(request: Request, error: Problem) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, _invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request, _of_framework(request, error))

    @app.exception_handler(JobMissing)
    async def _(request: Request, _error: JobMissing) -> JSONResponse:
        return answer(request, dependencies.job_missing())

    @app.exception_handler(Conflict)
    async def _(request: Request, error: Conflict) -> JSONResponse:
        detail = f"The job is {error.state}."
        return answer(request, Problem(409, "job-conflict", detail, state=str(error.state)))

    async def unavailable(request: Request, error: Exception) -> JSONResponse:
        part = "storage" if isinstance(error, StorageUnavailable) else "Redis"
        log.error("unavailable", part=part, error=f"{type(error).__name__}: {error}")
        detail = f"The {part} does not answer." if part == "storage" else f"{part} does not answer."
        if isinstance(error, StorageFull):
            detail = "The storage is full."
        code = getattr(error, "code", "")
        if request.url.path == "/readyz" and _CODE.fullmatch(code):
            # What the operator must know, and no caller: neither the server's words nor where it is.
            detail = f"{detail.removesuffix('.')}: {code}."
        return answer(request, Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER}))

    outages: tuple[type[RedisError | StorageUnavailable], ...] = (RedisDown, RedisSlow, StorageUnavailable)
    for outage in outages:
        app.add_exception_handler(outage, unavailable)

    @app.exception_handler(DatabaseUnknown)
    async def _(request: Request, error: DatabaseUnknown) -> JSONResponse:
        log.error("unavailable", part="Redis", error=str(error))
        return answer(request, Problem(503, "database-unknown", f"{error}.", headers={"Retry-After": RETRY_AFTER}))

    @app.exception_handler(ResponseError)
    async def _(request: Request, error: ResponseError) -> JSONResponse:
        if not is_outage(error):
            raise error
        return await unavailable(request, error)

    async def of_the_machine(request: Request, error: Exception) -> JSONResponse:
        why = machine.fault(error)
        if why is None:
            raise error
        log.error("the machine failed", error=f"{type(error).__name__}: {error}")
        detail = f"The server's machine has run out of something, or fails: {why}."
        return answer(request, Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER}))

    for fault in (OSError, MemoryError):
        app.add_exception_handler(fault, of_the_machine)

    @app.exception_handler(ClientDisconnect)
    async def _(request: Request, _error: ClientDisconnect) -> JSONResponse:
        # Nobody reads this; without it the log would show an error of ours.
        return answer(request, Problem(400, "bad-request", "The connection closed before the body was complete."))


def _invalid(errors: Any) -> Problem:
    if any(error["type"] == "json_invalid" for error in errors):
        return Problem(400, "malformed-body", "The body is not JSON.", remedy="Send a JSON object in UTF-8.")
    return from_pydantic(errors)


def _of_framework(request: Request, error: HTTPException) -> Problem:
    slug = _OF_STATUS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal")
    headers: Mapping[str, str] = error.headers or {}
    detail = PROBLEMS[slug].meaning if slug != "bad-request" else str(error.detail)
    if slug == "method-not-allowed":
        headers = {"Allow": ", ".join(_methods(request))}
        detail = f"{request.method} is not among the methods of this path."
    return Problem(error.status_code, slug, detail, remedy=PROBLEMS[slug].remedy, headers=headers)


def _methods(request: Request) -> list[str]:
    """All methods of the request's path; the framework names those of one route alone."""
    routes = request.app.routes
    asked = {method: {**request.scope, "method": method} for method in ("DELETE", "GET", "HEAD", "POST", "PUT")}
    return [method for method, scope in asked.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]
