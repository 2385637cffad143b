"""Write what is made from the options' one definition, the formats and the settings: `make generated`.

An option's definition is `mpd.methods.Settings` or `service.jobs.request_options`; a format's is `mpd.output.formats`.
`service/jobs/baseline.py` only grows: what stands there keeps the meaning of records that have been written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mpd.methods import METHODS, OPTIONS  # noqa: E402 - found from here
from mpd.options import COLOUR, GROUPS, Limit, Option  # noqa: E402
from mpd.output.formats import FORMATS  # noqa: E402
from server import reference  # noqa: E402
from service.jobs import baseline as before  # noqa: E402
from service.jobs.request_options import REQUEST_OPTIONS  # noqa: E402
from service.jobs.strict import EVENT_TYPES  # noqa: E402

WIDTH = 120
MADE = "Made by `make generated`"
TYPES = {"integer": "int", "number": "float", "boolean": "bool", "text": "str", "colour": "str", "webhook": "Webhook"}
ITEMS = {"integers": "int", "numbers": "float"}


def main() -> int:
    """Write the files, or with --check only compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a file is not what is made")
    chosen = parser.parse_args()
    old = [path for path, text in files().items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    for path in old:
        print(path)
        if not chosen.check:
            (ROOT / path).write_text(files()[path])
    return 1 if chosen.check and old else 0


def files() -> dict[str, str]:
    """Make the text of every generated file, by its path."""
    return {path: make() for path, make in MAKERS.items()}


HOMES = {
    "Anchor": "mpd.methods",
    "Fit": "mpd.methods",
    "MotionBucket": "mpd.methods",
    "Priority": "service.jobs.record",
}
"""Where choices have their type already, by its name; the client imports nothing of ours and has its own."""


def model() -> str:
    """Write the fields of the request's options, for pydantic."""
    names = {home: sorted(one for one, there in HOMES.items() if there == home) for home in sorted({*HOMES.values()})}
    imports = "".join(f"from {home} import {', '.join(found)}\n" for home, found in names.items())
    head = f'''"""The fields of a request's options, as pydantic checks them. {MADE}.

What they mean is told in mpd/methods.py and service/jobs/request_options.py; change it there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

{imports}from service.jobs.strict import Strict, Webhook

'''
    fields = "".join(_field(one) for one in REQUEST_OPTIONS.values())
    return (
        f'{head}{_literals(HOMES)}\n\nclass OptionFields(Strict):\n    """Hold the options of a request."""\n\n{fields}'
    )


def _field(one: Option) -> str:
    facts = [f"default={_written(one.default)}"]
    kind = _type(one)
    if one.kind in ITEMS and one.limit is not None:
        kind = f"list[Annotated[{ITEMS[one.kind]}, Field({', '.join(_bounds(one.limit))})]]"
    elif one.kind == "integer" and one.choices:
        kind = f"Annotated[int, Field({', '.join(_bounds(one.limit))})] | {one.alias}"
    else:
        facts += _bounds(one.limit)
    if one.size is not None:
        low, high = int(one.size.low), int(one.size.high)
        facts += [f"min_length={low}"] if low else []
        facts += [f"max_length={high}"]
    if one.kind == "colour":
        facts.append(f'pattern=r"^{COLOUR}$"')
    facts.append(_text(8, "description=", description(one)))
    if one.example is not None:
        facts.append(f"examples=[{_written(one.example)}]")
    inner = "".join(f"        {fact},\n" for fact in facts)
    return f"    {one.name}: {kind}{' | None' if one.unset else ''} = Field(\n{inner}    )\n"


def client() -> str:
    """Write the client's types and flags."""
    suffixes = {one.ending: one.name for one in FORMATS.values() if one.ending.startswith(".")}
    fields = "".join(f'    {one.name}: {_type(one)} | None\n    """{one.hint}"""\n' for one in REQUEST_OPTIONS.values())
    entries = "".join(_flag(one) for one in REQUEST_OPTIONS.values())
    return f'''"""The options of a request as a type checker and the command line see them. {MADE}.

The server decides what they may hold, and refuses the rest.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Required, TypedDict

{_literals()}{_literal("EventType", EVENT_TYPES)}SUFFIXES: dict[str, Format] = {{
{"".join(f'    "{ending}": "{name}",{chr(10)}' for ending, name in suffixes.items())}}}
"""The format that a file's name asks for."""


class Webhook(TypedDict, total=False):
    """Where a signed event goes when the job is over, and which events: all unless named."""

    url: Required[str]
    events: list[EventType]


class Options(TypedDict, total=False):
    """Everything about a video but its keyframes. What is left out, or None, has the server's default.

    `GET /methods`, here `Client.methods()`, describes the methods and the bounds of every number.
    """

{fields}

class Flag(NamedTuple):
    """One option as a command line may say it."""

    name: str
    kind: str
    help: str
    choices: tuple[str, ...] = ()


FLAGS = (
{entries})
"""Every option of a request."""
'''


def _flag(one: Option) -> str:
    listed = one.kind == "choices" or one.name == "method"
    facts = [_takes(one)] if one.limit or listed else []
    if one.kind != "boolean":
        facts.append(f"default: {_default(one)}".replace("`", ""))
    help = f"{one.hint} ({'; '.join(facts)})" if facts else one.hint
    parts = [f'"{one.name}"', f'"{one.kind}"', _text(8, "", help)]
    parts += [_tuple(one.choices)] if one.choices else []
    line = f"    Flag({', '.join(parts)}),\n"
    return line if len(line) <= WIDTH + 1 and "\n" not in line[:-1] else _exploded("Flag", parts)


def _tuple(values: tuple[str, ...]) -> str:
    return f"({', '.join(_quoted(values))}{',' if len(values) == 1 else ''})"


def _exploded(name: str, parts: Iterable[str]) -> str:
    return f"    {name}(\n{''.join(f'        {part},{chr(10)}' for part in parts)}    ),\n"


def baseline() -> str:
    """Write the first defaults of every option, for the records of jobs: those that stand, and those of new options."""
    new = {name: one.default for name, one in OPTIONS.items()}
    new["formats"] = REQUEST_OPTIONS["formats"].default
    new["reference"] = REQUEST_OPTIONS["reference"].default
    options = {**new, **before.OPTION_DEFAULTS}
    methods = {name: {**method.defaults, **before.METHOD_DEFAULTS.get(name, {})} for name, method in METHODS.items()}
    methods = {**before.METHOD_DEFAULTS, **methods}
    rows = "".join(f'    "{name}": {_written(value)},\n' for name, value in sorted(options.items()))
    kinds = "".join(_mapping(name, values) for name, values in methods.items())
    return f'''"""What an option means that a job's record leaves out, whatever its default is today. {MADE}.

Entries are added for new options and methods, and never changed or taken away: records of version {before.VERSION}
stand on them, and processes of other releases read and write such records too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = {before.VERSION}
OPTION_DEFAULTS: Mapping[str, Any] = {{
{rows}}}
METHOD_DEFAULTS: Mapping[str, Mapping[str, Any]] = {{
{kinds}}}
"""The methods' own values where an option is None."""
'''


def _mapping(name: str, values: dict[str, Any]) -> str:
    inner = ", ".join(f'"{key}": {_written(value)}' for key, value in sorted(values.items()))
    line = f'    "{name}": {{{inner}}},\n'
    if len(line) <= WIDTH + 1:
        return line
    rows = "".join(f'        "{key}": {_written(value)},\n' for key, value in sorted(values.items()))
    return f'    "{name}": {{\n{rows}    }},\n'


def page() -> str:
    """Write the options' reference, docs/options.md."""
    text = f"""# Options

{MADE} from the options' one definition; a test holds the two together.

Each is a member of a request's `options` and of the client's `Options`, and a flag of `inbetween submit`, such as
`--noise-aug-strength`; what says something of the video itself is a flag of `mpd` too. `GET /methods` has all this as
data. An option is refused where the method does not have it.
"""
    for group, title in GROUPS.items():
        chosen = [one for one in REQUEST_OPTIONS.values() if one.group == group]
        rows = [(f"`{one.name}`", _takes(one), _default(one), _methods(one), _meaning(one)) for one in chosen]
        text += f"\n## {title}\n\n| option | takes | default | methods | meaning |\n|---|---|---|---|---|\n"
        text += "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
    return text


def _meaning(one: Option) -> str:
    reasons = [f"{limit.why[:1].upper()}{limit.why[1:]}." for limit in (one.limit, one.size) if limit is not None]
    return " ".join([one.hint, *([one.more] if one.more else []), *reasons])


def description(one: Option) -> str:
    """Describe an option for the API's reference."""
    said = [one.hint, *([one.more] if one.more else [])]
    if one.limit is not None:
        each = "Each " if one.kind in ITEMS else ""
        said.append(f"{each}{_range(one.limit)}: {one.limit.why}.")
    if one.size is not None and one.kind != "text":
        said.append(f"{_range(one.size)} of them: {one.size.why}.")
    if one.unset:
        said.append(f"Default: {one.unset}.")
    return " ".join(said)


def _takes(one: Option) -> str:
    if one.choices and one.kind != "integer":
        return " · ".join(one.choices)
    names = {"boolean": "true · false", "colour": "#rrggbb", "integer": "whole number", "integers": "whole numbers"}
    words = names.get(one.kind, "url, events" if one.kind == "webhook" else one.kind)
    many = f"{_range(one.size)} " if one.size is not None and one.kind != "text" else ""
    number = f"{many}{words}" + (f" from {_range(one.limit)}" if one.limit is not None else "")
    return " · ".join([number, *one.choices])


def _default(one: Option) -> str:
    if one.unset:
        return one.unset
    default = one.default
    return ",".join(map(str, default)) if isinstance(default, list | tuple) else json.dumps(default).strip('"')


def _methods(one: Option) -> str:
    return "all" if one.trait is None else ", ".join(name for name, method in METHODS.items() if method.has(one.trait))


def _literals(known: Collection[str] = ()) -> str:
    new = [one for one in REQUEST_OPTIONS.values() if one.choices and one.alias not in known]
    return "".join(_literal(one.alias, one.choices) for one in new)


def _literal(alias: str, choices: tuple[str, ...]) -> str:
    line = f"{alias} = Literal[{', '.join(_quoted(choices))}]\n"
    if len(line) <= WIDTH + 1:
        return line
    return f"{alias} = Literal[\n{''.join(f'    {choice},{chr(10)}' for choice in _quoted(choices))}]\n"


def _type(one: Option) -> str:
    if one.kind in ITEMS:
        return f"list[{ITEMS[one.kind]}]"
    if one.kind == "choices":
        return f"list[{one.alias}]"
    if one.kind == "choice":
        return one.alias
    return f"{TYPES[one.kind]} | {one.alias}" if one.choices else TYPES[one.kind]


def _bounds(limit: Limit | None) -> list[str]:
    return [] if limit is None else [f"ge={_number(limit.low)}", f"le={_number(limit.high)}"]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)


