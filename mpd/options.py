"""What an option is: its kind, default and limits, and how people are told of it. Knows no option by name.

Imports nothing but the standard library, as `mpd.methods`, whose `Settings` are made of these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

OptionKind = Literal[
    "integer", "number", "boolean", "text", "colour", "choice", "integers", "numbers", "choices", "webhook"
]
Group = Literal["basics", "video", "interpolation", "sampling", "distillation", "timeline", "delivery"]
Trait = Literal["distillation", "host", "guidance", "motion", "model"]
GROUPS: dict[Group, str] = {
    "basics": "What to make",
    "video": "The picture",
    "interpolation": "Interpolation",
    "sampling": "Sampling, in methods with a model",
    "distillation": "Motion Prior Distillation",
    "timeline": "Keyframes at given frames",
    "delivery": "What becomes of the job",
}
COLOUR = r"#[0-9a-fA-F]{6}"

_NOUNS: dict[OptionKind, str] = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "integers": "a list of numbers",
    "numbers": "a list of numbers",
    "choices": "a list of names",
    "webhook": "an object",
}
_TYPES: dict[OptionKind, type | tuple[type, ...]] = {
    "boolean": bool,
    "integers": (tuple, list),
    "numbers": (tuple, list),
    "choices": (tuple, list),
    "webhook": dict,
}


class SettingsError(ValueError):
    """A setting cannot be used as given.

    `field` names the setting, `problem` says what is wrong with it, `remedy` what to send instead.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}. {remedy}.")
        self.field = field
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Limit:
    """An inclusive range with the reason for its ends."""

    low: float
    high: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing that a caller may say of a video. All that names options is made from these.

    Where `default` is None, `unset` says what holds instead; elsewhere None is no value.
    """

    name: str
    kind: OptionKind
    default: Any
    #: The name above a field, and one line that stands alone.
    label: str
    hint: str
    group: Group
    #: Of a number, of each where there are several.
    limit: Limit | None = None
    #: How many values a list has, how many characters a text.
    size: Limit | None = None
    #: Names that a value is one of; of a number, names that may stand for one.
    choices: tuple[str, ...] = ()
    #: The name that the choices have as a type.
    alias: str = ""
    unset: str = ""
    #: Which methods have it, None for all: elsewhere it is refused.
    trait: Trait | None = None
    #: What a reference says beside the hint.
    more: str = ""
    example: Any = None

    def check(self, value: object) -> None:
        """Raise `SettingsError` for a value of another kind, outside the limits, or none of the choices."""
        if value is None:
            if not self.unset:
                raise SettingsError(self.name, "has no value", "Leave it out for its default")
            return
        if self.kind in ("integer", "number"):
            if value not in self.choices:
                self._check_number(value)
            return
        noun = _NOUNS.get(self.kind, "a text")
        if not isinstance(value, _TYPES.get(self.kind, str)):
            raise SettingsError(self.name, f"{value!r} is not {noun}", f"Send {noun}")
        if self.kind == "colour" and not re.fullmatch(COLOUR, str(value)):
            raise SettingsError(self.name, f"{value!r} is not a colour", "Write it as #rrggbb")
        if isinstance(value, tuple | list):
            self._check_list(value)
        elif self.choices and value not in self.choices:
            remedy = f"Choose one of {', '.join(self.choices)}"
            raise SettingsError(self.name, f"unknown {self._noun} {value!r}", remedy)

    @property
    def _noun(self) -> str:
        return self.name if self.name == "method" else "value"

    def _check_list(self, values: Sequence[object]) -> None:
        if self.size is not None and not self.size.low <= len(values) <= self.size.high:
            low, high = (f"{end:g}" for end in (self.size.low, self.size.high))
            many = low if low == high else f"{low} to {high}"
            raise SettingsError(self.name, f"{len(values)} values", f"Send {many} of them: {self.size.why}")
        for value in values:
            if value is None:
                raise SettingsError(self.name, "one of them has no value", "Send a number for each")
            if self.kind in ("integers", "numbers"):
                self._check_number(value)

    def _check_number(self, value: object) -> None:
        whole = self.kind in ("integer", "integers")
        noun = " or ".join(["a whole number" if whole else "a number", *self.choices])
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise SettingsError(self.name, f"{value!r} is not {noun}", self._remedy(noun))
        if self.limit is not None and not self.limit.low <= value <= self.limit.high:
            raise SettingsError(self.name, f"{value!r} is out of range", self._remedy(noun))

    def _remedy(self, noun: str) -> str:
        if self.limit is None:
            return f"Send {noun}"
        named, *words = noun.split(" or ")
        noun = " or ".join([f"{named} from {self.limit.low} to {self.limit.high}", *words])
        return f"Send {noun}: {self.limit.why}"


def option(default: Any, kind: OptionKind, label: str, hint: str, group: Group, **told: Any) -> Any:
    """Define a dataclass field that is an option. told: the other members of `Option`."""
    made = Option(name="", default=default, kind=kind, label=label, hint=hint, group=group, **told)
    return field(default=default, metadata={"option": made})


def options_of(settings: type[Any]) -> dict[str, Option]:
    """Collect the options that a dataclass's fields define, in their order."""
    return {one.name: replace(one.metadata["option"], name=one.name) for one in fields(settings)}
