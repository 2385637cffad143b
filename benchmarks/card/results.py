"""A card's results: one JSON with what every benchmark found on it, its tables in Markdown, its roofline."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch

from benchmarks import pages
from benchmarks.card import clocks, roofline
from benchmarks.card.tables import tables


def write(asked: argparse.Namespace, place: torch.device, dtype: torch.dtype, name: str, section: Any) -> int:
    """Put a benchmark's section into the card's JSON, and what is made of it beside it. Prints the tables."""
    card = clocks.card(place)
    path = asked.out / f"gpu-{slug(card)}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"card": card}
    found["torch"] = torch.__version__
    found["ceiling"] = {
        "dtype": str(dtype).removeprefix("torch."),
        "operations_per_second": clocks.matmul_ceiling(place, dtype),
        "bytes_per_second": clocks.bandwidth(place),
    }
    found[name] = section
    asked.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    text = tables(found)
    path.with_suffix(".md").write_text(text)
    picture = path.with_name(f"{path.stem}-roofline.png")
    if "unet" in found or "decode" in found:
        roofline.draw(found).save(picture, optimize=True)
    print(text)
    if asked.publish:
        publish(asked.out, pages.DOCS)
    return 0


def publish(folder: Path, docs: Path) -> None:
    """Put the results of every card in `folder` into docs/performance.md, their figures and pictures beside it."""
    page, mark = docs / "performance.md", "<!-- run: gpu -->"
    texts = []
    for path in sorted(folder.glob("gpu-*.json")):
        (docs / "figures" / path.name).write_text(path.read_text())
        texts.append(path.with_suffix(".md").read_text())
        picture = path.with_name(f"{path.stem}-roofline.png")
        if picture.exists():
            (docs / "pictures" / picture.name).write_bytes(picture.read_bytes())
            texts.append(f"![Operations per second against operations per byte](pictures/{picture.name})\n")
    before = page.read_text()
    if mark not in before:
        raise RuntimeError(f"{page} has no {mark}")
    new = f"{mark}\n" + "\n".join(texts) + "<!-- end -->"
    page.write_text(re.sub(re.escape(mark) + r".*?<!-- end -->", lambda _: new, before, count=1, flags=re.DOTALL))


def slug(card: str) -> str:
    """Turn a card's name into one for files, such as `nvidia-h200`."""
    return re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
