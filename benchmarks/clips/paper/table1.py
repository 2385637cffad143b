"""A table of the shape of the paper's Table 1, its own figures beside those that were measured.

W. Jeon, S. Shin, D. Shin and H.-G. Jeon, "Motion Prior Distillation in Time Reversal Sampling for Generative
Inbetweening", ICLR 2026. The figures are those of a published summary of the paper; what it leaves out stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COLUMNS = ("LPIPS", "FID", "FVD", "VBench", "VBench++")
SETS = ("DAVIS", "Pexels")
METHODS: dict[str, str] = {
    "film": "FILM",
    "dynamicrafter": "DynamiCrafter",
    "trf": "TRF",
    "gi": "GI",
    "fcvg": "FCVG",
    "vibid": "ViBiDSampler",
    "mpd-trf": "MPD + TRF",
    "mpd-vibid": "MPD + ViBiD",
}
"""Names of rows, here, of the paper's methods."""
PRINTED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "DAVIS": {
        "trf": (0.3127, 56.894, 674.31, 0.7618, 0.9352),
        "gi": (0.2432, 48.427, 654.91, 0.7747, 0.9320),
        "fcvg": (0.2347, 38.997, 621.82, 0.7904, 0.9353),
        "vibid": (0.2492, 39.883, 559.49, 0.7733, 0.9387),
        "mpd-trf": (0.2212, 34.910, 612.17, 0.7992, 0.9330),
        "mpd-vibid": (0.2220, 37.241, 527.05, 0.7845, 0.9474),
    },
    "Pexels": {
        "fcvg": (0.1160, 35.269, 525.08, None, 0.9701),
        "mpd-trf": (0.1149, 34.470, 460.99, None, 0.9862),
        "mpd-vibid": (0.1028, 34.775, 412.66, None, 0.9605),
    },
}

Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""What was measured: of each set, of each row, each column's value."""


def table(measured: Values) -> str:
    """Write the table in Markdown: `measured · printed`, and – where there is none."""
    rows = list(METHODS) + sorted({row for found in measured.values() for row in found} - set(METHODS))
    heads = [f"{name} {column}" for name in SETS for column in COLUMNS]
    lines = [f"| measured · the paper's | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        cells = [_cell(measured, name, row, column) for name in SETS for column in COLUMNS]
        lines.append(f"| {METHODS.get(row, f'`{row}`')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(measured: Values, name: str, row: str, column: str) -> str:
    mine = measured.get(name, {}).get(row, {}).get(column)
    printed = _printed(name, row)[COLUMNS.index(column)]
    return f"{_written(mine, column)} · {_written(printed, column)}"


def _printed(name: str, row: str) -> Sequence[float | None]:
    return PRINTED[name].get(row, (None,) * len(COLUMNS))


def _written(value: float | None, column: str) -> str:
    if value is None:
        return "–"
    return format(value, ".2f" if column in ("FID", "FVD") else ".4f")
