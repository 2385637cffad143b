"""What a card reaches against what it can: operations per second over operations per byte, both by powers of ten.

The roof is the lower of the measured bandwidth times the operations per byte, and the measured rate of products. Eager
forms stand at the bytes that all their operations move, one by one; compiled ones at those of the products alone.
"""

from __future__ import annotations

import math
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SHEET = (920, 520)
BOX = (70, 40, 620, 460)  # left, top, right, bottom of the plot
COLOURS = {"unet": "#1f77b4", "decode": "#d62728"}
TOGETHER = "together"


def draw(found: dict[str, Any]) -> Image.Image:
    """Draw the roof and every form of the UNet and the decoder, numbered."""
    ceiling = found["ceiling"]
    top, bandwidth = ceiling["operations_per_second"], ceiling["bytes_per_second"]
    points = _points(found)
    ridge = top / bandwidth
    low_x = _decade(min([ridge / 10, *(x for _, _, x, _ in points)]), math.floor)
    high_x = _decade(max([ridge * 10, *(x for _, _, x, _ in points)]), math.ceil)
    low_y, high_y = _decade(min([top / 100, *(y for *_, y in points)]), math.floor), _decade(2 * top, math.ceil)
    left, upper, right, lower = BOX

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low_x) / (high_x - low_x)
        up = (math.log10(y) - low_y) / (high_y - low_y)
        return left + across * (right - left), lower - up * (lower - upper)

    sheet = Image.new("RGB", SHEET, "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((left, 18), f"{found['card']}: operations per second over operations per byte", "black", _font(14), "lm")
    for power in range(low_x, high_x + 1):
        pen.line((*place(10.0**power, 10.0**low_y), *place(10.0**power, 10.0**high_y)), "#dddddd")
        pen.text((place(10.0**power, 10.0**low_y)[0], lower + 14), f"{10.0**power:g}", "black", _font(12), "mm")
    for power in range(low_y, high_y + 1):
        pen.line((*place(10.0**low_x, 10.0**power), *place(10.0**high_x, 10.0**power)), "#dddddd")
        pen.text((left - 6, place(10.0**low_x, 10.0**power)[1]), _rate(power), "black", _font(12), "rm")
    begin = max(10.0**low_x, 10.0**low_y / bandwidth)
    pen.line((*place(begin, begin * bandwidth), *place(ridge, top), *place(10.0**high_x, top)), "black", 2)
    for number, (kind, name, x, y) in enumerate(points, 1):
        across, down = place(x, y)
        pen.ellipse((across - 4, down - 4, across + 4, down + 4), COLOURS[kind])
        pen.text((across + 7, down - 7), str(number), COLOURS[kind], _font(11), "lm")
        pen.text((right + 14, upper + 17 * number), f"{number}  {kind}: {name}", COLOURS[kind], _font(11), "lm")
    return sheet


def _points(found: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """Yield (benchmark, form, operations per byte, operations per second)."""
    made = []
    for kind in COLOURS:
        section = found.get(kind, {"forms": {}})
        for name, form in section["forms"].items():
            if "seconds" in form:
                counted = section["counted"][TOGETHER if TOGETHER in name else "diffusers"]
                moved = counted["fused" if "compiled" in name else "eager"]
                operations = section["counted"]["diffusers"]["operations"]
                made.append((kind, name, operations / moved, operations / form["seconds"]))
    return made


def _decade(value: float, rounded: Any) -> int:
    return int(rounded(math.log10(value)))


def _rate(power: int) -> str:
    return f"{10.0 ** (power - 12):g} T" if power >= 12 else f"{10.0 ** (power - 9):g} G"


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
