"""The HTTP API keeps what it has promised, and a change that breaks a client is named."""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = runpy.run_path(str(ROOT / ".ci" / "contract.py"), run_name="contract")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(json.loads(CONTRACT["SNAPSHOT"].read_text()))


def test_the_snapshot_is_what_a_server_answers() -> None:
    assert CONTRACT["SNAPSHOT"].read_text() == CONTRACT["text"](CONTRACT["current"]()), "run: make contract"


def test_nothing_breaks_a_client_of_the_last_release() -> None:
    """What was released stands in docs/contract; a change on purpose is told in CHANGELOG.md, and lasts a version."""
    released = sorted((ROOT / "docs" / "contract").glob("openapi-*.json"))
    assert released
    found = CONTRACT["breaking"](json.loads(released[-1].read_text()), CONTRACT["current"]())
    told = (ROOT / "CHANGELOG.md").read_text()
    assert [line for line in found if line not in told] == []


OPTIONS = ("components", "schemas", "Options")
JOB = ("components", "schemas", "JobView")


def at(document: dict[str, Any], *path: str) -> Any:
    found: Any = document
    for name in path:
        found = found[name]
    return found


BREAKING: dict[str, tuple[Change, str]] = {
    "an operation is gone": (lambda new: new["paths"].pop("/votes"), "POST /votes is gone"),
    "an option is gone": (lambda new: at(new, *OPTIONS, "properties").pop("fit"), "body.options.fit is refused now"),
    "an option is required": (
        lambda new: at(new, *OPTIONS).update(required=["fps"]),
        "body.options.fps is required now",
    ),
    "a bound is narrower": (
        lambda new: at(new, *OPTIONS, "properties", "fps").update(maximum=30),
        "body.options.fps: maximum was 60 and is 30",
    ),
    "a lower bound rises": (
        lambda new: at(new, *OPTIONS, "properties", "fps").update(minimum=2),
        "body.options.fps: minimum was 1 and is 2",
    ),
    "a word beside numbers is gone": (
        lambda new: at(new, *OPTIONS, "properties", "motion_bucket_id", "anyOf").pop(1),
        "body.options.motion_bucket_id",
    ),
    "a bound beside words is narrower": (
        lambda new: at(new, *OPTIONS, "properties", "motion_bucket_id", "anyOf")[0].update(maximum=127),
        "body.options.motion_bucket_id: maximum was 255 and is 127",
    ),
    "a choice is gone": (
        lambda new: at(new, *OPTIONS, "properties", "fit", "enum").remove("contain"),
        "body.options.fit: 'contain' is refused now",
    ),
    "an option is of another type": (
        lambda new: at(new, *OPTIONS, "properties", "fps").update(type="string"),
        "body.options.fps was integer and is string",
    ),
    "a field of an answer is gone": (lambda new: at(new, *JOB, "properties").pop("result"), "200.result is gone"),
    "a field of an answer may be absent": (
        lambda new: at(new, *JOB, "required").remove("links"),
        "200.links may be absent now",
    ),
    "a field of an answer is of another type": (
        lambda new: at(new, *JOB, "properties", "attempt").update(type="string"),
        "200.attempt was integer and is string",
    ),
    "an answer is another": (
        lambda new: at(new, "paths", "/inbetween", "post", "responses").pop("202"),
        "POST /inbetween: is not answered 202 any more",
    ),
    "a parameter is gone": (
        lambda new: at(new, "paths", "/inbetween", "get").update(parameters=[]),
        "GET /inbetween: the query parameter cursor is refused now",
    ),
    "a body's type is gone": (
        lambda new: at(new, "paths", "/inbetween", "post", "requestBody", "content").pop("multipart/form-data"),
        "a body of multipart/form-data is refused now",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_named(document: dict[str, Any], name: str) -> None:
    change, line = BREAKING[name]
    new = copy.deepcopy(document)
    change(new)
    found = CONTRACT["breaking"](document, new)
    assert any(line in each for each in found), found


HARMLESS: dict[str, Change] = {
    "a word beside numbers": lambda new: at(new, *OPTIONS, "properties", "fps").update(
        anyOf=[{"type": "integer", "minimum": 1, "maximum": 60}, {"const": "auto", "type": "string"}]
    ),
    "nothing": lambda new: None,
    "an operation more": lambda new: new["paths"].update({"/new": new["paths"]["/votes"]}),
    "an option more": lambda new: at(new, *OPTIONS, "properties").update(new={"type": "string"}),
    "a bound is wider": lambda new: at(new, *OPTIONS, "properties", "fps").update(maximum=200),
    "a choice more": lambda new: at(new, *OPTIONS, "properties", "fit", "enum").append("blur"),
    "a field of an answer more": lambda new: at(new, *JOB, "properties").update(new={"type": "string"}),
    "other words": lambda new: at(new, *OPTIONS, "properties", "fps").update(description="Other words."),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_change_that_breaks_nothing_is_not_named(document: dict[str, Any], name: str) -> None:
    new = copy.deepcopy(document)
    HARMLESS[name](new)
    assert CONTRACT["breaking"](document, new) == []
