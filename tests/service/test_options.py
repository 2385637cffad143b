"""Options made up by Hypothesis: what the API takes the library takes, and what it refuses it refuses by name."""

from __future__ import annotations

import json
import math
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from inbetween import options as client
from mpd.methods import LIMITS, Settings, SettingsError
from service.jobs.options import SETTINGS_FIELDS, Options, settings_of
from service.problems import Problem
from service.validation import from_pydantic, from_settings
from tests.service.conftest import Api
from trials.fuzz.options import NAMES, documents, likely, objects, values

thorough = hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
CLIENT = {
    name: TypeAdapter(dict if name == "webhook" else kind) for name, kind in get_type_hints(client.Options).items()
}
"""The client's option types, each of which can say whether a value is of it."""
SHARED = sorted(SETTINGS_FIELDS & set(NAMES))
"""Options that are the library's settings too, by the same name."""


def taken(text: bytes) -> Options | Problem:
    """What the door makes of a request's options."""
    try:
        options = Options.model_validate_json(text)
        options.settings()
    except ValidationError as error:
        return from_pydantic(error.errors(include_url=False, include_input=False), "options")
    except SettingsError as error:
        return from_settings(error)
    return options


def by_library(values: dict[str, Any]) -> Settings | None:
    try:
        return Settings.from_json(values)
    except SettingsError:
        return None


def fields(problem: Problem) -> set[str]:
    """The options that a refusal names."""
    for fault in problem.extra["errors"]:
        assert fault["detail"]
        assert fault["remedy"]
    assert problem.field == problem.extra["errors"][0]["field"]
    return {fault["field"].removeprefix("options.").partition("[")[0] for fault in problem.extra["errors"]}


@thorough
@given(values=likely())
def test_what_is_taken_comes_to_the_worker_unchanged(values: dict[str, Any]) -> None:
    options = taken(json.dumps(values).encode())
    if isinstance(options, Problem):
        assert fields(options) <= {*values, "width", "height", "loop_frame"}
        return
    record = json.loads(json.dumps(options.normalised()))
    assert settings_of(record) == options.settings()
    again = taken(json.dumps(record).encode())
    assert isinstance(again, Options)
    assert again.settings() == options.settings()
    assert again.normalised() == options.normalised()


@thorough
@given(values=likely())
def test_what_is_taken_is_what_the_clients_types_allow(values: dict[str, Any]) -> None:
    if isinstance(taken(json.dumps(values).encode()), Options):
        for name, value in values.items():
            CLIENT[name].validate_python(value, strict=True)
        assert values.get("webhook", {}).keys() <= get_type_hints(client.Webhook).keys()


@thorough
@given(text=documents())
def test_whatever_is_refused_is_refused_by_name(text: bytes) -> None:
    options = taken(text)
    if isinstance(options, Problem):
        assert options.status == 422
        assert fields(options)
        assert (options.field or "").startswith("options")
    else:
        assert settings_of(options.normalised()) == options.settings()


@thorough
@given(values=objects())
def test_every_fault_has_the_name_of_something_that_was_sent(values: dict[str, Any]) -> None:
    options = taken(json.dumps(values).encode())
    if isinstance(options, Problem):
        # A text with half a surrogate in it is no JSON at all.
        known = tuple(f"options.{name[:80]}" for name in (*values, "width", "height", "loop_frame"))
        for fault in options.extra["errors"]:
            assert fault["field"] == "options" or fault["field"].startswith(known)


@thorough
@given(name=st.sampled_from(SHARED), value=values())
def test_a_value_alone_is_judged_by_both_alike(name: str, value: Any) -> None:
    """`null` is another way of leaving an option out, and 25.0 of writing 25; all else is the same."""
    options = taken(json.dumps({name: value}).encode())
    if by_library({name: value}) is not None and value is not None:
        assert isinstance(options, Options), options.extra
    if isinstance(options, Options) and value is not None and not isinstance(value, float | list):
        assert by_library({name: value}) is not None


