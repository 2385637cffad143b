"""The OpenAPI document: valid, complete, and true to what the API answers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from service.api import openapi_examples
from service.api.schemas import JobView
from service.jobs.options import InbetweenRequest, Options
from tests.service.conftest import Api


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    return dict(api.client.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, verb, operation) for path, item in document["paths"].items() for verb, operation in item.items()]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for path, verb, operation in operations(document):
        where = f"{verb} {path}"
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", operation["operationId"]), where
        assert operation["summary"], where
        assert operation["description"], where
        assert set(operation["tags"]) <= tags, where
        assert operation["tags"], where
        for parameter in operation.get("parameters", []):
            assert parameter["name"] in ("token", "slug") or parameter.get("description"), (where, parameter["name"])


def test_every_operation_declares_its_errors_as_problems(document: dict[str, Any]) -> None:
    for path, verb, operation in operations(document):
        failures = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"500", "503"} <= set(failures), (verb, path)
        if operation.get("security"):
            assert {"401", "403", "429"} <= set(failures), (verb, path)
            for status, answer in operation["responses"].items():
                told = set(answer.get("headers", {}))
                assert ("RateLimit" in told) == (status != "401"), (verb, path, status)
                assert status not in ("429", "503") or "Retry-After" in told, (verb, path, status)
        for status, answer in failures.items():
            assert list(answer["content"]) == ["application/problem+json"], (verb, path, status)
            assert answer["content"]["application/problem+json"]["schema"]["$ref"].endswith("/ProblemView")


def test_no_parameter_can_be_null(document: dict[str, Any]) -> None:
    for path, verb, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert "null" not in str(parameter["schema"]), (verb, path, parameter["name"])
            assert parameter["schema"].get("type"), (verb, path, parameter["name"])


def test_no_schema_is_the_frameworks(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)


def test_examples_are_true(document: dict[str, Any]) -> None:
    content = openapi_examples.REQUEST_BODY["content"]["application/json"]
    for example in content["examples"].values():
        InbetweenRequest.model_validate(example["value"])
    Options.model_validate(content["examples"]["two images by URL"]["value"]["options"])
    for example in (openapi_examples.QUEUED, openapi_examples.RUNNING, openapi_examples.SUCCEEDED):
        JobView.model_validate(example)
    form = document["paths"]["/inbetween"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["$ref"].endswith("/InbetweenForm")
    links = document["paths"]["/inbetween"]["post"]["responses"]["202"]["links"]
    ids = {operation["operationId"] for _, _, operation in operations(document)}
    assert {link["operationId"] for link in links.values()} <= ids


def test_answers_fit_their_schemas(api: Api, document: dict[str, Any]) -> None:
    def check(answer: Any, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        Draft202012Validator(schema).validate(answer)

    made = api.submit({"method": "flow", "webhook": {"url": "https://example.com/hook"}})
    check(made, "JobView")
    api.succeed(made["id"])
    check(api.client.get(made["links"]["self"]).json(), "JobView")
    check(api.client.get("/inbetween").json(), "JobList")
    check(api.client.get("/methods").json(), "MethodsView")
    check(api.client.get("/nothing").json(), "ProblemView")
    check(api.post({"frames": 0}).json(), "ProblemView")


def test_options_have_the_librarys_defaults() -> None:
    from dataclasses import fields

    from mpd.methods import Settings

    assert Options().settings() == Settings()
    assert {field.name for field in fields(Settings)} - {"positions"} <= set(Options.model_fields)
