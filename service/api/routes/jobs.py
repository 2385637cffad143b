"""Jobs: ask for one, estimate one, look at one or all, stop one, erase one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import anyio
import structlog
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.convertors import Convertor, register_url_convertor

from mpd.methods import METHODS, SettingsError
from service.api import openapi_examples
from service.api.edge.scope import TRACEPARENT
from service.api.intake import estimate, request_body
from service.api.intake.fingerprint import fingerprint
from service.api.intake.request_body import Wanted
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
    job_list,
    problems,
    view,
)
from service.api.schemas import CostView, EstimateView, JobList, JobView, ProblemView, QueueView, StateName
from service.api.services import SUBMISSIONS, Services
from service.auth import Key
from service.fleet import engines
from service.jobs import capacity
from service.jobs.record import Job, State, new_id
from service.problems import Problem
from service.storage import StorageError
from service.validation import from_settings

BODY = ("malformed-body", "body-too-large", "too-slow", "unsupported-media-type")
SUBMIT = (
    *BODY,
    "image-too-large",
    "invalid-request",
    "invalid-image",
    "invalid-url",
    "fetch-failed",
    "upload-not-found",
    "keyframe-not-found",
    "keyframe-mismatch",
    "keyframe-lost",
    "method-unavailable",
    "beyond-capacity",
    "too-many-jobs",
    "gpu-seconds-spent",
    "beyond-allowance",
    "queue-full",
    "job-not-found",
)
WITH_TURNS = (("POST", "/inbetween"), ("POST", "/inbetween/estimate"), ("POST", "/v1/videos"))
"""Routes that give each owner's requests turns by themselves."""

CURSOR = r"^job_[0-9a-z]{26}$"

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any text of your own, such as a UUID: the same request sent again with it gets the first "
        "answer, for a day.",
    ),
]
Traceparent = Annotated[str | None, Header(description="W3C trace context; goes with the job.")]

T = TypeVar("T")


class _Name(Convertor[str]):
    """What stands for a job's id: not the name of a route beside it, which has methods of its own."""

    regex = "(?!estimate(?:/|$))[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("name", _Name())
log = structlog.get_logger(__name__)
router = APIRouter(tags=["jobs"])
_limiter = anyio.CapacityLimiter(SUBMISSIONS)
"""Submissions wait for downloads; in threads of their own they keep nobody else waiting."""


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await to_thread.run_sync(work, *arguments, limiter=_limiter)


@router.post(
    "/inbetween",
    operation_id="createInbetween",
    status_code=202,
    response_model=JobView,
    summary="Ask for a video between keyframes",
    responses={
        202: openapi_examples.ACCEPTED,
        **problems(*READ, *SUBMIT, "idempotency-key-reused", "idempotency-in-flight"),
    },
    openapi_extra={"requestBody": openapi_examples.REQUEST_BODY},
)
async def create_inbetween(
    request: Request,
    here: Here,
    base: BaseUrl,
    key: Submitter,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = None,
) -> Response:
    """Send two images (`start`, `end`) or more (`keyframes`), as files in a form or by reference in JSON.

    The answer comes as soon as the job is safely in the queue. Follow `links.self` until `state` is `succeeded`,
    `failed` or `canceled`, or read `links.events`, or let a webhook tell you.
    """
    async with admitted(request, here, key) as hold:
        wanted = await request_body.read(request, here.settings, hold)
        answer, replayed = await submit(here, key, wanted, base, request.scope[TRACEPARENT], idempotency_key)
        return _accepted(answer, replayed)


async def submit(
    here: Services, key: Key, wanted: Wanted, base: str, trace: str, idempotency_key: str | None
) -> tuple[dict[str, Any], bool]:
    """Accept a job, and give its view as JSON and whether the same request was answered before."""
    if idempotency_key is None:
        return await _in_thread(_accept, here, key, wanted, base, new_id(), trace), False
    return await _in_thread(_accept_once, here, key, wanted, base, trace, idempotency_key)


@router.post(
    "/inbetween/estimate",
    operation_id="estimateInbetween",
    response_model=EstimateView,
    summary="What a request would cost and how long it would wait",
    responses=problems(*READ, *BODY),
    openapi_extra={"requestBody": openapi_examples.REQUEST_BODY},
)
async def estimate_inbetween(request: Request, here: Here, key: Submitter) -> EstimateView:
    """Check everything that `POST /inbetween` would check of the same body, estimate the cost, and queue nothing.

    What would be refused is listed in `refusals`; a request with none would be accepted.
    """
    async with admitted(request, here, key) as hold:
        try:
            wanted = await request_body.read(request, here.settings, hold)
        except Problem as problem:
            if problem.status != 422:
                raise
            return EstimateView(accepted=False, refusals=[_problem_view(problem)], cost=None, queue=None)
        return await _in_thread(_estimate, here, key, wanted)


@router.get(
    "/inbetween",
    operation_id="listInbetweens",
    summary="Your jobs, newest first",
    responses=problems(*READ, "invalid-request"),
)
def list_inbetweens(
    here: Here,
    base: BaseUrl,
    key: Reader,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs on a page.")] = 20,
    cursor: Annotated[str | None, Query(pattern=CURSOR, description="`next_cursor` of the page before.")] = None,
    state: Annotated[StateName | None, Query(description="Only jobs in this state.")] = None,
) -> JobList:
    """List the jobs of the key's owner, newest first.

    Expired jobs are left out, so a page may be shorter than `limit`; only `next_cursor` says whether more follow.
    """
    page = here.jobs.list(key.owner, limit, cursor, State(state) if state else None)
    return job_list(here, page, base, "/inbetween", limit=limit, state=state)


