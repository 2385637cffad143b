"""From what pydantic found wrong to a problem that names each field and what to send instead.

Says nothing of the values sent: an error may be logged, and a value may be an image or a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pydantic import BaseModel

from mpd.methods import LIMITS, METHODS, SettingsError
from service.jobs.options import Keyframe, Options
from service.jobs.request_options import REQUEST_OPTIONS
from service.jobs.strict import Webhook
from service.problems import Problem

_PLACES = ("body", "query", "path", "header", "cookie")
_KNOWN: dict[str, type[BaseModel]] = {"options": Options, "webhook": Webhook, "keyframes": Keyframe}

_OF_SEVERAL_KINDS = frozenset(name for name, one in REQUEST_OPTIONS.items() if one.kind == "integer" and one.choices)
_BOUNDS = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}
_NOUNS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "model": "an object",
    "dict": "an object",
    "json": "valid JSON",
}


MOST_FAULTS = 50
"""Faults of one request that are told; whoever mends these learns of the others."""
LONGEST_NAME = 80
"""Characters of an unknown field's name that are repeated."""


class FieldFault(NamedTuple):
    """One field that cannot be used: its path, such as `options.frames`, what is wrong, what to send."""

    field: str
    detail: str
    remedy: str


def refused(faults: Sequence[FieldFault]) -> Problem:
    """Make one 422 of all faults; the first one speaks for them."""
    first = faults[0]
    errors = [fault._asdict() for fault in faults[:MOST_FAULTS]]
    return Problem(422, "invalid-request", first.detail, field=first.field, remedy=first.remedy, errors=errors)


def from_settings(error: SettingsError) -> Problem:
    """Make the problem of a setting: `frames` is `options.frames`, positions are the keyframes'."""
    names = {"positions": "keyframes", "keyframes": "keyframes"}
    field = names.get(error.field, f"options.{error.field}")
    return refused([FieldFault(field, _sentence(error.problem), _sentence(error.remedy))])


def from_pydantic(
    errors: Iterable[Mapping[str, Any]], prefix: str = "", model: type[BaseModel] | None = None
) -> Problem:
    """Make the problem of `ValidationError.errors()`, or the framework's own. `prefix` comes before each path."""
    faults: dict[str, FieldFault] = {}
    for fault in (_fault(error, prefix, model) for error in islice(errors, MOST_FAULTS)):
        faults.setdefault(fault.field, fault)
    return refused(list(faults.values()))


def _fault(error: Mapping[str, Any], prefix: str, model: type[BaseModel] | None) -> FieldFault:
    parts = [part for part in error["loc"] if part not in _PLACES or part != error["loc"][0]]
    if len(parts) > 1 and parts[-2] in _OF_SEVERAL_KINDS:
        # pydantic names the kind that it tried last; each kind that the value is not is a fault of its own.
        parts.pop()
    field = _path(([prefix] if prefix else []) + parts)
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("missing", "missing_argument"):
        return FieldFault(field, "This field is missing.", f"Send {field}.")
    if kind == "extra_forbidden":
        return FieldFault(field, "There is no such field.", _known_fields(parts, prefix, model))
    if kind == "literal_error":
        return FieldFault(field, "This is not one of the known values.", f"Choose one of {context['expected']}.")
    limit = next((LIMITS[str(part)] for part in parts[-2:] if str(part) in LIMITS), None)
    if limit is not None and (kind.startswith(("int", "float")) or kind in _BOUNDS):
        noun = "a whole number" if kind.startswith("int") else "a number"
        ends = " to ".join(f"{int(end)}" if float(end).is_integer() else f"{end}" for end in (limit.low, limit.high))
        return FieldFault(field, _sentence(error["msg"]), f"Send {noun} from {ends}: {limit.why}.")
    return FieldFault(field, _sentence(error["msg"].removeprefix("Value error, ")), _remedy(kind, context))


def _known_fields(parts: Sequence[str | int], prefix: str, model: type[BaseModel] | None) -> str:
    owner = next((part for part in reversed([prefix, *parts[:-1]]) if part in _KNOWN), None)
    known = _KNOWN[str(owner)] if owner is not None else model
    return f"Remove it. Known fields: {', '.join(known.model_fields)}." if known is not None else "Remove it."


def _remedy(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "string_pattern_mismatch":
        return f"Send text that matches {context['pattern']}."
    if kind in ("too_long", "string_too_long"):
        return f"Send at most {context['max_length']} {'characters' if kind.startswith('string') else 'values'}."
    if kind in ("too_short", "string_too_short"):
        return f"Send at least {context['min_length']} {'characters' if kind.startswith('string') else 'values'}."
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"Send {words} {context[name]}."
    if kind == "value_error":
        return "Send each value once."
    return f"Send {_NOUNS.get(kind.split('_')[0], 'another value')}."


def _path(parts: Sequence[str | int]) -> str:
    path = ""
    for part in parts:
        name = str(part)[:LONGEST_NAME]
        path += f"[{name}]" if isinstance(part, int) else f".{name}" if path else name
    return path or "body"


def _sentence(text: str) -> str:
    named = text.partition(" ")[0].rstrip(",") in METHODS
    return (text if named else text[:1].upper() + text[1:]).rstrip(".") + "."
