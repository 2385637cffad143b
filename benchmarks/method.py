"""The picture of docs/method.md: how an end error is spread, and which steps of each method do what.

    .venv/bin/python -m benchmarks.method

Both are computed by the library itself: `mpd.residual.distill` on the positions of a dot, and `mpd.methods`. Writes
docs/pictures/method.svg.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from xml.sax.saxutils import escape

import torch

from mpd.methods import METHODS, FixedAnchor
from mpd.residual import distill

OUT = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "method.svg"
FRAMES, STEPS = 9, 25
MISSED = 2.5
"""How far the forward path ends from the end keyframe, in the unit of its motion per frame."""
COLOURS = {"pin": "#8a6d3b", "rigid": "#b03a2e", "closure": "#1f6f8b"}
WIDTH, HEIGHT = 940, 330
LEFT, TOP, SIDE, UP = 46, 40, 360, 230
STRIP, CELL, ROW = 560, 14, 36


def picture() -> str:
    """Write the whole SVG."""
    style = "text{font:12px sans-serif;fill:#222}.small{font-size:11px;fill:#555}"
    parts = [f"<style>{style}</style>", f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *_spread(), *_steps()]
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">\n{body}\n</svg>\n'


def positions(anchor: FixedAnchor) -> list[float]:
    """Place the dot of each frame once the end error is taken in (λ = 1). It moves by one unit a frame."""
    x0 = torch.arange(FRAMES, dtype=torch.float64).reshape(-1, 1, 1, 1)
    z_end = x0[-1] + MISSED
    return [float(at) for at in distill(x0, x0, z_end, 1.0, 1.0, anchor).flatten()]


def _spread() -> Iterator[str]:
    yield _text(LEFT, 22, "x̃0: the estimate once it has to end at the end keyframe (λ = 1)")
    yield f'<path d="M{LEFT} {TOP}V{TOP + UP}H{LEFT + SIDE}" fill="none" stroke="#999"/>'
    yield _text(LEFT + SIDE // 2 - 30, TOP + UP + 34, "frame", small=True)
    yield _text(6, TOP + 8, "place", small=True)
    for frame in range(FRAMES):
        yield _text(_across(frame) - 3, TOP + UP + 16, str(frame + 1), small=True)
    yield _line([float(n) for n in range(FRAMES)], "#222", "forward estimate x̂0", dashes="5 4")
    for number, anchor in enumerate(get_args(FixedAnchor)):
        yield _line(positions(anchor), COLOURS[anchor], anchor, nudge=3 * (number - 1))
    for frame, place, name in ((0, 0.0, "start"), (FRAMES - 1, FRAMES - 1 + MISSED, "end")):
        yield f'<circle cx="{_across(frame)}" cy="{_up(place):.1f}" r="6" fill="none" stroke="#222" stroke-width="2"/>'
        yield _text(_across(frame) - 14, _up(place) - 12, name, small=True)
    for number, (name, colour) in enumerate([("forward estimate x̂0", "#222"), *COLOURS.items()]):
        yield f'<path d="M{LEFT + 14} {TOP + 14 + 17 * number}h22" stroke="{colour}" stroke-width="2"/>'
        yield _text(LEFT + 42, TOP + 18 + 17 * number, name, small=True)


def _steps() -> Iterator[str]:
    yield _text(STRIP - 70, 22, f"{STEPS} steps, noise falling: MPD rounds (bars), the host's step (below)")
    for number, (name, method) in enumerate(pair for pair in METHODS.items() if pair[1].needs_model):
        y = TOP + 30 + ROW * number
        yield _text(STRIP - 70, y + 4, name)
        distillation = method.distillation
        for step in range(STEPS):
            early = distillation is not None and step < distillation.gamma * STEPS
            for bar in range(distillation.k if early and distillation is not None else 0):
                yield _box(step, y - 5 - 6 * bar, 4, COLOURS["rigid"])
            yield _box(step, y, 8, COLOURS["closure"] if method.host == "mpd" else "#bbb")
            if method.calls_per_step == 2:
                yield _box(step, y + 9, 4, "#ddd")
    y = TOP + 30 + ROW * 6
    yield _text(
        STRIP - 70, y + 4, "red: an MPD step, re-noised to the same σ · grey, blue: the step to the next σ", small=True
    )
    yield _text(STRIP - 70, y + 19, "light grey: a second denoiser call, from the end keyframe backwards", small=True)


def _line(places: list[float], colour: str, name: str, dashes: str = "", nudge: int = 0) -> str:
    """Draw a line. nudge: pixels aside, so that lines that lie on each other can all be seen."""
    points = " ".join(f"{_across(n) + nudge},{_up(place):.1f}" for n, place in enumerate(places))
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashed}>'
        f"<title>{escape(name)}</title></polyline>"
    )


def _box(step: int, y: float, height: int, colour: str) -> str:
    return f'<rect x="{STRIP + CELL * step}" y="{y}" width="{CELL - 2}" height="{height}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, small: bool = False) -> str:
    kind = ' class="small"' if small else ""
    return f'<text x="{x}" y="{y:.0f}"{kind}>{escape(text)}</text>'


def _across(frame: int) -> int:
    return LEFT + 16 + (SIDE - 32) * frame // (FRAMES - 1)


def _up(place: float) -> float:
    return TOP + UP - 12 - (UP - 60) * place / (FRAMES - 1 + MISSED)


if __name__ == "__main__":
    OUT.write_text(picture())
    print(OUT)
