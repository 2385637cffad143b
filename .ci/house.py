"""Draw which room imports which: `make house` writes docs/house.svg.

A room is a package, or a module that lies loose in one of the packages of `LOOSE`. A floor holds the rooms that import
nothing above it; where rooms import each other there are no floors, and the command names them and ends with 1.
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import html
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "house.svg"
COLOURS = {"mpd": "#dbeafe", "service": "#dcfce7", "worker": "#fef3c7", "server": "#fee2e2", "inbetween": "#ede9fe"}
LOOSE = ("mpd", "service", "service.api", "worker", "server")
ACROSS, DOWN, BOX, LINE = 168, 96, 150, 30
"""Pixels: from one box to the next, from one floor to the next, a box's width and height."""

Rooms = dict[str, set[str]]


class Circle(Exception):
    """Rooms that import each other, in a row whose last is its first."""


def main() -> int:
    """Write the picture, or with --check only compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where the picture is not what is drawn")
    chosen = parser.parse_args()
    try:
        drawn = picture(floors(rooms(ROOT)), rooms(ROOT))
    except Circle as circle:
        print(f"house: {circle}", file=sys.stderr)
        return 1
    if chosen.check:
        return 0 if PICTURE.read_text() == drawn else 1
    PICTURE.write_text(drawn)
    print(PICTURE.relative_to(ROOT))
    return 0


def rooms(root: Path) -> Rooms:
    """Find every room and those that it imports."""
    files = {_module(path.relative_to(root)): path for top in COLOURS for path in sorted((root / top).rglob("*.py"))}
    full = {module: path for module, path in files.items() if path.stat().st_size}
    found: Rooms = {_room(module, files): set() for module in full}
    for module, path in full.items():
        here = _room(module, files)
        found[here] |= {_room(other, files) for other in _imported(path, files)} - {here}
    return found


def floors(found: Mapping[str, set[str]]) -> list[list[str]]:
    """Sort rooms into floors, the lowest first. Raises `Circle`."""
    sorter = graphlib.TopologicalSorter(found)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise Circle(" → ".join(reversed(error.args[1]))) from None
    levels = []
    while sorter.is_active():
        levels.append(sorted(sorter.get_ready()))
        sorter.done(*levels[-1])
    return levels


def picture(levels: list[list[str]], found: Mapping[str, set[str]]) -> str:
    """Draw floors as SVG, with an arrow for each import that no other path through the house implies."""
    place = {}
    widest = max(map(len, levels))
    for number, names in enumerate(reversed(levels)):
        for index, name in enumerate(names):
            place[name] = ((index + (widest - len(names)) / 2) * ACROSS + 10, number * DOWN + 10)
    lines = []
    for name in sorted(found):
        for below in sorted(_direct(name, found)):
            (x, y), (across, down) = place[name], place[below]
            ends = f'x1="{x + BOX / 2:g}" y1="{y + LINE:g}" x2="{across + BOX / 2:g}" y2="{down:g}"'
            lines.append(f'<line {ends} stroke="#94a3b8" marker-end="url(#arrow)"/>')
    for name, (x, y) in sorted(place.items()):
        fill = COLOURS[name.partition(".")[0]]
        lines.append(f'<rect x="{x:g}" y="{y:g}" width="{BOX}" height="{LINE}" rx="5" fill="{fill}" stroke="#475569"/>')
        lines.append(f'<text x="{x + BOX / 2:g}" y="{y + 19:g}" text-anchor="middle">{html.escape(name)}</text>')
    size = f'viewBox="0 0 {widest * ACROSS + 10} {len(levels) * DOWN}"'
    style = 'font-family="system-ui, sans-serif" font-size="11"'
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#94a3b8"/></marker></defs>'
    )
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', arrow, *lines, "</svg>\n"])


def _direct(name: str, found: Mapping[str, set[str]]) -> set[str]:
    """Keep those of a room's imports that are not reached by way of another one."""
    return {one for one in found[name] if not any(one in _below(other, found) for other in found[name] - {one})}


def _below(name: str, found: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for one in found[waiting.pop()] - reached:
            reached.add(one)
            waiting.append(one)
    return reached


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _room(module: str, files: Mapping[str, Path]) -> str:
    package = module if files[module].name == "__init__.py" else module.rpartition(".")[0]
    return module if package in LOOSE else package


def _imported(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    """List the modules of ours that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.module in files:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in files else node.module for name in names)


if __name__ == "__main__":
    sys.exit(main())