@router.get(
    "/inbetween/{job_id:name}",
    operation_id="getInbetween",
    summary="One job",
    responses={200: openapi_examples.JOB, **problems(*ONE_JOB)},
)
def get_inbetween(here: Here, base: BaseUrl, job: ReadableJob, response: Response) -> JobView:
    """Return the job as it is now. While it is not over, `Retry-After` says when to look again."""
    found = view(here, job, base)
    if not job.state.is_terminal:
        response.headers["Retry-After"] = _retry_after(found)
    response.headers["Cache-Control"] = "no-store"
    return found


@router.post(
    "/inbetween/{job_id}/cancel",
    operation_id="cancelInbetween",
    summary="Stop a job",
    responses=problems(*ONE_JOB),
)
def cancel_inbetween(here: Here, base: BaseUrl, job: ChangeableJob) -> JobView:
    """Cancel a queued job at once, a running one at its next step (`cancel_requested` until then).

    A job that is over stays as it is and is returned.
    """
    after = here.jobs.cancel(job.id)
    log.info("cancel", job=job.id, state=str(after.state), requested=after.cancel_requested)
    return view(here, after, base)


@router.delete(
    "/inbetween/{job_id:name}",
    operation_id="deleteInbetween",
    status_code=204,
    summary="Erase a job with its files",
    responses=problems(*ONE_JOB),
)
def delete_inbetween(here: Here, job: ChangeableJob) -> Response:
    """Delete a job in any state; a running job is stopped.

    Nothing of it remains, neither its uploads, its webhook events nor the answer kept for its `Idempotency-Key`: files
    that storage is too slow to erase at once follow by themselves.
    """
    deleted = here.jobs.delete(job.id)
    here.webhooks.forget(job.id)
    erased = here.eraser.erase(job.id, deleted.uploads)
    log.info("job deleted", job=job.id, state=str(job.state), files="erased" if erased else "left to the keeper")
    return Response(status_code=204)


def _accept(
    here: Services, key: Key, wanted: Wanted, base: str, job_id: str, trace: str | None, claim: str | None = None
) -> dict[str, Any]:
    # Only now: what a repeated request is known by is what it asked, not the method that a server would choose today.
    wanted = _with_method(here, wanted)
    job = here.submission.accept(key.owner, wanted, job_id, here.limits.allowance(key), trace, claim)
    return _answer(here, job, base)


def _accept_once(
    here: Services, key: Key, wanted: Wanted, base: str, trace: str | None, name: str
) -> tuple[dict[str, Any], bool]:
    """Accept a request under an idempotency key, and give the answer and whether it was given before."""
    job_id, mark = new_id(), fingerprint(wanted, here.settings)
    replay = here.idempotency.claim(key.owner, name, mark, job_id)
    if replay is not None:
        return replay.answer or _answer(here, here.jobs.get(replay.job_id), base), True
    try:
        with here.idempotency.alive(key.owner, name, job_id) as claim:
            answer = _accept(here, key, wanted, base, job_id, trace, claim)
    except (Problem, StorageError):
        # Nothing was submitted. After an error of Redis that is not known, and the claim stays until it is stale.
        here.idempotency.release(key.owner, name, job_id)
        raise
    here.idempotency.answer(key.owner, name, mark, job_id, answer)
    return answer, False


def _answer(here: Services, job: Job | None, base: str) -> dict[str, Any]:
    if job is None:
        detail = "The job of this Idempotency-Key has been deleted."
        raise Problem(404, "job-not-found", detail, field="Idempotency-Key", remedy="Use a new key.")
    return view(here, job, base).model_dump(mode="json")


def _accepted(answer: dict[str, Any], replayed: bool = False) -> JSONResponse:
    headers = {"Location": answer["links"]["self"], "Retry-After": _retry_after(JobView.model_validate(answer))}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(answer, 202, headers=headers)


def _retry_after(job: JobView) -> str:
    """Estimate the seconds until a look may show something new.

    That is a step for a running job, longer far back in the queue.
    """
    return str(min(30, 1 + (job.position or 0)))


def _estimate(here: Services, key: Key, wanted: Wanted) -> EstimateView:
    try:
        wanted = _with_method(here, wanted)
    except Problem as problem:
        return EstimateView(accepted=False, refusals=[_problem_view(problem)], cost=None, queue=None)
    refusals = []
    for check in here.submission.check(key.owner, wanted, here.limits.allowance(key)):
        try:
            check()
        except Problem as problem:
            refusals.append(_problem_view(problem))
    live = engines.live(here.redis, here.settings)
    count = len(wanted.pictures)
    try:
        engine = capacity.check(wanted.settings, count, live, here.settings)
    except Problem:
        # Listed above. What it would cost is told all the same, without an engine's figures.
        engine = None
    try:
        cost = estimate.cost(wanted.settings, count, engine)
    except SettingsError as error:
        raise from_settings(error) from None
    lane: Literal["gpu", "cpu"] = "gpu" if METHODS[wanted.settings.method].needs_model else "cpu"
    queue = estimate.queue(here.jobs, lane, wanted.options.priority, live)
    return EstimateView(
        accepted=not refusals,
        refusals=refusals,
        cost=CostView.model_validate(cost),
        queue=QueueView.model_validate(queue),
    )


def _with_method(here: Services, wanted: Wanted) -> Wanted:
    return wanted.with_method(capacity.default_method(engines.live(here.redis, here.settings)))


def _problem_view(problem: Problem) -> ProblemView:
    return ProblemView.model_validate(problem.to_dict())
