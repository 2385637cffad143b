"""Which part may import which: the arrows of the house run one way."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.redis_keys import SCRIPTS_ALONE

ROOT = Path(__file__).parents[2]
HOUSE = runpy.run_path(str(ROOT / ".ci" / "house.py"), run_name="house")


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
    assert [
        (path, name)
        for path, name in ours
        if not within(name, "mpd.lengths", "mpd.methods", "mpd.options", "mpd.output.formats", "mpd.schedule")
    ] == []


def test_a_base_model_is_known_by_what_bases_have_in_common() -> None:
    """SVD by name: itself, what makes small models of its architecture, and tests and measurements of it."""
    others = [pair for folder in ("mpd", "worker", "service", "server") for pair in of(folder)]
    makers = [ROOT / "mpd" / name for name in ("svd", "sprites", "tiny.py")]
    naming = {path.relative_to(ROOT) for path, name in others if within(name, "mpd.svd") and not _in(path, makers)}
    assert naming == set()
    assert any(within(name, "mpd.svd") and _in(path, makers) for path, name in others)
    assert any(within(name, "mpd.base") for path, name in of("worker/engine"))


def _in(path: Path, places: list[Path]) -> bool:
    return any(path == place or place in path.parents for place in places)


def test_the_worker_never_imports_the_application() -> None:
    assert [(path, name) for path, name in of("worker") if within(name, "service.api")] == []


def test_the_client_imports_nothing_of_ours_and_httpx_alone() -> None:
    known = {*sys.stdlib_module_names, "httpx", "inbetween"}
    assert [(path, name) for path, name in of("inbetween") if name.partition(".")[0] not in known] == []


def test_no_room_imports_a_higher_one() -> None:
    """Nor do two rooms import each other, for then there are no floors."""
    rooms = HOUSE["rooms"](ROOT)
    floors = HOUSE["floors"](rooms)
    assert {"service.jobs", "service.api.routes", "worker.task", "mpd.svd"} <= rooms.keys()
    height = {name: number for number, names in enumerate(floors) for name in names}
    assert [(name, below) for name in rooms for below in rooms[name] if height[below] >= height[name]] == []
    assert HOUSE["picture"](floors, rooms) == HOUSE["PICTURE"].read_text(), "run: make house"


def test_a_circle_of_rooms_is_seen(tmp_path: Path) -> None:
    files = {"mpd/a/x.py": "import mpd.b.y", "mpd/b/y.py": "def late():\n    from mpd.a import x"}
    for name in ("mpd/__init__.py", "mpd/a/__init__.py", "mpd/b/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(HOUSE["Circle"], match=r"mpd\.(a → mpd\.b → mpd\.a|b → mpd\.a → mpd\.b)"):
        HOUSE["floors"](HOUSE["rooms"](tmp_path))


def test_names_in_redis_have_one_home() -> None:
    """No other module puts a key together, and the scripts know no name that stands nowhere else."""
    home = ROOT / "service" / "redis_keys.py"
    for folder in ("service", "worker", "server"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)]
            built = [ast.unparse(node) for node in parts if re.search(r"namespace\}:", ast.unparse(node))]
            assert path == home or built == [], path
    known = set(re.findall(r'_key\("([a-z-]+)"', home.read_text())) | SCRIPTS_ALONE.keys()
    called = {
        name for path in ROOT.glob("service/*/*.lua") for name in re.findall(r"key\('([a-z-]+)'", path.read_text())
    }
    assert "running" in called
    assert called - known == set()
    assert SCRIPTS_ALONE.keys() <= called


@pytest.mark.parametrize("module", ["service.api.app", "mpd", "mpd.methods", "service.jobs.store", "service.webhooks"])
def test_importing_loads_no_torch(module: str) -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'cv2', 'av'}"
    script = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
