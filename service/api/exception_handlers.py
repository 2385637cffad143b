"""Every error as problem+json: the one place where exceptions become answers, the framework's own included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import ConnectionError as RedisDown
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisSlow
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from service import machine
from service.api import openai_videos
from service.api.edge.problem_response import response
from service.api.routes import dependencies
from service.database.identity import DatabaseUnknown
from service.database.outages import is_outage
from service.jobs.record import JobMissing, StateConflict
from service.problem_types import PROBLEMS
from service.problems import Problem
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


def install(app: FastAPI) -> None:
    """Answer all exceptions of the routes, the framework's own included."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(JobMissing, _job_missing)
    app.add_exception_handler(StateConflict, _conflict)
    for outage in (RedisDown, RedisSlow, StorageUnavailable):
        app.add_exception_handler(outage, _unavailable)
    app.add_exception_handler(DatabaseUnknown, _database_unknown)
    app.add_exception_handler(ResponseError, _redis_refuses)
    for fault in (OSError, MemoryError):
        app.add_exception_handler(fault, _machine)
    app.add_exception_handler(ClientDisconnect, _client_left)


def _answer(request: Request, problem: Problem) -> JSONResponse:
    if request.url.path.startswith("/v1/"):
        problem.extra["error"] = openai_videos.error_object(problem.to_dict())
    return response(problem, request.scope.get("request_id"))


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return _answer(request, error)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(request, _invalid(error.errors()))


async def _framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(request, _of_framework(request, error))


async def _job_missing(request: Request, _error: Exception) -> JSONResponse:
    return _answer(request, dependencies.job_missing())


async def _conflict(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StateConflict)
    return _answer(request, Problem(409, "job-conflict", f"The job is {error.state}.", state=str(error.state)))


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    part = "storage" if isinstance(error, StorageUnavailable) else "Redis"
    log.error("unavailable", part=part, error=f"{type(error).__name__}: {error}")
    detail = f"The {part} does not answer." if part == "storage" else f"{part} does not answer."
    if isinstance(error, StorageFull):
        detail = "The storage is full."
    code = getattr(error, "code", "")
    if request.url.path == "/readyz" and _CODE.fullmatch(code):
        # What the operator must know, and no caller: neither the server's words nor where it is.
        detail = f"{detail.removesuffix('.')}: {code}."
    return _answer(request, Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER}))


async def _database_unknown(request: Request, error: Exception) -> JSONResponse:
    log.error("unavailable", part="Redis", error=str(error))
    return _answer(request, Problem(503, "database-unknown", f"{error}.", headers={"Retry-After": RETRY_AFTER}))


async def _redis_refuses(request: Request, error: Exception) -> JSONResponse:
    if not is_outage(error):
        raise error
    return await _unavailable(request, error)


async def _machine(request: Request, error: Exception) -> JSONResponse:
    why = machine.fault(error)
    if why is None:
        raise error
    log.error("the machine failed", error=f"{type(error).__name__}: {error}")
    detail = f"The server's machine has run out of something, or fails: {why}."
    return _answer(request, Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER}))


async def _client_left(request: Request, _error: Exception) -> JSONResponse:
    # Nobody reads this; without it the log would show an error of ours.
    return _answer(request, Problem(400, "bad-request", "The connection closed before the body was complete."))


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
    """List all methods of the request's path; the framework names those of one route alone."""
    routes = request.app.routes
    asked = {method: {**request.scope, "method": method} for method in ("DELETE", "GET", "HEAD", "POST", "PUT")}
    return [method for method, scope in asked.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]
