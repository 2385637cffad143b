"""Hold the HTTP API to what it has promised: `make contract` writes docs/openapi.json, a snapshot of the document.

A change that a client of the last release could trip over is *breaking*; docs/contract.md says which are. `--breaking
FILE` prints those between the snapshot in FILE and the code, a line each, and ends with 1 where there are any.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOT = ROOT / "docs" / "openapi.json"
METHODS = ("get", "put", "post", "delete", "head", "patch", "options")

Document = dict[str, Any]
Schema = dict[str, Any]


def main() -> int:
    """Write the snapshot, or compare with one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--breaking", type=Path, metavar="FILE", help="compare with this snapshot and write nothing")
    chosen = parser.parse_args()
    if chosen.breaking is None:
        SNAPSHOT.write_text(text(current()))
        print(SNAPSHOT.relative_to(ROOT))
        return 0
    found = breaking(json.loads(chosen.breaking.read_text()), current())
    print("\n".join(found) or "nothing that breaks a client")
    return 1 if found else 0


def current() -> Document:
    """Make the document as a server answers it."""
    sys.path.insert(0, str(ROOT))
    from service.api.app import create_app
    from service.settings import ServiceSettings

    return dict(create_app(ServiceSettings(_env_file=None, auth="off")).openapi())


def text(document: Document) -> str:
    """Write a document so that differences are lines."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def breaking(old: Document, new: Document) -> list[str]:
    """Name every change that a client of `old` could trip over, a line each."""
    return list(_operations(old, new))


def _operations(old: Document, new: Document) -> Iterator[str]:
    for path, item in old["paths"].items():
        for verb in METHODS:
            if verb not in item:
                continue
            where = f"{verb.upper()} {path}"
            later = new["paths"].get(path, {}).get(verb)
            if later is None:
                yield f"{where} is gone"
                continue
            yield from _parameters(where, item[verb], later)
            yield from _bodies(where, (old, item[verb]), (new, later))
            yield from _answers(where, (old, item[verb]), (new, later))


def _parameters(where: str, old: Schema, new: Schema) -> Iterator[str]:
    before, after = ({(one["in"], one["name"]): one for one in each.get("parameters", ())} for each in (old, new))
    for kind, name in before.keys() - after.keys():
        yield f"{where}: the {kind} parameter {name} is refused now"
    for key, one in after.items():
        if one.get("required") and not before.get(key, {}).get("required"):
            yield f"{where}: the {key[0]} parameter {key[1]} is required now"
        if key in before:
            yield from _narrower(f"{where}: {key[1]}", before[key]["schema"], one["schema"])


def _bodies(where: str, old: tuple[Document, Schema], new: tuple[Document, Schema]) -> Iterator[str]:
    before, after = (operation.get("requestBody", {}).get("content", {}) for _, operation in (old, new))
    for kind, content in before.items():
        if kind not in after:
            yield f"{where}: a body of {kind} is refused now"
        elif "schema" in content:
            walk = _Walk(old[0], new[0], _asked)
            yield from walk(f"{where}: body", content["schema"], after[kind]["schema"])


def _answers(where: str, old: tuple[Document, Schema], new: tuple[Document, Schema]) -> Iterator[str]:
    before, after = old[1]["responses"], new[1]["responses"]
    for status, answer in before.items():
        if status not in after and status.startswith("2"):
            yield f"{where}: is not answered {status} any more"
        for kind, content in answer.get("content", {}).items():
            later = after.get(status, {}).get("content", {}).get(kind)
            if status in after and later is None:
                yield f"{where}: {status} has no {kind} any more"
            elif later is not None and "schema" in content:
                walk = _Walk(old[0], new[0], _told)
                yield from walk(f"{where}: {status}", content["schema"], later.get("schema", {}))


class _Walk:
    """Two schemas side by side, each with its document's references followed once."""

    def __init__(self, old: Document, new: Document, judge: Callable[[str, Schema, Schema], Iterator[str]]) -> None:
        self._old, self._new = old, new
        self._judge = judge
        self._seen: set[tuple[str, str]] = set()

    def __call__(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        names = old.get("$ref", ""), new.get("$ref", "")
        if all(names):
            if names in self._seen:
                return
            self._seen.add(names)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        yield from self._judge(where, old, new)
        for name, part in old.get("properties", {}).items():
            if name in new.get("properties", {}):
                yield from self(f"{where}.{name}", part, new["properties"][name])
        if "items" in old and "items" in new:
            yield from self(f"{where}[]", old["items"], new["items"])


def _resolved(schema: Schema, document: Document) -> Schema:
    """Follow a reference, and leave out that a value may be null: whoever reads or sends a value is not concerned."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return dict(document["components"]["schemas"][name])
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return _resolved(kinds[0], document) if len(kinds) == 1 else schema


def _asked(where: str, old: Schema, new: Schema) -> Iterator[str]:
    """Tell what a request may not say any more, or must say now."""
    before, after = old.get("properties", {}), new.get("properties", {})
    if new.get("additionalProperties") is False:
        yield from (f"{where}.{name} is refused now" for name in before if name not in after)
    yield from (
        f"{where}.{name} is required now" for name in set(new.get("required", ())) - set(old.get("required", ()))
    )
    yield from _narrower(where, old, new)


def _told(where: str, old: Schema, new: Schema) -> Iterator[str]:
    """Tell what an answer does not have any more, or has as something else."""
    yield from (
        f"{where}.{name} is gone" for name in old.get("properties", {}) if name not in new.get("properties", {})
    )
    for name in set(old.get("required", ())) - set(new.get("required", ())):
        if name in new.get("properties", {}):
            yield f"{where}.{name} may be absent now"
    if old.get("type") != new.get("type"):
        yield f"{where} was {old.get('type')} and is {new.get('type')}"


def _narrower(where: str, old: Schema, new: Schema) -> Iterator[str]:
    """Tell which values were taken and are refused now."""
    if "anyOf" in old or "anyOf" in new:
        # Each kind of value that was taken has to be among those that are.
        kinds = [kind for kind in new.get("anyOf", (new,)) if kind != {"type": "null"}]
        for before in (kind for kind in old.get("anyOf", (old,)) if kind != {"type": "null"}):
            yield from min((list(_narrower(where, before, kind)) for kind in kinds), key=len)
        return
    if "type" in old and old["type"] != new.get("type") and (old["type"], new.get("type")) != ("integer", "number"):
        yield f"{where} was {old['type']} and is {new.get('type')}"
    for value in old.get("enum", ()):
        if "enum" in new and value not in new["enum"]:
            yield f"{where}: {value!r} is refused now"
    if "enum" in new and "enum" not in old and "const" not in old:
        yield f"{where}: only {', '.join(map(repr, new['enum']))} are taken now"
    for name, over in (
        ("minimum", 1),
        ("minLength", 1),
        ("minItems", 1),
        ("maximum", -1),
        ("maxLength", -1),
        ("maxItems", -1),
    ):
        if name in new and (name not in old or over * new[name] > over * old[name]):
            yield f"{where}: {name} was {old.get(name, 'none')} and is {new[name]}"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{where}: must match {new['pattern']} now"


if __name__ == "__main__":
    sys.exit(main())
