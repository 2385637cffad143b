"""Every refusal, of every type: it names the field and the remedy, its type is stable, and the docs explain it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.edge.middleware import RequestBoundary
from service.api.edge.problem_response import response
from service.api.edge.request_metrics import RequestMetrics
from service.problem_types import PROBLEMS
from service.problems import MEDIA_TYPE, Problem
from tests.service.conftest import Api

ROOT = Path(__file__).parents[2]
JSON = {"content-type": "application/json"}
UNREADABLE = (b"{", b"\xff\xfe", b"[" * 100_000, b'{"size": ' + b"9" * 5000 + b"}")
REFUSALS = sorted(slug for slug, kind in PROBLEMS.items() if kind.status < 500)


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Each `Problem(…)` written anywhere, and where."""
    for folder in ("service", "worker", "server"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def named_field(call: ast.Call) -> bool:
    """Whether the call gives a field that is not plainly None."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "field"]
    return bool(given) and not (isinstance(given[0], ast.Constant) and not given[0].value)


@pytest.mark.parametrize("slug", PROBLEMS)
def test_a_problem_of_each_type_is_complete_by_itself(slug: str) -> None:
    kind = PROBLEMS[slug]
    answer = response(Problem(kind.status, slug, "What happened.", field=kind.field or "options.frames"))
    assert answer.status_code == kind.status
    assert answer.media_type == MEDIA_TYPE
    body = bytes(answer.body).decode()
    for member in ("type", "title", "status", "detail", "remedy", "field"):
        assert f'"{member}":' in body
    assert f'"/problems/{slug}"' in body


@pytest.mark.parametrize("slug", PROBLEMS)
def test_only_a_fault_of_ours_names_the_request(slug: str) -> None:
    """An operator finds it in the log by its id; a caller's own fault is all in its answer."""
    kind = PROBLEMS[slug]
    body = bytes(response(Problem(kind.status, slug, "What happened."), "an-id").body).decode()
    assert ('"request_id":"an-id"' in body) == (kind.status >= 500)


@pytest.mark.parametrize("slug", REFUSALS)
def test_wherever_a_refusal_is_raised_its_field_is_known(slug: str) -> None:
    """The table names the field, or every place that raises this type does."""
    assert PROBLEMS[slug].remedy
    if PROBLEMS[slug].field is not None:
        return
    places = [(where, call) for where, call in raised() if slug in ast.unparse(call.args[1])]
    assert places, f"nobody raises {slug}"
    assert [where for where, call in places if not named_field(call)] == []


def test_what_the_framework_refuses_has_its_field_from_the_table(api: Api) -> None:
    for answer, field in (
        (api.client.get("/nothing"), "path"),
        (api.client.patch("/inbetween"), "method"),
        (api.client.post("/inbetween", content=b"x"), "Content-Type"),
        *((api.client.post("/uploads", content=text, headers=JSON), "body") for text in UNREADABLE),
        (api.client.get("/inbetween/estimate"), "method"),
        (api.client.get("/inbetween/job_x"), "job_id"),
        (api.client.get("/objects/x"), "token"),
        (api.client.get("/problems/x"), "slug"),
        (api.client.post("/webhooks/deliveries/x/redrive"), "delivery_id"),
        (api.client.get("/events", params={"ids": ""}), "ids"),
    ):
        body = answer.json()
        assert 400 <= answer.status_code < 500
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert (body["field"], body["status"]) == (field, answer.status_code)
        assert body["remedy"]


def test_each_type_has_its_line_in_the_docs() -> None:
    sections = dict(
        re.findall(r"^## ([a-z-]+)\n\n(.+?)(?=\n## |\Z)", (ROOT / "docs" / "problems.md").read_text(), re.S | re.M)
    )
    assert list(sections) == list(PROBLEMS)
    for slug, kind in PROBLEMS.items():
        assert sections[slug].startswith(f"**{kind.status} · {kind.title}.**"), slug
        assert kind.meaning in sections[slug]
        assert kind.remedy in sections[slug]


def test_types_are_never_renamed() -> None:
    """Callers decide by them: a type may be added, and none may go or change its status."""
    promised = {
        "body-too-large": 413,
        "file-not-found": 404,
        "forbidden": 403,
        "idempotency-in-flight": 409,
        "idempotency-key-reused": 422,
        "image-too-large": 413,
        "invalid-image": 422,
        "invalid-request": 422,
        "invalid-url": 422,
        "job-conflict": 409,
        "job-expired": 410,
        "job-not-finished": 409,
        "job-not-found": 404,
        "job-without-result": 409,
        "link-expired": 410,
        "link-invalid": 403,
        "malformed-body": 400,
        "method-not-allowed": 405,
        "not-found": 404,
        "unauthorized": 401,
        "unavailable": 503,
        "upload-mismatch": 422,
        "upload-not-found": 422,
    }
    assert {slug: PROBLEMS[slug].status for slug in promised} == promised


def test_a_reader_that_leaves_is_no_error_of_ours(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Its stream breaks while the next piece is on its way."""

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ExceptionGroup("streaming", [anyio.BrokenResourceError()])

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ExceptionGroup("streaming", [anyio.BrokenResourceError(), KeyError()])

    async def ask(app: ASGIApp) -> None:
        async def nothing(*_: object) -> Any:
            """Neither sent nor received."""

        await RequestBoundary(app, RequestMetrics(api.jobs))(
            {"type": "http", "method": "GET", "path": "/events", "headers": []}, nothing, nothing
        )

    anyio.run(ask, stream)
    assert "unforeseen" not in caplog.text
    with pytest.raises(ExceptionGroup):
        anyio.run(ask, broken)
    assert "unforeseen" in caplog.text
