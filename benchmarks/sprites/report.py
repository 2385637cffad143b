"""What a run leaves in its folder: `table.md`, `table.json`, pictures; and how all of it gets into docs/sprites.md.

A long run has `brief.md` too, what of its tables the page shows; the whole then lies beside the page.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from benchmarks.sprites import pictures
from benchmarks.sprites.tables import Table, plain

DOCS = Path("docs")


def write(
    folder: Path,
    identity: dict[str, object],
    tables: dict[str, Table],
    lines: Iterable[str],
    brief: Iterable[str] = (),
) -> str:
    """Write `table.md` and `table.json`: how the run was made, then its tables by group. Returns the text.

    brief: the lines that the page shows in its place, if not all.
    """
    text = "\n".join(lines).strip() + "\n"
    (folder / "table.md").write_text(text)
    if shown := "\n".join(brief).strip():
        (folder / "brief.md").write_text(f"{shown}\n")
    content = {"run": identity, "tables": {group: plain(table) for group, table in tables.items()}}
    (folder / "table.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return text


def picture(folder: Path, name: str, made: Image.Image) -> None:
    pictures.save(made, folder / f"{name}.png")


def publish(runs: Path, docs: Path = DOCS) -> list[str]:
    """Put every finished run into docs/sprites.md between its marks, its pictures and figures beside it.

    The page has a pair of marks per run, `<!-- run: NAME -->` and `<!-- end -->`. Returns the names of those published.
    """
    page = docs / "sprites.md"
    text, done = page.read_text(), []
    for folder in sorted(runs.iterdir()):
        mark = f"<!-- run: {folder.name} -->"
        if mark in text and (folder / "table.md").exists():
            body = _body(folder, docs)
            pattern = re.escape(mark) + r".*?<!-- end -->"
            text = re.sub(pattern, lambda _, new=f"{mark}\n{body}<!-- end -->": new, text, flags=re.DOTALL)  # type: ignore[misc]
            done.append(folder.name)
            for path in folder.glob("*.png"):
                shutil.copy(path, docs / "pictures" / f"sprites-{folder.name}-{path.name}")
            shutil.copy(folder / "table.json", docs / "figures" / f"sprites-{folder.name}.json")
    page.write_text(text)
    return done


def _body(folder: Path, docs: Path) -> str:
    """Give what the page shows of a run; where that is not all, the whole goes beside it."""
    (docs / "figures").mkdir(exist_ok=True)
    if not (folder / "brief.md").exists():
        return (folder / "table.md").read_text()
    name = f"figures/sprites-{folder.name}.md"
    shutil.copy(folder / "table.md", docs / name)
    return f"{(folder / 'brief.md').read_text()}\nAll rows and measures: [{name}]({name}).\n"
