"""The reference as an HTML page, made from the OpenAPI document.

Self-contained: no script, no request to anywhere, colours that follow the reader's system.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; margin-top: 2rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { padding: .8rem; overflow-x: auto; border: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; }
td, th { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
summary { cursor: pointer; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_VERBS = ("get", "put", "post", "delete")


def reference(document: dict[str, Any]) -> str:
    """Write a page of every operation and every schema of an OpenAPI document."""
    info = document["info"]
    parts = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>", _paragraphs(info.get("description", ""))]
    parts.append('<p><a href="/openapi.json">openapi.json</a> · <a href="#schemas">schemas</a></p>')
    for tag in document.get("tags", []):
        parts.append(f"<h2>{escape(tag['name'].capitalize())}</h2>{_paragraphs(tag.get('description', ''))}")
        for path, verb, operation in _operations(document, tag["name"]):
            parts.append(_operation(path, verb, operation))
    parts.append('<h2 id="schemas">Schemas</h2>')
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(_schema(name, schema))
    return _page("Reference", "\n".join(parts))


def _operations(document: dict[str, Any], tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for verb in _VERBS:
            if verb in item and tag in item[verb].get("tags", []):
                yield path, verb, item[verb]


def _operation(path: str, verb: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<h3 id="{escape(operation["operationId"])}"><code>{verb.upper()} {escape(path)}</code></h3>',
        f"<p><strong>{escape(operation['summary'])}</strong></p>",
        _paragraphs(operation.get("description", "")),
    ]
    rows = [
        (parameter["name"], parameter["in"], parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    if rows:
        parts.append(_table(("Parameter", "In", ""), rows))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body <code>{escape(media_type)}</code>: {_type(content.get('schema', {}))}</p>")
        parts += [_example(name, example) for name, example in content.get("examples", {}).items()]
    answers = [(status, "", answer["description"]) for status, answer in operation["responses"].items()]
    parts.append(_table(("Answer", "", ""), answers))
    for answer in operation["responses"].values():
        examples = answer.get("content", {}).get("application/json", {}).get("examples", {})
        parts += [_example(name, example) for name, example in examples.items()]
    return "\n".join(parts)


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", []))
    rows = [
        (f"{field}{'' if field in required else ' ?'}", _type(value), value.get("description", ""))
        for field, value in schema.get("properties", {}).items()
    ]
    body = _table(("Field", "Type", ""), rows, raw=1) if rows else ""
    return f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>{_paragraphs(schema.get("description", ""))}{body}'


def _type(schema: dict[str, Any]) -> str:
    """Describe a schema in a few words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " · ".join(f"<code>{escape(str(value))}</code>" for value in values)
    kind = str(schema.get("type", "any"))
    if kind == "array" and "items" in schema:
        return f"list of {_type(schema['items'])}"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return escape(" ".join([kind, *bounds]))


def _example(name: str, example: dict[str, Any]) -> str:
    value = example["value"]
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    title = f"Example: {name}"
    return f"<details><summary>{escape(title)}</summary><pre><code>{escape(text)}</code></pre></details>"


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]], raw: int | None = None) -> str:
    """Write a table as HTML. raw: the column that is HTML already."""
    lines = ["<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        first, *others = (cell if i == raw else _prose(cell) for i, cell in enumerate(row))
        lines.append(f"<tr><td><code>{first}</code></td>" + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>")
    return "\n".join(lines) + "</table>"


def _prose(text: str) -> str:
    """Write plain text as HTML, its `backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_prose(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{body}</body></html>'
    )
