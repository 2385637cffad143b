"""A job's options as its record keeps them: what differs from the first defaults (`baseline`), and their version.

So an older release reads what a newer one wrote, unless the job uses what is new; and a record keeps its picture when
a default, or a method's own value, becomes another. Records without a version state all that they mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mpd.methods import METHODS
from service.jobs import baseline

STATED = frozenset(("formats", "loop", "method", "seeds"))
"""Stated whatever they are: releases that know no version look these up."""
UNSET = "unset"
"""In a record, the options without a value that had one at first. A release that knows nothing of it goes by the first
default, where it would refuse an option without a value."""


OF_SEVERAL = frozenset(("segments",))
"""Options that mean something only where there is more than one segment."""


def stored(options: Mapping[str, Any], keyframes: int) -> dict[str, Any]:
    """Leave out of a job's options what version `baseline.VERSION` means anyhow, or what they cannot mean."""
    values = {**dict(_moved(options, keyframes, now=True)), **options}
    unset = sorted(name for name, value in values.items() if value is None and _means_something(name))
    kept = {
        name: value
        for name, value in values.items()
        if name in STATED or (name not in unset and value != baseline.OPTION_DEFAULTS.get(name))
    }
    return {"version": baseline.VERSION, **kept, **({UNSET: unset} if unset else {})}


def complete(record: Mapping[str, Any], keyframes: int) -> dict[str, Any]:
    """Read a job's options in full: an option that is not there is None, and was when the job was written down.

    A record of a version that this release does not know stays as it is, version and all.
    """
    if record.get("version", baseline.VERSION) != baseline.VERSION:
        return dict(record)
    values = {**baseline.OPTION_DEFAULTS, **record}
    values.pop("version", None)
    values |= dict.fromkeys(values.pop(UNSET, ()))
    values |= dict(_moved(values, keyframes, now=False))
    return {name: values[name] for name in sorted(values) if values[name] is not None or _means_something(name)}


def _means_something(name: str) -> bool:
    """Tell whether None is another thing to say of an option than nothing."""
    return baseline.OPTION_DEFAULTS.get(name) is not None


def _moved(options: Mapping[str, Any], keyframes: int, now: bool) -> Iterator[tuple[str, Any]]:
    """Give the options left to the method whose own value has changed, with today's value or the first one."""
    name = options.get("method", baseline.OPTION_DEFAULTS["method"])
    if name not in METHODS or name not in baseline.METHOD_DEFAULTS:
        return
    today = METHODS[name].defaults
    several = keyframes > 2 or bool(options.get("loop"))
    for option, first in baseline.METHOD_DEFAULTS[name].items():
        if option in OF_SEVERAL and not several:
            continue
        present = list(today[option]) if isinstance(today[option], tuple) else today[option]
        if options.get(option) is None and first != present:
            yield option, present if now else first
