"""The benchmark's commands: which tasks a run has, and what is shown of its rows. Called by `__main__` alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.sprites import ideal as perfect
from benchmarks.sprites import pictures, report, storyboards, tables
from benchmarks.sprites import prior as direction
from benchmarks.sprites.rows import Row, Task, collect
from benchmarks.sprites.trained import Trained, distance, fingerprint, make, shared
from benchmarks.sprites.variants import (
    ABLATIONS,
    CLAIMS,
    CONTROLS,
    IDEAL_WHERE,
    IDEAL_WHERE_CLAIMS,
    KNOWN,
    TOLD,
    VARIANTS,
    WHERE,
    WHERE_CLAIMS,
    Variant,
)
from mpd.progress import Pictures
from mpd.sprites import world

Command = Callable[[argparse.Namespace], str]
IN_STRIPS = 3
IDEAL_STEPS = 25
BY_WAY = tuple(column for column in tables.TRAINED if column.measure in ("psnr", "path", "reverse"))


def table(arguments: argparse.Namespace) -> str:
    names = list(dict.fromkeys([*arguments.methods, *arguments.also]))
    seeds = world.seeds(arguments.split, arguments.clips, first=arguments.first)
    identity = _identity(arguments, arguments.split)
    work = Trained(str(arguments.model), arguments.steps, seeds[0] + arguments.probed, arguments.bf16)
    folder = arguments.out / ("table" if arguments.split == "held-out" else f"table-{arguments.split}")
    todo = [Task("", name, seed) for seed in seeds for name in names]
    rows = collect(folder, identity, todo, work, arguments.jobs, arguments.abreast)
    claims = [*CLAIMS, *((name, "mpd (pin)") for name in arguments.also if name in CONTROLS), *TOLD]
    whole = {"": tables.table(rows, claims)}
    ways = _by_way(rows, claims)
    _strips(arguments, folder, seeds[:IN_STRIPS], [name for name in names if name in VARIANTS])
    curves = tables.curves(rows)
    if curves:
        report.picture(folder, "mismatch", pictures.plots([("Eq. 11's mismatch", "step", _by_step(curves))]))
    probed = sum(1 for row in rows if row.mismatch and row.task.variant == next(iter(curves), ""))

    def lines() -> Iterator[str]:
        yield f"{len(seeds)} {arguments.split} clips, {_told(arguments)}. Mean [95 % interval over clips]."
        yield f"Mismatch: {probed} of the clips.\n"
        yield from tables.markdown(whole[""], tables.TRAINED, _calls(names, arguments.steps))
        for title, part in ways.items():
            yield f"**{title}**\n"
            yield from tables.markdown(part, BY_WAY, _calls(names, arguments.steps))

    head = f"{len(seeds)} {arguments.split} clips, {_told(arguments)}. Mean [95 % interval over clips].\n"
    brief = [head, *tables.briefly(whole[""], _calls(names, arguments.steps))]
    return report.write(folder, identity, whole | ways, lines(), brief)


def where(arguments: argparse.Namespace) -> str:
    if arguments.world == "ideal":
        return _where_ideal(arguments)
    seeds = world.seeds("held-out", arguments.clips, first=arguments.first)
    folder, identity = arguments.out / "where", _identity(arguments, "held-out")
    todo = [Task("", name, seed) for seed in seeds for name in WHERE]
    work = Trained(str(arguments.model), arguments.steps, bf16=arguments.bf16)
    made = tables.table(collect(folder, identity, todo, work, arguments.jobs, arguments.abreast), WHERE_CLAIMS)

    def lines() -> Iterator[str]:
        yield f"{len(seeds)} held-out clips from {arguments.first} on, {_told(arguments)} unless a row says."
        yield "Mean [95 % interval over clips].\n"
        yield from tables.markdown(made, tables.TRAINED[:-1], _calls(list(WHERE), arguments.steps))

    head = f"{len(seeds)} held-out clips from {arguments.first} on. Mean [95 % interval over clips].\n"
    brief = [head, *tables.claims(made, tables.TRAINED)]
    return report.write(folder, identity, {"": made}, lines(), brief)


def _where_ideal(arguments: argparse.Namespace) -> str:
    steps = arguments.steps or IDEAL_STEPS
    folder = arguments.out / "where-ideal"
    identity: dict[str, object] = {"world": "ideal", "steps": steps, "samples": 8}
    groups = ("the motion is known, ±2 frames seen", "between known motions, ±2 frames seen")
    todo = _questions(groups, list(IDEAL_WHERE), arguments.clips)
    rows = collect(folder, identity, todo, perfect.Perfect(steps, 8, probed=False), arguments.jobs)
    made = _by_group(rows, IDEAL_WHERE_CLAIMS)

    def lines() -> Iterator[str]:
        yield f"{arguments.clips} questions, 8 samples each, {steps} steps. Mean [95 % interval].\n"
        for group, part in made.items():
            yield f"**{group[0].upper()}{group[1:]}**\n"
            yield from tables.markdown(part, tables.IDEAL[:-1], {})

    return report.write(folder, identity, made, lines(), _differences(made, tables.IDEAL))


def ablate(arguments: argparse.Namespace) -> str:
    if arguments.world == "ideal":
        return _ablate_ideal(arguments)
    seeds = world.seeds("development", arguments.clips)
    folder, identity = arguments.out / "ablate", _identity(arguments, "development")
    sweeps = {name: ABLATIONS[name] for name in arguments.sweep}
    made = {}
    for name, variants in sweeps.items():
        todo = [Task("", variant, seed) for seed in seeds for variant in variants]
        work = Trained(str(arguments.model), arguments.steps, bf16=arguments.bf16)
        rows = collect(folder, identity, todo, work, arguments.jobs, arguments.abreast)
        made[name] = tables.table(rows, [(variant, _own(name)) for variant in variants if variant != _own(name)])
    head = f"{len(seeds)} development clips, {_told(arguments)}; differences are to the sweep's own settings."
    return report.write(
        folder,
        identity,
        made,
        _sweeps(head, made, tables.TRAINED[:-1], arguments.steps),
        _differences(made, tables.TRAINED),
    )


def _ablate_ideal(arguments: argparse.Namespace) -> str:
    folder, steps = arguments.out / "ablate-ideal", arguments.steps or IDEAL_STEPS
    identity: dict[str, object] = {"world": "ideal", "steps": steps, "samples": 4}
    made = {}
    for name in arguments.sweep:
        for group in ("the motion is known, all frames seen", "between known motions, ±2 frames seen"):
            todo = [Task(group, variant, seed) for seed in range(arguments.clips) for variant in ABLATIONS[name]]
            rows = collect(folder, identity, todo, perfect.Perfect(steps, 4, probed=False), arguments.jobs)
            claims = [(variant, _own(name)) for variant in ABLATIONS[name] if variant != _own(name)]
            made[f"{name}: {group}"] = tables.table(rows, claims)
    head = f"{arguments.clips} questions, 4 samples each, {steps} steps; differences are to the sweep's own."
    return report.write(folder, identity, made, _sweeps(head, made, tables.IDEAL[:-1], steps))


def boards(arguments: argparse.Namespace) -> str:
    seeds = world.seeds("held-out", arguments.clips, first=arguments.first)
    folder, identity = arguments.out / "storyboards", _identity(arguments, "held-out")
    todo = [Task(board, way, seed) for board in arguments.boards for seed in seeds for way in storyboards.WAYS]
    work = storyboards.Storyboards(str(arguments.model), arguments.steps, arguments.bf16)
    made = _by_group(collect(folder, identity, todo, work, arguments.jobs, arguments.abreast), storyboards.CLAIMS)

    def lines() -> Iterator[str]:
        yield f"{len(seeds)} held-out clips from {arguments.first} on, {_told(arguments)}. Mean [95 % interval].\n"
        for board, part in made.items():
            yield f"**{board[0].upper()}{board[1:]}**\n"
            calls = {way: float(storyboards.calls(board, way, arguments.steps)) for way in storyboards.WAYS}
            yield from tables.markdown(part, storyboards.COLUMNS, calls)

    return report.write(folder, identity, made, lines())


def prior(arguments: argparse.Namespace) -> str:
    seeds = world.seeds("development", arguments.clips)
    folder, identity = arguments.out / "prior", _identity(arguments, "development")
    rows = collect(folder, identity, direction.tasks(seeds), direction.Prior(str(arguments.model)), arguments.jobs)
    made = _by_group(rows, ())

    def lines() -> Iterator[str]:
        yield f"{len(seeds)} development clips, one denoiser call each. Mean [95 % interval over clips].\n"
        yield from direction.markdown(made)

    return report.write(folder, identity, made, lines())


def ideal(arguments: argparse.Namespace) -> str:
    steps = arguments.steps or IDEAL_STEPS
    folder, identity = arguments.out / "ideal", _ideal_identity(arguments)
    todo = _questions(list(perfect.TABLE), perfect.ROWS, arguments.clips)
    rows = collect(folder, identity, todo, perfect.Perfect(steps, arguments.samples), arguments.jobs)
    made = _by_group(rows, perfect.IDEAL_CLAIMS)
    parts = []
    for group in list(perfect.TABLE)[0::3]:
        curves = tables.curves([row for row in rows if row.task.group == group])
        parts.append((group, "step", _by_step({name: curves[name] for name in perfect.IN_DIALS})))
    report.picture(folder, "mismatch", pictures.plots(parts))

    def lines() -> Iterator[str]:
        yield f"{arguments.clips} questions per world, {arguments.samples} samples of each, {steps} steps.\n"
        for group, part in made.items():
            yield f"**{group[0].upper()}{group[1:]}**\n"
            yield from tables.markdown(part, tables.IDEAL, _calls(perfect.ROWS, steps))

    return report.write(folder, identity, made, lines(), _differences(made, tables.IDEAL))


def dials(arguments: argparse.Namespace) -> str:
    steps = arguments.steps or IDEAL_STEPS
    folder, identity = arguments.out / "dials", _ideal_identity(arguments)
    groups = [group for dial in perfect.DIALS.values() for group in dial]
    todo = _questions(groups, perfect.IN_DIALS, arguments.clips)
    rows = collect(folder, identity, todo, perfect.Perfect(steps, arguments.samples, probed=False), arguments.jobs)
    made = _by_group(rows, perfect.IDEAL_CLAIMS)
    shown = (("nearest", "nearest dB", 1.0), ("reverse", "reverse %", 100.0), ("energy", "energy distance", 1.0))
    parts = []
    for measure, title, factor in shown:
        for dial, along in ((perfect.FORWARDNESS, "share of reversed clips, %"), (perfect.DISPLACEMENT, "way, pixels")):
            series = {
                name: [(float(group.split()[0]), factor * made[group][name][measure][0]) for group in dial]
                for name in perfect.IN_DIALS
            }
            parts.append((title, along, series))
    report.picture(folder, "curves", pictures.plots(parts))

    def lines() -> Iterator[str]:
        yield f"{arguments.clips} questions per setting, {arguments.samples} samples each, {steps} steps.\n"
        for title, dial in perfect.DIALS.items():
            yield f"**{title[0].upper()}{title[1:]}**\n"
            yield from _dial({group: made[group] for group in dial})

    return report.write(folder, identity, made, lines(), [f"{arguments.clips} questions per setting."])


def docs(arguments: argparse.Namespace) -> str:
    return f"published: {', '.join(report.publish(arguments.out)) or 'nothing'}"


def _differences(made: dict[str, tables.Table], columns: Sequence[tables.Column]) -> Iterator[str]:
    yield "Differences, mean [95 % interval].\n"
    for title, part in made.items():
        yield f"**{title[0].upper()}{title[1:]}**\n"
        yield from tables.claims(part, columns)


def _dial(made: dict[str, tables.Table]) -> Iterator[str]:
    """Write per measure that applies one line per method, one column per setting of the dial."""
    names = next(iter(made.values()))
    for column in (tables.IDEAL[0], tables.IDEAL[2], tables.IDEAL[4]):
        lines = {name: [tables.cell(column, part[name][column.measure]) for part in made.values()] for name in names}
        if any(cell != "n/a" for cells in lines.values() for cell in cells):
            yield f"| {column.title} | {' | '.join(made)} |"
            yield "|" + "---|" * (len(made) + 1)
            yield from (f"| {name} | {' | '.join(cells)} |" for name, cells in lines.items())
            yield ""


def _by_group(rows: Sequence[Row], claims: Sequence[tuple[str, str]]) -> dict[str, tables.Table]:
    groups = dict.fromkeys(row.task.group for row in rows)
    return {group: tables.table([row for row in rows if row.task.group == group], claims) for group in groups}


def _by_way(rows: Sequence[Row], claims: Sequence[tuple[str, str]]) -> dict[str, tables.Table]:
    """Divide the rows into thirds, by how far the sprite is displaced between the keyframes."""
    ways = {seed: distance(seed) for seed in {row.task.seed for row in rows}}
    low, high = (float(np.quantile(list(ways.values()), part)) for part in (1 / 3, 2 / 3))
    thirds: dict[str, Callable[[float], bool]] = {
        f"Keyframes less than {low:.0f} px apart": lambda way: way < low,
        f"Keyframes {low:.0f} to {high:.0f} px apart": lambda way: low <= way < high,
        f"Keyframes {high:.0f} px apart and more": lambda way: way >= high,
    }
    parts = {title: [row for row in rows if belongs(ways[row.task.seed])] for title, belongs in thirds.items()}
    return {title: tables.table(part, claims) for title, part in parts.items() if part}


def _sweeps(
    head: str, made: dict[str, tables.Table], columns: Sequence[tables.Column], steps: int | None
) -> Iterator[str]:
    yield f"{head} Mean [95 % interval].\n"
    for title, part in made.items():
        yield f"**{title}**\n"
        yield from tables.markdown(part, columns, _calls(list(KNOWN), steps))


def _questions(groups: Sequence[str], names: Sequence[str], count: int) -> list[Task]:
    return [Task(group, name, seed) for group in groups for seed in range(count) for name in names]


def _by_step(curves: dict[str, list[float]]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(float(step), value) for step, value in enumerate(curve, 1)] for name, curve in curves.items()}


def _own(sweep: str) -> str:
    """Name the variant that a sweep's others are compared with."""
    return "mpd (closure)" if sweep == "mpd" else sweep


