"""How a benchmark's results get into a page of docs/, and how the machine that made them is named there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import psutil

DOCS = Path(__file__).resolve().parents[1] / "docs"


def machine() -> str:
    """Name the machine, such as `2 cores (AMD EPYC), 24 GiB`."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = re.sub(r"\((R|TM)\)| Processor| CPU", "", found[1]).strip() if found else "unknown"
    return f"{os.cpu_count()} cores ({model}), {round(psutil.virtual_memory().total / 2**30)} GiB"


def publish(name: str, text: str, figures: dict[str, Any], docs: Path = DOCS, page: str = "performance.md") -> None:
    """Put the text between the page's marks `<!-- run: NAME -->` and `<!-- end -->`, the figures beside the page."""
    file = docs / page
    mark = f"<!-- run: {name} -->"
    before = file.read_text()
    assert mark in before, f"{file} has no {mark}"
    pattern = re.escape(mark) + r".*?<!-- end -->"
    file.write_text(re.sub(pattern, lambda _: f"{mark}\n{text}<!-- end -->", before, flags=re.DOTALL))
    (docs / "figures").mkdir(exist_ok=True)
    (docs / "figures" / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
