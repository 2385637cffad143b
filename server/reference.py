"""Settings and metrics as Markdown, from the code: `inbetween-server reference > docs/reference.md`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from service.jobs.metrics import METRIC_PREFIX, METRICS, Metric
from service.settings import SECRETS, ServiceSettings

_INTRODUCTION = """# Reference

Made by `inbetween-server reference` from the code; a test holds the two together.

## Settings

Each is an environment variable, or a line in `.env`. The secrets among them may be in a file instead, whose path the
variable with `_FILE` behind its name gives. `inbetween-server settings` prints the present values.
"""

_METRICS = """
## Metrics

`GET /metrics` has them, for a key with the scope `metrics`. All are counted in Redis or looked up when asked, so every
API process answers the same: in sums over several of them, count each once (`max without (instance, pod)`). A
histogram `NAME` is the series `NAME_bucket`, `NAME_sum` and `NAME_count`.
"""


def markdown() -> str:
    """Write the whole page."""
    fields = ServiceSettings.model_fields.items()
    settings = _table(("variable", "default", "takes", "meaning"), (_setting(name, field) for name, field in fields))
    metrics = _table(("metric", "kind", "labels", "meaning"), map(_metric, METRICS.values()))
    return f"{_INTRODUCTION}\n{settings}{_METRICS}\n{metrics}"


def _setting(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    variable = f"`{name.upper()}`" + (f" `{name.upper()}_FILE`" if name in SECRETS else "")
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    shown = f"`{_written(default)}`" if default not in (None, "") else ""
    return variable, shown, _takes(field), field.description or ""


def _takes(field: FieldInfo) -> str:
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not NoneType]
    [kind] = kinds
    if get_origin(kind) is Literal:
        return " · ".join(f"`{choice}`" for choice in get_args(kind))
    limits = {type(limit).__name__: getattr(limit, type(limit).__name__.lower(), None) for limit in field.metadata}
    low, above, high = limits.get("Ge"), limits.get("Gt"), limits.get("Le")
    names = {int: "whole number", float: "number", bool: "`true` · `false`", SecretStr: "secret"}
    words = [names.get(kind, "list" if get_origin(kind) is tuple else "path" if _is_path(kind) else "text")]
    words += [f"from {low:,}"] if low is not None else [f"above {above:,}"] if above is not None else []
    words += [f"to {high:,}"] if high is not None else []
    return " ".join(words)


def _metric(measure: Metric) -> tuple[str, str, str, str]:
    labels = [f"`{name}`" + (f": {', '.join(values)}" if values else "") for name, values in measure.labels.items()]
    buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in measure.buckets)}." if measure.buckets else ""
    return f"`{METRIC_PREFIX}{measure.name}`", measure.kind, "; ".join(labels), measure.help + buckets


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _is_path(kind: Any) -> bool:
    return kind is Path or Path in get_args(kind)


def _written(value: object) -> str:
    """Write a value as an environment variable has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
