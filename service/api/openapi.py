"""The OpenAPI document: what FastAPI gathers, and the two request bodies that the routes read by themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.api.openai_videos import VideoRequest
from service.api.openapi_examples import FORM_SCHEMA
from service.api.schemas import ProblemView
from service.jobs.options import InbetweenRequest

DESCRIPTION = """Two keyframes in, a coherent video between them out.

Send two images to `POST /inbetween`; the answer is a job with links. When its `state` is `succeeded`, its
`result.files` carry signed links to the video. Every error is `application/problem+json` (RFC 9457): decide by its
`type`, a path that explains itself when you GET it. All times are UTC."""
TAGS = [
    {"name": "jobs", "description": "Ask for videos and look after them."},
    {"name": "events", "description": "Follow jobs as they happen."},
    {"name": "files", "description": "Results, and images sent ahead."},
    {"name": "votes", "description": "Which method people prefer, judged blind."},
    {"name": "openai", "description": "The same jobs for tools that speak OpenAI's `/v1/videos`."},
    {"name": "operators", "description": "For those who run the service."},
    {"name": "service", "description": "What it can do, and how it is."},
]
_REF = "#/components/schemas/{model}"


def document(app: FastAPI) -> dict[str, Any]:
    """Make the OpenAPI document, once per process; it is kept on the app."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        schemas = made["components"]["schemas"]
        _, own = models_json_schema(
            [(InbetweenRequest, "validation"), (VideoRequest, "validation"), (ProblemView, "serialization")],
            ref_template=_REF,
        )
        for name, schema in own["$defs"].items():
            schemas.setdefault(name, schema)
        schemas[FORM_SCHEMA["title"]] = FORM_SCHEMA
        _drop_framework_errors(made)
        _plain_streams(made)
        _rate_limits(made)
        _absent_parameters(made)
        app.openapi_schema = made
    return app.openapi_schema


def _drop_framework_errors(made: dict[str, Any]) -> None:
    """Leave out FastAPI's own shape of a 422, which it documents and which is never sent."""
    for name in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(name, None)
    for item in made["paths"].values():
        for operation in item.values():
            answer = operation["responses"].get("422", {})
            if "HTTPValidationError" in str(answer.get("content", {}).get("application/json", "")):
                del operation["responses"]["422"]


_RETRY_AFTER = {"description": "Seconds to wait before the request is sent again.", "schema": {"type": "integer"}}
_RATE_LIMITS = {
    "RateLimit-Policy": {
        "description": "What the key may send, where it has a limit: `q` requests in `w` seconds.",
        "schema": {"type": "string", "examples": ['"requests";q=600;w=60']},
    },
    "RateLimit": {
        "description": "What is left of it: `r` requests, and `t` seconds until there may be more.",
        "schema": {"type": "string", "examples": ['"requests";r=598;t=12']},
    },
}


def _rate_limits(made: dict[str, Any]) -> None:
    """Describe the rate limit headers in every answer to a key, whichever its route."""
    made["components"]["headers"] = {"Retry-After": _RETRY_AFTER, **_RATE_LIMITS}
    for item in made["paths"].values():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                names = [*_RATE_LIMITS] if operation.get("security") and status != "401" else []
                names += ["Retry-After"] if status in ("429", "503") else []
                for name in names:
                    answer.setdefault("headers", {})[name] = {"$ref": f"#/components/headers/{name}"}


def _plain_streams(made: dict[str, Any]) -> None:
    """Describe event streams as text, as OpenAPI 3.1 has them; FastAPI describes them in the words of 3.2."""
    for item in made["paths"].values():
        for operation in item.values():
            content = operation["responses"].get("200", {}).get("content", {}).get("text/event-stream")
            if content is not None:
                content.pop("itemSchema", None)
                content["schema"] = {"type": "string"}


def _absent_parameters(made: dict[str, Any]) -> None:
    """Drop `null` from parameters that may be left out.

    In a URL or a header leaving one out is not `null`, as FastAPI describes it.
    """
    for item in made["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                schema = parameter["schema"]
                kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
                if len(kinds) == 1:
                    schema.update(kinds[0])
                elif kinds:
                    schema["anyOf"] = kinds
