"""What routes ask for: the services, the caller's key, the job in the path, the public base URL, a thread."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer

from service.api.edge.scope import ANSWERED
from service.api.intake.byte_budget import Hold
from service.api.intake.limits import too_fast
from service.api.intake.request_body import announced
from service.api.schemas import JobList, JobView, ProblemView
from service.api.services import Services
from service.api.views import job_view
from service.auth import Key, Scope, authorize, identify
from service.jobs.record import Job, JobPage, State
from service.problem_types import PROBLEMS
from service.problems import MEDIA_TYPE, Problem

_bearer = HTTPBearer(
    scheme_name="apiKey",
    auto_error=False,
    description="An API key, `ibk_…`, with the scope a route needs: `read`, `submit`, `metrics` or `admin`.",
)
FIGURES = "/metrics"

_JOB_ID = re.compile(r"job_[0-9a-z]{26}")


async def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Here = Annotated[Services, Depends(services)]


async def base_url(request: Request, here: Here) -> str:
    """Return the public base URL of the API without a closing slash."""
    return (here.settings.public_url or str(request.base_url)).rstrip("/")


BaseUrl = Annotated[str, Depends(base_url)]


def known_key(request: Request, here: Here, _: Annotated[Any, Depends(_bearer)]) -> Key:
    """Identify the caller's key and count its request. Raises `Problem` 401, and 429 for one request too many.

    Raises `DatabaseUnknown` where what Redis has, and has not, says nothing. Figures are told all the same.
    """
    if request.url.path != FIGURES:
        here.database.check()
    authorization = request.headers.get("authorization")
    try:
        key = identify(here.keys, here.settings, authorization)
    except Problem:
        # It may have become another a moment ago, or have been one until then: that this has no such key is no refusal.
        here.database.check(fresh=True)
        try:
            key = identify(here.keys, here.settings, authorization)
        except Problem:
            here.database.check(fresh=True)
            raise
    quota, accepted = here.limits.count(key)
    if quota is not None:
        request.scope[ANSWERED].update(quota.headers)
        if not accepted:
            raise too_fast(quota)
    return key


class _Requires:
    """A dependency that gives the caller's key, if it has the scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, key: Annotated[Key, Depends(known_key)]) -> Key:
        authorize(key, self.scope)
        return key


Reader = Annotated[Key, Depends(_Requires(Scope.read))]
Submitter = Annotated[Key, Depends(_Requires(Scope.submit))]
Metrics = Annotated[Key, Depends(_Requires(Scope.metrics))]
Admin = Annotated[Key, Depends(_Requires(Scope.admin))]

JobId = Annotated[str, Path(description="The job's `id`.", examples=["job_06b3k7w1v8x9n2m4q5r6s7t8v9"])]


def find(here: Services, key: Key, job_id: str) -> Job:
    """Find a job that the key may know of.

    Raises `Problem` 404, for another owner's job too, and 410 for an expired one.
    """
    job = _found(here, job_id) if _JOB_ID.fullmatch(job_id) else None
    if job is None or (job.owner != key.owner and not key.allows(Scope.admin)):
        raise job_missing()
    if job.state is State.expired:
        raise Problem(410, "job-expired", "The job is over, and its files are gone.")
    return job


def _found(here: Services, job_id: str) -> Job | None:
    """Look the job up; None where the database lacks it and was the known one before and after that was looked for."""
    job = here.jobs.get(job_id)
    if job is None:
        here.database.check(fresh=True)
        job = here.jobs.get(job_id)
    if job is None:
        here.database.check(fresh=True)
    return job


def job_missing() -> Problem:
    return Problem(404, "job-not-found", "This key has no job of that id.", remedy="Compare it with GET /inbetween.")


@asynccontextmanager
async def admitted(request: Request, here: Services, key: Key) -> AsyncIterator[Hold]:
    """Hold the owner's turn at a request with images, and room for its body, before any of it is read.

    Raises `Problem` 429 where too many of the owner's wait, and 503 where others leave no room for this one.
    """
    async with here.turns.of(key.owner), here.bodies.of(key.owner, announced(request)) as hold:
        yield hold


def readable_job(here: Here, key: Reader, job_id: JobId) -> Job:
    return find(here, key, job_id)


def changeable_job(here: Here, key: Submitter, job_id: JobId) -> Job:
    return find(here, key, job_id)


ReadableJob = Annotated[Job, Depends(readable_job)]
ChangeableJob = Annotated[Job, Depends(changeable_job)]


def view(here: Services, job: Job, base: str) -> JobView:
    return job_view(job, here.jobs, here.storage, here.settings, base)


def job_list(here: Services, page: JobPage, base: str, path: str, **query: object) -> JobList:
    """Show a page of jobs, the expired ones left out. `path` and `query` are the request's, for the next page's URL."""
    following = {name: value for name, value in {**query, "cursor": page.next_cursor}.items() if value is not None}
    return JobList(
        jobs=[view(here, job, base) for job in page.jobs if job.state is not State.expired],
        next_cursor=page.next_cursor,
        next=f"{base}{path}?{urlencode(following)}" if page.next_cursor else None,
    )


def problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """Document the error responses of a route. Every route may answer 422, 500 and 503 besides."""
    by_status: dict[int, list[str]] = {}
    for slug in dict.fromkeys((*slugs, "invalid-request", "internal", "unavailable", "database-unknown", "busy")):
        by_status.setdefault(PROBLEMS[slug].status, []).append(slug)
    return {
        status: {
            "description": " · ".join(PROBLEMS[slug].title for slug in found),
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemView.__name__}"}}},
        }
        for status, found in sorted(by_status.items())
    }


READ = ("unauthorized", "forbidden", "rate-limited")
"""Problems of every route that needs a key."""
ONE_JOB = (*READ, "job-not-found", "job-expired")