@pytest.mark.parametrize("name", [name for name in SHARED if name in LIMITS and name not in ("seeds", "guidance")])
def test_each_bound_is_where_it_is_said_to_be(name: str) -> None:
    limit = LIMITS[name]
    step = 1 if Options.model_fields[name].annotation in (int, int | None) else 1e-6
    beyond: list[Any] = [limit.low - step, limit.high + step, "1", [], {}, True, -1e308, 10**400, math.inf, math.nan]
    for wrong in beyond:
        problem = taken(json.dumps({name: wrong}).encode())
        assert isinstance(problem, Problem), (name, wrong)
        assert fields(problem) == {name}
    for right in (limit.low, limit.high, float(limit.high)):
        problem = taken(json.dumps({"method": "mpd-trf", name: right}).encode())
        assert not isinstance(problem, Problem) or name not in fields(problem) or name in ("width", "height")


@pytest.mark.parametrize("text", ['{"frames": 25.0, "fps": 7.0, "seeds": [1.0, 2]}', '{"frames": 25, "seeds": [1, 2]}'])
def test_a_whole_number_may_have_a_point(text: str) -> None:
    options = Options.model_validate_json(text).settings()
    assert (options.frames, options.fps, options.seeds) == (25, 7, (1, 2))
    assert isinstance(options.frames, int)
    assert all(isinstance(seed, int) for seed in options.seeds)


def test_the_door_says_what_the_schema_says(api: Api) -> None:
    """The same texts by HTTP, as a form and as JSON."""
    for text in (b'{"frames": 1}', b"[]", b'{"frames": 2, "frames": 1}', b'{"x": 1}', b'{"webhook": {"url": 5}}'):
        problem = taken(text)
        assert isinstance(problem, Problem)
        image = b'"upload:x"'
        body = b'{"start": ' + image + b', "end": ' + image + b', "options": ' + text + b"}"
        as_json = api.client.post("/inbetween", content=body, headers={"content-type": "application/json"})
        as_form = api.client.post("/inbetween", files={"options": (None, text, "application/json")})
        for answer in (as_json, as_form):
            assert (answer.status_code, answer.json()["field"]) == (422, problem.field), text


@pytest.mark.parametrize("as_form", [True, False])
def test_a_body_of_nothing_but_faults_is_refused_at_once(api: Api, as_form: bool) -> None:
    """Telling of each of a million unknown fields would take the server a gigabyte and a minute."""
    unknown = ",".join(f'"a{i}":1' for i in range(10_000)).encode()
    few = b'{"' + b"x" * 1000 + b'": 1, ' + unknown[:2000].rpartition(b",")[0] + b"}"
    for text in (b"{" + unknown + b"}", few):
        if as_form:
            answer = api.client.post("/inbetween", files={"options": (None, text, "application/json")})
        else:
            body = b'{"start": "upload:x", "options": ' + text + b"}"
            answer = api.client.post("/inbetween", content=body, headers={"content-type": "application/json"})
        found = answer.json()
        assert (answer.status_code, found["type"]) == (422, "/problems/invalid-request")
        assert len(found["errors"]) == (50 if text is few else 1)
        assert len(answer.content) < 60_000
        assert max(len(fault["field"]) for fault in found["errors"]) < 100


def test_options_longer_than_any_can_be(api: Api) -> None:
    text = b'{"reference": "' + b"x" * (1 << 20) + b'"}'
    answer = api.client.post("/inbetween", files={"options": (None, text, "application/json")})
    assert (answer.status_code, answer.json()["field"]) == (422, "options")


def test_events_of_a_webhook_come_once_each() -> None:
    problem = taken(json.dumps({"webhook": {"url": "https://example.com", "events": [1] * 100_000}}).encode())
    assert isinstance(problem, Problem)
    assert len(problem.extra["errors"]) == 1
