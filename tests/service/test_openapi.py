"""The OpenAPI document: valid, complete, and true to what the API answers."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import validate

from service.jobs.options import Options
from tests.service.conftest import Api
from trials.pictures import photo


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


def test_links_name_operations(document: dict[str, Any]) -> None:
    links = document["paths"]["/inbetween"]["post"]["responses"]["202"]["links"]
    ids = {operation["operationId"] for _, _, operation in operations(document)}
    assert {link["operationId"] for link in links.values()} <= ids


def examples(part: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Find where the document has examples, the schema they must fit, and each of them."""
    if isinstance(part, list):
        for number, entry in enumerate(part):
            yield from examples(entry, f"{where}/{number}")
    elif isinstance(part, dict):
        shown = part.get("examples")
        if isinstance(shown, list):  # a schema's own
            yield from ((where, part, value) for value in shown)
        elif isinstance(shown, dict):  # those of a body or an answer, by name
            yield from ((f"{where}/{name}", part["schema"], one["value"]) for name, one in shown.items())
        for name, entry in part.items():
            if name != "examples":
                yield from examples(entry, f"{where}/{name}")


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    found = list(examples(document))
    assert {"/components/schemas/Options/properties/seeds", "/components/schemas/ProblemView"} <= {
        at for at, _, _ in found
    }
    for where, schema, value in found:
        try:
            Draft202012Validator({**schema, "components": document["components"]}).validate(value)
        except ValidationError as error:
            pytest.fail(f"{where}: {error}")


def example_bodies(document: dict[str, Any], media_type: str) -> list[Any]:
    """Every body of this type that the document shows for a request whose answer is a job or its cost."""
    return [
        example["value"]
        for path in ("/inbetween", "/inbetween/estimate")
        for example in document["paths"][path]["post"]["requestBody"]["content"][media_type]["examples"].values()
    ]


def with_pictures(part: Any) -> Any:
    """Put a picture in the place of every image that an example only names."""
    if isinstance(part, list):
        return [with_pictures(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    picture = f"data:image/png;base64,{b64encode(photo()).decode()}"
    return {name: picture if name in ("start", "end", "image") else with_pictures(one) for name, one in part.items()}


def test_every_example_of_a_json_body_is_accepted(api: Api, document: dict[str, Any]) -> None:
    bodies = example_bodies(document, "application/json")
    assert bodies
    for body in bodies:
        answer = api.client.post("/inbetween", json=with_pictures(body))
        assert answer.status_code == 202, answer.text


def test_every_example_of_a_form_is_accepted(api: Api, document: dict[str, Any]) -> None:
    forms = example_bodies(document, "multipart/form-data")
    assert forms
    for form in forms:
        options = {"options": json.dumps(form["options"])}
        answer = api.client.post("/inbetween", files={name: photo() for name in form.keys() - options}, data=options)
        assert answer.status_code == 202, answer.text


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