def _strips(arguments: argparse.Namespace, folder: Path, seeds: Sequence[int], names: Sequence[str]) -> None:
    model = shared(str(arguments.model), arguments.bf16)
    scenes = {seed: world.scene(seed) for seed in seeds}
    truths = {seed: world.render(scene) for seed, scene in scenes.items()}
    clips: dict[str, list[Pictures]] = {"truth": list(truths.values())}
    for name in names:
        if name != "truth":
            variant: Variant = KNOWN[name]
            with model.unet.member():
                clips[name] = [make(model, variant, scenes[s], truths[s], s, arguments.steps).frames for s in seeds]
    report.picture(folder, "strips", pictures.strips(clips))


def _told(arguments: argparse.Namespace) -> str:
    if arguments.steps is not None:
        return f"{arguments.steps} steps from the published top"
    own = shared(str(arguments.model), getattr(arguments, "bf16", False)).schedule
    return f"the model's own {own.own_steps} steps from σ = {own.sigmas(None)[0]:g}"


def _calls(names: Sequence[str], steps: int | None) -> dict[str, float]:
    return {name: KNOWN[name].calls(steps) for name in names if name in KNOWN}


def _identity(arguments: argparse.Namespace, split: str) -> dict[str, object]:
    products = "bfloat16" if getattr(arguments, "bf16", False) else "float32"
    return {
        "weights": fingerprint(arguments.model), "split": split, "steps": arguments.steps, "products": products
    }  # fmt: skip


def _ideal_identity(arguments: argparse.Namespace) -> dict[str, object]:
    return {"world": "ideal", "steps": arguments.steps or IDEAL_STEPS, "samples": arguments.samples}
