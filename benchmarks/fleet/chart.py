"""A picture of wait against cost, drawn as SVG: it needs no library, and reads in a text editor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 30, 60
COLOURS = ("#c2410c", "#0f766e", "#6d28d9", "#1d4ed8", "#57534e")
FIRST, LAST = 1.0, 300.0
"""Seconds at the lower and the upper edge; shorter waits stand on the lower one."""


def draw(title: str, series: Mapping[str, Points], objective: float) -> str:
    """Draw the wait, on a logarithmic axis, against the cost. series: (cost, seconds of wait) by name."""
    costs = [cost for points in series.values() for cost, _ in points]
    low, high = math.floor(min(costs)), math.ceil(max(costs))

    def x(cost: float) -> float:
        return LEFT + (cost - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(seconds: float) -> float:
        share = math.log(min(LAST, max(FIRST, seconds)) / FIRST) / math.log(LAST / FIRST)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def text(at: float, down: float, words: str, rest: str = "") -> str:
        return f'<text x="{at:.1f}" y="{down:.1f}" {rest}>{escape(words)}</text>'

    right = WIDTH - RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#292524">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fffdf8"/>',
        text(LEFT, 18, title, 'font-weight="bold"'),
        text((LEFT + right) / 2, HEIGHT - 16, "GPU time paid, over GPU time used", 'text-anchor="middle"'),
        text(16, (TOP + HEIGHT - BOTTOM) / 2, "p95 wait, seconds", f'transform="rotate(-90 16 {HEIGHT / 2 - 15})"'),
    ]
    for seconds in (1, 3, 10, 30, 100, 300):
        parts.append(f'<path d="M{LEFT} {y(seconds):.1f}H{right}" stroke="#e7e5e4"/>')
        parts.append(text(LEFT - 8, y(seconds) + 4, str(seconds), 'text-anchor="end"'))
    for cost in range(low, high + 1):
        parts.append(text(x(cost), HEIGHT - BOTTOM + 18, f"{cost}×", 'text-anchor="middle"'))
    parts.append(f'<path d="M{LEFT} {y(objective):.1f}H{right}" stroke="#292524" stroke-dasharray="4 3"/>')
    parts.append(text(right + 8, y(objective) + 4, f"objective: {objective:g} s"))
    for place, ((name, points), colour) in enumerate(zip(series.items(), COLOURS, strict=False)):
        ordered = sorted(points)
        line = "L".join(f"{x(cost):.1f} {y(wait):.1f}" for cost, wait in ordered)
        parts.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x(cost):.1f}" cy="{y(wait):.1f}" r="3.5" fill="{colour}"/>' for cost, wait in ordered]
        parts.append(text(right + 8, TOP + 8 + 17 * place, name, f'fill="{colour}" font-weight="bold"'))
    return "\n".join([*parts, "</svg>", ""])
