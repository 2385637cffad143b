"""The page that explains each type of problem."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from service.api.routes import dependencies
from service.problem_types import PROBLEMS, reference
from service.problems import Problem

router = APIRouter(tags=["service"])


@router.get(
    "/problems",
    operation_id="explainProblems",
    summary="All types of problems",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}, **dependencies.problems()},
)
def explain_all() -> PlainTextResponse:
    """List every error that this API can answer, with what to do about it."""
    return PlainTextResponse(reference(), media_type="text/markdown")


@router.get(
    "/problems/{slug}",
    operation_id="explainProblem",
    summary="What a type of problem means",
    response_class=PlainTextResponse,
    responses=dependencies.problems("problem-not-found"),
)
def explain(slug: str) -> PlainTextResponse:
    """Explain one type of problem.

    Every error names its type as a path such as `/problems/job-expired`; this is the text behind it.
    """
    kind = PROBLEMS.get(slug)
    if kind is None:
        raise Problem(404, "problem-not-found", "There is no problem of that name.")
    text = f"{slug}\n\n{kind.status} · {kind.title}\n\n{kind.meaning}\n\nWhat to do: {kind.remedy}\n"
    return PlainTextResponse(text)
