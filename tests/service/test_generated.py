"""An option is told once: what is made from its definition is there, and every place that names options has it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from inbetween import arguments
from inbetween import options as client
from mpd.__main__ import _parser
from mpd.methods import METHODS, OPTIONS, Settings
from mpd.output.formats import FORMATS
from service.jobs import baseline
from service.jobs.options import Options
from service.jobs.request_options import REQUEST_OPTIONS

ROOT = Path(__file__).parents[2]
GENERATED = runpy.run_path(str(ROOT / ".ci" / "generated.py"), run_name="generated")
FLAGS = {flag.name: flag for flag in client.FLAGS}


@pytest.mark.parametrize("path", GENERATED["MAKERS"])
def test_what_is_made_is_what_is_there(path: str) -> None:
    assert (ROOT / path).read_text() == GENERATED["MAKERS"][path](), "run: make generated"


KINDS = {
    "integer": int,
    "number": float,
    "boolean": bool,
    "text": str,
    "colour": str,
    "integers": tuple[int, ...],
    "numbers": tuple[float, float],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_setting_is_annotated_as_what_it_is_told_to_be(name: str) -> None:
    one = OPTIONS[name]
    annotation = get_type_hints(Settings)[name]
    nullable = type(None) in get_args(annotation)
    assert nullable == bool(one.unset)
    if one.kind == "integer" and one.choices:
        assert {int, *one.choices} == {int, *(word for part in get_args(annotation) for word in get_args(part))}
        assert int in get_args(annotation)
        return
    kind = next(part for part in get_args(annotation) if part is not type(None)) if nullable else annotation
    if one.choices:
        assert (kind, one.kind) == (str, "choice") if name == "method" else get_args(kind) == one.choices
    else:
        assert kind == KINDS[one.kind]


@pytest.mark.parametrize("name", REQUEST_OPTIONS)
def test_every_option_is_in_every_place(name: str) -> None:
    one = REQUEST_OPTIONS[name]
    field = Options.model_fields[name]
    assert one.hint in (field.description or "")
    assert field.default == (list(one.default) if isinstance(one.default, tuple) else one.default)
    assert name in get_type_hints(client.Options)
    assert FLAGS[name].choices == one.choices
    assert f"| `{name}` |" in (ROOT / "docs" / "options.md").read_text()
    for limit, (low, high) in ((one.limit, ("ge", "le")), (one.size, ("min_length", "max_length"))):
        # Of a list, and of a number with a name beside it, the bounds are the inner type's.
        if limit is not None and one.kind not in ("integers", "numbers") and not one.choices:
            told = {key: getattr(part, key) for part in field.metadata for key in (low, high) if hasattr(part, key)}
            assert told.get(low, 0) == limit.low
            assert told[high] == limit.high


def submitted(*words: str) -> dict[str, Any]:
    return arguments.options(arguments.parser().parse_args(["submit", "a.png", "b.png", *words]))


SAID: dict[str, tuple[str, Any]] = {
    "integer": ("7", 7),
    "number": ("0.5", 0.5),
    "text": ("word", "word"),
    "colour": ("#abcdef", "#abcdef"),
    "integers": ("1,2", [1, 2]),
    "numbers": ("1,2.5", [1.0, 2.5]),
    "webhook": ("https://example.com", {"url": "https://example.com"}),
}


@pytest.mark.parametrize("name", REQUEST_OPTIONS)
def test_every_option_can_be_said_to_the_client(name: str) -> None:
    one = REQUEST_OPTIONS[name]
    flag = "--format" if name == "formats" else f"--{name.replace('_', '-')}"
    if one.kind == "boolean":
        assert submitted(flag)[name] is True
        return
    word, value = (one.choices[-1], one.choices[-1]) if one.choices else SAID[one.kind]
    if name in ("formats", "seed"):
        assert submitted(flag, word)[f"{name.removesuffix('s')}s"] == [value]
    else:
        assert submitted(flag, word) == {name: value}
    assert submitted() == {}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_setting_can_be_said_to_the_library(name: str) -> None:
    one = OPTIONS[name]
    flag = f"--{name.replace('_', '-')}"
    words = [flag] if one.kind == "boolean" else [flag, one.choices[-1] if one.choices else SAID[one.kind][0]]
    value = True if one.kind == "boolean" else one.choices[-1] if one.choices else SAID[one.kind][1]
    found = getattr(_parser().parse_args(["a.png", "b.png", *words]), name)
    assert (list(found) if isinstance(found, tuple) else found) == value
    assert getattr(_parser().parse_args(["a.png", "b.png"]), name) is None
    shown = re.sub(r"\s+", " ", _parser().format_help().replace("\n", " "))
    assert re.sub(r"\s+", " ", one.hint) in shown


def test_the_names_of_methods_and_formats_are_the_librarys() -> None:
    assert REQUEST_OPTIONS["method"].choices == tuple(METHODS)
    assert REQUEST_OPTIONS["formats"].choices == tuple(FORMATS)
    assert get_origin(client.MethodName) is Literal
    assert {client.SUFFIXES[one.ending] for one in FORMATS.values() if one.ending in client.SUFFIXES} <= FORMATS.keys()


def test_only_methods_that_have_an_option_take_it() -> None:
    for name, one in OPTIONS.items():
        for method in METHODS.values():
            assert (method.defaults.get(name) is None) or method.has(one.trait)
    assert [m.name for m in METHODS.values() if m.has("host")] == ["mpd-trf", "mpd-vibid"]
    assert METHODS["mpd"].defaults == dict(baseline.METHOD_DEFAULTS["mpd"]) | {
        "anchor": "closure",
        "handover": None,
        "segments": "joint",
    }