def _range(limit: Limit) -> str:
    low, high = _number(limit.low), _number(limit.high)
    return low if low == high else f"{low} to {high}"


def _quoted(values: Iterable[str]) -> list[str]:
    return [f'"{value}"' for value in values]


def _written(value: Any) -> str:
    """Write a value as Python with double quotes; a tuple as the list that JSON makes of it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _text(indent: int, head: str, text: str) -> str:
    """Write a text as one or more string literals, none of them past the width of a line."""
    assert '"' not in text, f"write it without quotation marks: {text}"
    if indent + len(f'{head}"{text}",') <= WIDTH:
        return f'{head}"{text}"'
    lines, line = [], ""
    for word in text.split(" "):
        room = WIDTH - indent - (0 if lines else len(head)) - len('"",')
        if line and len(line) + len(word) + 1 > room:
            lines.append(line)
            line = ""
        line += f"{word} "
    lines.append(line.rstrip())
    return head + f"\n{' ' * indent}".join(f'"{line}"' for line in lines)


MAKERS: dict[str, Callable[[], str]] = {
    "service/jobs/option_fields.py": model,
    "service/jobs/baseline.py": baseline,
    "inbetween/options.py": client,
    "docs/options.md": page,
    "docs/reference.md": reference.markdown,
}

if __name__ == "__main__":
    sys.exit(main())
