"""The threat model names files and tests; what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
FILE = re.compile(r"`((?:service|worker|mpd|\.ci)/[\w/.]+\.py)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_each_file_that_defends_is_there() -> None:
    named = set(FILE.findall(PAGE))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_each_test_that_shows_it_is_there() -> None:
    named = set(TEST.findall(PAGE))
    assert len(named) > 40
    assert [f"{path}::{name}" for path, name in sorted(named) if name not in functions(ROOT / path)] == []


def test_every_defence_names_its_code_and_its_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| against")]
    assert len(rows) > 20
    for row in rows:
        against, defence, code, test = row.strip("|").split("|")
        assert against.strip()
        assert defence.strip()
        assert FILE.search(code), row
        assert TEST.search(test), row
        assert not re.sub(r"`[^`]*`", "", code + test).strip(), f"more than names: {row}"
