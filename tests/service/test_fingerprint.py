"""What makes two requests the same: every field of a request counts, and what was left out does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from pydantic import BaseModel, Field, create_model

from mpd.methods import Settings
from service.api.intake.fingerprint import DEFAULTS_BEFORE, Fingerprint, fingerprint
from service.api.intake.request_body import ReceivedImage, Wanted
from service.jobs.options import InbetweenRequest, Keyframe, Options
from service.jobs.strict import Webhook
from service.settings import ServiceSettings
from tests.service.conftest import Api, problem
from trials.pictures import photo

SETTINGS = ServiceSettings(_env_file=None)
URLS = ("https://a.example/1", "https://a.example/2")
HOOK = "https://example.com/hook"

NAMES_ALONE = {ReceivedImage: {"field"}, Wanted: {"settings"}}
"""What says nothing new: how the form names a picture, and what is made of the options."""


def wanted(options: Options | None = None, **more: Any) -> Wanted:
    pictures = tuple(ReceivedImage(url, f"keyframes[{number}].image") for number, url in enumerate(URLS))
    return Wanted(more.pop("pictures", pictures), more.pop("positions", None), options or Options(), Settings(), **more)


def printed(request: Wanted) -> Fingerprint:
    return fingerprint(request, SETTINGS)


def same(one: Wanted, other: Wanted) -> bool:
    """Whether `other` is taken for a repetition of `one`."""
    return printed(other).matches(json.loads(json.dumps(printed(one).stored)))


def others(schema: dict[str, Any], definitions: dict[str, Any], default: Any) -> Iterator[Any]:
    """Values that a field of this JSON schema may have, each another than its default."""
    if "$ref" in schema:
        yield from others(definitions[schema["$ref"].rpartition("/")[2]], definitions, default)
    elif "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from others(one, definitions, default)
    elif "enum" in schema:
        yield from (value for value in schema["enum"] if value != default)
    elif (kind := schema.get("type")) == "boolean":
        yield not default
    elif kind in ("integer", "number"):
        yield from {schema["minimum"], schema["maximum"]} - {default}
    elif kind == "array":
        item = next(others(schema["items"], definitions, (default or [None])[0]))
        yield [item] * schema.get("minItems", 1)
    elif kind == "object" and "properties" in schema:
        needed = {"url": HOOK}
        assert set(schema["required"]) == set(needed), "say here what the new member may be"
        yield needed
    elif "const" in schema:
        yield schema["const"]
    elif kind == "string":
        yield schema["pattern"] == r"^#[0-9a-fA-F]{6}$" and "#abcdef" if "pattern" in schema else HOOK
    elif kind != "null":
        raise AssertionError(f"say here what another value of {schema} may be")


def every_other(model: type[BaseModel]) -> list[tuple[str, Any]]:
    """Each field with each of some values that are not its default; every field comes."""
    schema = model.model_json_schema()
    found = [
        (name, value)
        for name, field in model.model_fields.items()
        for value in others(
            schema["properties"][name], schema.get("$defs", {}), field.get_default(call_default_factory=True)
        )
    ]
    assert {name for name, _ in found} == set(model.model_fields)
    return found


@pytest.mark.parametrize(("name", "value"), every_other(Options), ids=str)
def test_a_request_with_another_option_is_another_request(name: str, value: Any) -> None:
    changed = wanted(Options.model_validate({name: value}))
    assert not same(wanted(), changed)
    assert not same(changed, wanted())
    if value != DEFAULTS_BEFORE.get(name):
        assert printed(wanted()).before != printed(changed).before, "as the versions before saw it"


@pytest.mark.parametrize(("name", "value"), every_other(Webhook), ids=str)
def test_a_request_with_another_webhook_is_another_request(name: str, value: Any) -> None:
    first = {"url": "https://example.com/first"}
    one, other = (wanted(Options.model_validate({"webhook": hook})) for hook in (first, {**first, name: value}))
    assert not same(one, other)


PICTURES: dict[str, tuple[Any, ...]] = {
    "source": ("https://a.example/3", photo(), "upload:0"),
    "sha256": ("0" * 64,),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", sorted({field.name for field in fields(ReceivedImage)} - NAMES_ALONE[ReceivedImage]))
def test_a_request_with_another_picture_is_another_request(name: str, number: int) -> None:
    for value in PICTURES[name]:
        pictures = list(wanted().pictures)
        pictures[number] = replace(pictures[number], **{name: value})
        assert not same(wanted(), wanted(pictures=tuple(pictures))), (name, value)


REQUESTS: dict[str, tuple[Any, ...]] = {
    "pictures": (wanted().pictures[::-1], (*wanted().pictures, wanted().pictures[0]), wanted().pictures[:1]),
    "positions": ((0, 7), (0, 8), (1, 8)),
    "options": (Options(reference="shot-1"), Options(reference="shot-2")),
}


@pytest.mark.parametrize("name", sorted({field.name for field in fields(Wanted)} - NAMES_ALONE[Wanted]))
def test_every_part_of_a_request_counts(name: str) -> None:
    kinds = [wanted(), *(replace(wanted(), **{name: value}) for value in REQUESTS[name])]
    for one in kinds:
        assert [same(one, other) for other in kinds] == [one is other for other in kinds]


def test_no_field_of_the_body_is_forgotten_here() -> None:
    """Those of a request and of a keyframe come to `Wanted` and `ReceivedImage`, which are walked above."""
    assert set(InbetweenRequest.model_fields) == {"start", "end", "keyframes", "options", "result"}
    assert set(Keyframe.model_fields) == {"image", "frame", "sha256"}


def test_bytes_count_by_what_they_are() -> None:
    one, other = photo(), photo(colour="teal")
    uri = f"data:image/png;base64,{base64.b64encode(one).decode()}"

    def of(source: bytes | str) -> Wanted:
        return wanted(pictures=(ReceivedImage(source, "start"),))

    assert same(of(one), of(uri))
    assert not same(of(one), of(other))
    assert not same(of(uri), of(other))


def test_how_a_picture_is_named_does_not_count() -> None:
    named = tuple(replace(one, field=name) for one, name in zip(wanted().pictures, ("start", "end"), strict=True))
    assert same(wanted(), wanted(pictures=named))


@pytest.mark.parametrize("asked", [{}, {"fit": "cover"}, {"webhook": {"url": HOOK}, "fps": 7}], ids=str)
def test_a_version_with_more_options_and_other_defaults_knows_the_request_again(asked: dict[str, Any]) -> None:
    fit: Any = (str | None, Field(default=None))
    newer = create_model("Newer", __base__=Options, fit=fit, tempo=(int, Field(default=3)))
    one, again = (wanted(model.model_validate(asked)) for model in (Options, newer))
    assert same(one, again)
    assert same(again, one)


def test_leaving_an_option_out_is_sending_its_default_as_long_as_that_is_the_default() -> None:
    one, spelled = wanted(), wanted(Options(fit="cover", fps=7, reference=None))
    assert same(one, spelled)
    assert same(spelled, one)
    newer = create_model("Newer", __base__=Options, fit=(str, Field(default="contain")))
    assert not same(one, wanted(newer.model_validate({"fit": "contain"})))
    assert not same(one, wanted(newer(fit="stretch")))


@pytest.mark.parametrize(
    ("options", "print_"),
    [
        ({}, "520443b029c4972f1db2728be5e51386ac6f5ac80efba7b0b0d058cfc57618e5"),
        ({"webhook": {"url": HOOK}, "fps": 9}, "813f48af421a20303c1062d74500e729fdc030c8def81a03c8729df285529967"),
    ],
)
def test_a_claim_of_the_version_before_is_known_again(options: dict[str, Any], print_: str) -> None:
    request = wanted(Options.model_validate(options), positions=(0, 24))
    assert printed(request).matches({"fingerprint": print_})
    assert not printed(replace(request, positions=(0, 25))).matches({"fingerprint": print_})
    assert printed(request).stored["fingerprint"] == print_, "so processes of that version know ours again"


def test_a_reference_that_is_expected_to_be_another_file_is_refused_and_not_replayed(api: Api) -> None:
    job = api.submit({"method": "flow"})["id"]
    images = [{"image": f"job:{job}/{number}"} for number in (0, 1)]
    body: dict[str, Any] = {"keyframes": images, "options": {"method": "flow"}}
    headers = {"Idempotency-Key": "abc"}
    first = api.client.post("/inbetween", json=body, headers=headers)
    assert first.status_code == 202
    assert api.client.post("/inbetween", json=body, headers=headers).json()["id"] == first.json()["id"]
    images[1]["sha256"] = "0" * 64
    problem(api.client.post("/inbetween", json=body, headers=headers), 422, "idempotency-key-reused")
