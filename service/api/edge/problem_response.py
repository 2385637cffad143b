"""A problem as an answer: RFC 9457's problem+json."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from service.problems import MEDIA_TYPE, Problem


def response(problem: Problem, request_id: str | None = None) -> JSONResponse:
    """Answer with a problem. request_id: is in the body of faults that are ours, so that an operator finds them."""
    body = problem.to_dict()
    if problem.status >= 500 and request_id is not None:
        body["request_id"] = request_id
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)
