"""Texts that come as a request's `options`: right ones, wrong ones, and some that are hardly JSON (Hypothesis).

Knows the names and bounds of options from the service's schema, and nothing of how they are sent.
"""

from __future__ import annotations

import json
import math
from typing import Any, get_args

from hypothesis import strategies as st

from mpd.methods import LIMITS, METHODS
from service.jobs.options import Format, Options

NAMES = sorted(Options.model_fields)
_CHOICES = [
    choice for name in NAMES for choice in get_args(Options.model_fields[name].annotation) if isinstance(choice, str)
]
_EDGES = sorted({end for limit in LIMITS.values() for end in (limit.low, limit.high)})


def _numbers() -> st.SearchStrategy[Any]:
    """Each bound and its neighbours, numbers that no machine word holds, and what is no number."""
    edges = [edge + step for edge in _EDGES for step in (-1, -1e-9, 0, 1e-9, 1)]
    whole = [int(edge) for edge in edges if float(edge).is_integer()]
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 2**63, 2**64, -(2**63) - 1, 10**30]
    return st.one_of(
        st.sampled_from(whole), st.sampled_from(edges), st.sampled_from(odd), st.integers(), st.floats(), st.booleans()
    )


def _texts() -> st.SearchStrategy[str]:
    """Surrogates, controls and long ones among them."""
    known = [*_CHOICES, "", "mp4", "#000000", "#00000g", "pin", "upload:x", "https://127.0.0.1/x", "\0", "\ud800"]
    return st.one_of(
        st.sampled_from(known), st.text(max_size=30), st.text(st.characters(codec=None)), st.just("x" * 5000)
    )


def values() -> st.SearchStrategy[Any]:
    """JSON of any shape."""
    leaves = st.one_of(st.none(), _numbers(), _texts())
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=9) | st.dictionaries(_texts(), inner, max_size=5),
        max_leaves=12,
    )


def likely() -> st.SearchStrategy[dict[str, Any]]:
    """Objects of which many are right: each option within its own bounds, whatever the others are."""
    share = st.floats(0, 1) | st.integers(0, 1)
    plausible: dict[str, st.SearchStrategy[Any]] = {
        "method": st.sampled_from(list(METHODS)),
        "frames": st.none() | st.integers(2, 241),
        "steps": st.integers(1, 100),
        "seed": st.integers(0, 2**32 - 1),
        "seeds": st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8, unique=True),
        "width": st.integers(16, 128).map(lambda n: 16 * n),
        "height": st.integers(16, 128).map(lambda n: 16 * n),
        "fit": st.sampled_from(["cover", "contain", "stretch"]),
        "background": st.from_regex(r"#[0-9a-fA-F]{6}", fullmatch=True),
        "loop": st.booleans(),
        "loop_frame": st.integers(1, 300),
        "fps": st.integers(1, 60),
        "motion_bucket_id": st.integers(0, 255),
        "noise_aug_strength": share,
        "gamma": share,
        "k": st.integers(0, 10),
        "lam": share,
        "anchor": st.sampled_from(["pin", "rigid", "closure"]),
        "handover": share,
        "guidance": st.lists(st.floats(0, 20), min_size=2, max_size=2),
        "formats": st.lists(st.sampled_from(get_args(Format)), min_size=1, unique=True),
        "exact_keyframes": st.booleans(),
        "priority": st.sampled_from(["high", "default", "low"]),
        "result_ttl": st.integers(60, 31_536_000),
        "reference": st.text(max_size=200),
        "webhook": st.just({"url": "https://example.com/hook"}),
    }
    assert sorted(plausible) == NAMES, "an option that is never tried"
    return st.fixed_dictionaries({}, optional=plausible)


def objects() -> st.SearchStrategy[dict[str, Any]]:
    """Likely options, some of them replaced by anything, some unknown ones among them."""
    anything = st.dictionaries(st.sampled_from(NAMES) | _texts(), values(), max_size=4)
    return st.builds(lambda right, wrong: right | wrong, likely(), anything)


def documents() -> st.SearchStrategy[bytes]:
    """What is sent as `options`."""
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
