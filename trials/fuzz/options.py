"""Texts that come as a request's `options`: right ones, wrong ones, and some that are hardly JSON (Hypothesis).

Knows the names and bounds of options from the service's schema, and nothing of how they are sent.
"""

from __future__ import annotations

import json
import math
from typing import Any, get_args

from hypothesis import strategies as st

from mpd.methods import LIMITS
from mpd.options import COLOUR, Option
from service.jobs.options import Options
from service.jobs.request_options import REQUEST_OPTIONS

NAMES = sorted(Options.model_fields)
assert sorted(REQUEST_OPTIONS) == NAMES, "an option that is never tried"
_CHOICES = [
    choice for name in NAMES for choice in get_args(Options.model_fields[name].annotation) if isinstance(choice, str)
]
_EDGES = sorted({end for limit in LIMITS.values() for end in (limit.low, limit.high)})


def _numbers() -> st.SearchStrategy[Any]:
    """Draw each bound and its neighbours, numbers that no machine word holds, and what is no number."""
    edges = [edge + step for edge in _EDGES for step in (-1, -1e-9, 0, 1e-9, 1)]
    whole = [int(edge) for edge in edges if float(edge).is_integer()]
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 2**63, 2**64, -(2**63) - 1, 10**30]
    return st.one_of(
        st.sampled_from(whole), st.sampled_from(edges), st.sampled_from(odd), st.integers(), st.floats(), st.booleans()
    )


def _texts() -> st.SearchStrategy[str]:
    """Draw texts, surrogates, controls and long ones among them."""
    known = [*_CHOICES, "", "mp4", "#000000", "#00000g", "pin", "upload:x", "https://127.0.0.1/x", "\0", "\ud800"]
    return st.one_of(
        st.sampled_from(known), st.text(max_size=30), st.text(st.characters(codec=None)), st.just("x" * 5000)
    )


def values() -> st.SearchStrategy[Any]:
    """Draw JSON of any shape."""
    leaves = st.one_of(st.none(), _numbers(), _texts())
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=9) | st.dictionaries(_texts(), inner, max_size=5),
        max_leaves=12,
    )


def likely() -> st.SearchStrategy[dict[str, Any]]:
    """Draw objects of which many are right: each option within its own bounds, whatever the others are."""
    return st.fixed_dictionaries({}, optional={name: _plausible(one) for name, one in REQUEST_OPTIONS.items()})


def _plausible(one: Option) -> st.SearchStrategy[Any]:
    """Draw values of an option that are right as long as nobody looks at the others."""
    low, high = (one.limit.low, one.limit.high) if one.limit is not None else (0, 2**31)
    least, most = (int(one.size.low), int(one.size.high)) if one.size is not None else (0, 9)
    if one.name in ("width", "height"):
        return st.integers(16, 128).map(lambda n: 16 * n)
    whole = st.integers(int(low), int(high))
    by_kind: dict[str, st.SearchStrategy[Any]] = {
        "integer": whole,
        "number": st.floats(low, high) | whole,
        "boolean": st.booleans(),
        "text": st.text(min_size=least, max_size=most),
        "colour": st.from_regex(COLOUR, fullmatch=True),
        "integers": st.lists(whole, min_size=least, max_size=most, unique=True),
        "numbers": st.lists(st.floats(low, high), min_size=least, max_size=most),
        "webhook": st.just({"url": "https://example.com/hook"}),
    }
    if one.choices:
        choice = st.sampled_from(one.choices)
        if one.kind == "choices":
            return st.lists(choice, min_size=least, max_size=most, unique=True)
        return by_kind[one.kind] | choice if one.kind in by_kind else choice
    return by_kind[one.kind] | st.none() if one.name == "frames" else by_kind[one.kind]


def objects() -> st.SearchStrategy[dict[str, Any]]:
    """Draw likely options, some of them replaced by anything, some unknown ones among them."""
    anything = st.dictionaries(st.sampled_from(NAMES) | _texts(), values(), max_size=4)
    return st.builds(lambda right, wrong: right | wrong, likely(), anything)


def documents() -> st.SearchStrategy[bytes]:
    """Draw what is sent as `options`."""
    written = st.builds(_written, objects() | values(), st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "ascii"]))
    twice = st.builds(lambda one, other: one[:-1] + b"," + other[1:], _filled(), _filled())
    named = st.sampled_from(NAMES)
    deep = st.builds(
        lambda name, depth, pair: f'{{"{name}": {pair[0] * depth}{pair[1] * depth}}}'.encode(),
        named,
        st.sampled_from([5, 150, 300, 5000, 100_000]),
        st.sampled_from([("[", "]"), ('{"a":', "}"), ("[", "")]),
    )
    long = st.builds(
        lambda name, number: f'{{"{name}": {number}}}'.encode(),
        named,
        st.sampled_from(
            ["9" * 400, "9" * 5000, "-" + "9" * 5000, "1e999", "1e-999", "0." + "1" * 5000, "NaN", "01", "+1"]
        ),
    )
    escaped = st.builds(
        lambda name, text: f'{{"{name}": "{text}"}}'.encode(),
        named,
        st.sampled_from([r"\ud800", r"\udfff\ud800", r"\u0000", r"\x41", "\x01", r"\u00e9"]),
    )
    return st.one_of(written, written, written, twice, deep, long, escaped, st.binary(max_size=60))


def _filled() -> st.SearchStrategy[bytes]:
    return likely().filter(bool).map(lambda value: json.dumps(value).encode())


def _written(value: Any, encoding: str) -> bytes:
    return json.dumps(value, ensure_ascii=encoding == "ascii").encode(encoding, "surrogatepass")
