"""Strips of frames with their names, and curves. Needs Pillow; knows nothing of where numbers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mpd.progress import Pictures

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f", "#bcbd22", "#e377c2")
LABEL = 176  # pixels at the left of a row of frames
GAP = 10  # pixels between two clips
PLOT = (460, 320)  # of one plot, with its axes
BOX = (58, 30, 446, 274)  # left, top, right, bottom of its frame


def strips(clips: Mapping[str, Sequence[Pictures]], every: int = 3) -> Image.Image:
    """Lay out a row per name with its clips side by side, every so many frames; the last frame is always there."""
    height = next(iter(clips.values()))[0].shape[1]
    rows = []
    for name, row in clips.items():
        label = Image.new("RGB", (LABEL, height + 1), "white")
        ImageDraw.Draw(label).text((LABEL - 6, height / 2), name, "black", _font(12), anchor="rm")
        parts: list[NDArray[np.uint8]] = [np.asarray(label)]
        for clip in row:
            shown = [*clip[: len(clip) - 1 : every], clip[-1]]
            parts += [np.pad(frame, ((0, 1), (0, 1), (0, 0)), constant_values=255) for frame in shown]
            parts.append(np.full((height + 1, GAP, 3), 255, np.uint8))
        rows.append(np.concatenate(parts, axis=1))
    return Image.fromarray(np.concatenate(rows))


Series = Mapping[str, Sequence[tuple[float, float]]]


def plots(parts: Sequence[tuple[str, str, Series]], columns: int = 2) -> Image.Image:
    """Draw line plots side by side, one legend below all. parts: (title, title of the x axis, points by name)."""
    names = list(dict.fromkeys(name for _, _, series in parts for name in series))
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    columns = min(columns, len(parts))
    rows = -(-len(parts) // columns)
    per_row = max(1, columns * PLOT[0] // 150)
    legend = 20 * -(-len(names) // per_row) + 8
    sheet = Image.new("RGB", (columns * PLOT[0], rows * PLOT[1] + legend), "white")
    for index, (title, along, series) in enumerate(parts):
        sheet.paste(_plot(title, along, series, colour), (index % columns * PLOT[0], index // columns * PLOT[1]))
    draw = ImageDraw.Draw(sheet)
    for index, name in enumerate(names):
        x, y = 20 + 150 * (index % per_row), rows * PLOT[1] + 10 + 20 * (index // per_row)
        draw.line((x, y, x + 18, y), colour[name], 3)
        draw.text((x + 24, y), name, "black", _font(12), anchor="lm")
    return sheet


def save(picture: Image.Image, path: Path) -> None:
    """Save as PNG with a palette, which is what flat colours take least room in."""
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _plot(title: str, along: str, series: Series, colour: Mapping[str, str]) -> Image.Image:
    picture = Image.new("RGB", PLOT, "white")
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = BOX
    points = [point for line in series.values() for point in line if np.isfinite(point[1])]
    low_x, high_x = _range([x for x, _ in points])
    low_y, high_y = _range([0.0, *(y for _, y in points)])

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - low_x) / (high_x - low_x), (y - low_y) / (high_y - low_y)
        return left + across * (right - left), bottom - up * (bottom - top)

    draw.text(((left + right) / 2, 16), title, "black", _font(13), anchor="mm")
    draw.text(((left + right) / 2, bottom + 32), along, "black", _font(12), anchor="mm")
    draw.rectangle(BOX, outline="#888888")
    for tick in np.linspace(0, 1, 5):
        y, x = low_y + tick * (high_y - low_y), low_x + tick * (high_x - low_x)
        draw.line((*place(low_x, y), *place(high_x, y)), "#dddddd")
        draw.text((left - 5, place(0, y)[1]), f"{y:.3g}", "black", _font(11), anchor="rm")
        draw.text((place(x, 0)[0], bottom + 12), f"{x:.3g}", "black", _font(11), anchor="mm")
    for name, line in series.items():
        seen = [place(x, y) for x, y in line if np.isfinite(y)]
        draw.line([value for point in seen for value in point], colour[name], 2)
        for x, y in seen:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), colour[name])
    return picture


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
