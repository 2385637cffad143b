"""Which part may import which: the arrows of the house run one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or within a function, with the names it takes from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of(folder: str) -> list[tuple[Path, str]]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    return [(path, name) for path in files for name in imports(path)]


def within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def test_the_library_imports_nothing_of_the_service() -> None:
    assert [(path, name) for path, name in of("mpd") if within(name, "service", "worker", "redis", "fastapi")] == []


def test_the_service_knows_the_methods_and_formats_and_nothing_else_of_the_library() -> None:
    ours = [(path, name) for path, name in of("service") if within(name, "mpd", "worker")]
    assert ours
    assert [(path, name) for path, name in ours if not within(name, "mpd.methods", "mpd.output.formats")] == []


def test_the_worker_never_imports_the_application() -> None:
    assert [(path, name) for path, name in of("worker") if within(name, "service.api")] == []


def test_the_client_imports_nothing_of_ours_and_httpx_alone() -> None:
    known = {*sys.stdlib_module_names, "httpx", "inbetween"}
    assert [(path, name) for path, name in of("inbetween") if name.partition(".")[0] not in known] == []


@pytest.mark.parametrize("module", ["service.api.app", "mpd", "mpd.methods", "service.jobs.store", "service.webhooks"])
def test_importing_loads_no_torch(module: str) -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'cv2', 'av'}"
    script = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
