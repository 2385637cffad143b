"""A card's results as tables in Markdown. Knows their shape, and nothing of how they were measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TITLES = {"unet": "One evaluation of the UNet", "decode": "Decoding all frames"}


def tables(found: dict[str, Any]) -> str:
    """Write the tables of everything that was found on one card."""
    ceiling = found["ceiling"]
    lines = [
        f"**{found['card']}**, torch {found['torch']}; its ceiling, measured in the same run: "
        f"{ceiling['operations_per_second'] / 1e12:.3g} TFLOP/s ({ceiling['dtype']}), "
        f"{ceiling['bytes_per_second'] / 1e9:.3g} GB/s.",
    ]
    for name, title in TITLES.items():
        if name in found:
            lines += ["", *_forms(title, found[name], ceiling)]
            if found[name].get("chunks"):
                lines += ["", *_chunks(found[name]["chunks"])]
            if found[name].get("attention"):
                lines += ["", *_attention(found[name]["attention"])]
    if "job" in found:
        lines += ["", *_job(found["job"])]
    return "\n".join(lines) + "\n"


def _forms(title: str, section: dict[str, Any], ceiling: dict[str, Any]) -> Iterator[str]:
    operations = section["counted"]["diffusers"]["operations"]
    yield f"{title}: {section['size']}, {operations / 1e12:.3g} TFLOP, {section['dtype']}.\n"
    yield "| form | ms | × diffusers | TFLOP/s | of the ceiling | peak GB | error | compiling, cold / warm s |"
    yield "|---|---|---|---|---|---|---|---|"
    forms = section["forms"]
    base = forms.get("diffusers", {}).get("seconds")
    for name, form in forms.items():
        if "out_of_memory" in form:
            yield f"| {name} | out of memory | | | | | | |"
            continue
        rate = operations / form["seconds"]
        cells = [
            name,
            f"{1000 * form['seconds']:.4g}",
            f"{base / form['seconds']:.2f}" if base else "",
            f"{rate / 1e12:.3g}",
            f"{100 * rate / ceiling['operations_per_second']:.0f} %",
            f"{form['peak'] / 1e9:.1f}" if form["peak"] else "n/a",
            "n/a" if form["error"] is None else f"{form['error']:.1e}",
            f"{form['compile_cold']:.0f} / {form['compile_warm']:.0f}" if "compile_cold" in form else "",
        ]
        yield f"| {' | '.join(cells)} |"


def _chunks(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "In chunks that fade into each other, with the copy to the CPU; against the longest chunk that fits.\n"
    yield "| frames at once | ms | peak GB | grey levels off, mean | most |"
    yield "|---|---|---|---|---|"
    for row in rows:
        peak = f"{row['peak'] / 1e9:.1f}" if row["peak"] else "n/a"
        yield f"| {row['chunk']} | {1000 * row['seconds']:.4g} | {peak} | {row['mean']:.3f} | {row['most']:.0f} |"


def _attention(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "The outermost self-attentions by each back end: milliseconds, and TFLOP/s.\n"
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    yield f"| over | sequences, heads, tokens, channels | {' | '.join(backends)} |"
    yield "|---|---|" + "---|" * len(backends)
    for over in dict.fromkeys(row["over"] for row in rows):
        these = [row for row in rows if row["over"] == over]
        cells = ["not here" if row["seconds"] is None else _rate(row) for row in these]
        yield f"| {over} | {', '.join(map(str, these[0]['shape']))} | {' | '.join(cells)} |"
    for row in rows:
        if row["seconds"] is None:
            yield f"\n{row['backend']}, over {row['over']}: {row['refused'].splitlines()[0]}"


def _rate(row: dict[str, Any]) -> str:
    return f"{1000 * row['seconds']:.3g} ({row['operations'] / row['seconds'] / 1e12:.3g})"


def _job(section: dict[str, Any]) -> Iterator[str]:
    yield (
        f"A whole job: {section['size']}, {section['steps']} steps, {section['dtype']}. "
        "The floor is the evaluations' and the decoder's products at the card's ceiling.\n"
    )
    yield "| | method | seconds | decoding | evaluations | ms each | × floor | × off | grey levels off | warm-up s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    rows = section["rows"]
    off = {row["method"]: row["seconds"] for row in rows if row["name"] == "off" and "seconds" in row}
    for row in rows:
        if "out_of_memory" in row:
            yield f"| {row['name']} | {row['method']} | out of memory | | | | | | | |"
            continue
        base = off.get(row["method"])
        cells = [
            row["name"],
            row["method"],
            f"{row['seconds']:.4g}",
            "" if row["decoding"] is None else f"{row['decoding']:.3g}",
            str(row["evaluations"]),
            f"{1000 * row['seconds'] / row['evaluations']:.4g}",
            f"{row['seconds'] / row['floor']:.2f}",
            f"{base / row['seconds']:.2f}" if base else "",
            "" if row["apart"] is None else f"{row['apart']:.2f}",
            "" if row["warm_up"] is None else f"{row['warm_up']:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"
    previews = section["previews"]
    yield ""
    yield (
        f"A preview as JPEG takes {1000 * previews['seconds']:.3g} ms: one a second, as the engine sends them, "
        f"{100 * previews['seconds']:.2f} % of the time."
    )
