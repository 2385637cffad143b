"""The sprite benchmark: samples as the library does, goes on where it stopped, and says what differs from what."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mpd.sprites
from benchmarks.sprites import commands, experiments, pictures, prior, report, rows, tables, trained, variants
from benchmarks.sprites import ideal as perfect
from benchmarks.sprites.__main__ import main
from benchmarks.sprites.ideal import TABLE, WORLDS, Perfect
from benchmarks.sprites.rows import Row, RunError, Task, collect
from benchmarks.sprites.sampling import mismatch, walk
from benchmarks.sprites.trained import Trained, make
from benchmarks.sprites.variants import ABLATIONS, CLAIMS, CONTROLS, KNOWN, Variant
from mpd.methods import ANCHORS
from mpd.operators import flip
from mpd.progress import Take
from mpd.samplers import Paths, mpd_step
from mpd.schedule import karras
from mpd.segments import generate
from mpd.sprites import ideal, world
from mpd.sprites.ideal import CHANNELS, Clips, Ideal, Law
from mpd.svd.model import Model, load

SEED = world.seeds("development", 1)[0]


@pytest.fixture(scope="module")
def model() -> Model:
    torch.set_num_threads(1)
    return load(mpd.sprites.PATH)


def asked(seed: int, law: Law | None = None, count: int = 1) -> tuple[Paths, Tensor]:
    """Paths for `count` samples side by side, and standard normal noise for them."""
    question = ideal.question(seed, law)
    z_start, z_end = (question.truth[frame].repeat(count, 1, 1) for frame in (0, -1))
    noise = torch.randn((9, 2 * count, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Paths(question.start, question.end, z_start, z_end), noise


@pytest.mark.parametrize("name", ["svd", "trf", "mpd-vibid", "mpd (closure)"])
def test_a_variant_makes_what_the_library_makes(model: Model, name: str) -> None:
    scene = world.scene(SEED)
    truth, settings = world.render(scene), KNOWN[name].settings(2, frames=12, seeds=(SEED % (1 << 32),))
    settings = replace(settings, fps=scene.fps)
    given = [truth[0]] if name == "svd" else [truth[0], truth[-1]]
    whole = next(one for one in generate(model, given, settings) if isinstance(one, Take))
    alone = trained.shared(str(mpd.sprites.PATH))
    with torch.inference_mode(), alone.unet.member():
        made = make(alone, KNOWN[name], scene, truth, SEED, 2)
    np.testing.assert_array_equal(made.frames, whole.frames)
    assert len(made.visited) == 2


def test_methods_and_controls_are_judged_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    names = ["truth", "flow", "vibid", "mpd-vibid", "mpd (pin)", "mpd (closure)", *CONTROLS]
    work = Trained(str(mpd.sprites.PATH), 2, probed_below=SEED + 1)
    todo = [Task("", name, seed) for seed in (SEED, SEED + 1) for name in names]
    first = collect(tmp_path, {"run": 1}, todo[: len(names)], work, jobs=1)
    with_flow = [*todo[: len(names)], todo[len(names) + 1]]
    second = collect(tmp_path, {"run": 1}, with_flow, work, jobs=1)
    assert [row.task for row in second] == with_flow
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(names) + 1
    made = tables.table(first, CLAIMS)
    assert {f"{a}{tables.GAP}{b}" for a, b in CLAIMS if {a, b} <= set(names)} <= made.keys()
    assert made["truth"]["psnr"][0] > 27
    probed = {row.task.variant for row in first if row.mismatch}
    assert probed == set(names) - {"truth", "flow", "flow, re-noised"}
    text = "\n".join(tables.markdown(made, tables.TRAINED, {"vibid": 4}))
    assert all(f"| {name} |" in text for name in names)


def test_clips_abreast_are_what_they_are_one_by_one(tmp_path: Path) -> None:
    todo = [Task("", name, SEED + n) for n in range(3) for name in ("svd", "mpd-vibid")]
    work = Trained(str(mpd.sprites.PATH), 2)
    alone = collect(tmp_path / "alone", {}, todo, work, jobs=1)
    abreast = collect(tmp_path / "abreast", {}, todo, work, jobs=1, abreast=3)
    for one, other in zip(alone, abreast, strict=True):
        assert one.task == other.task
        assert other.figures["psnr"] == pytest.approx(one.figures["psnr"], abs=0.05)
        assert 0 < other.figures["seconds"] < 30


def test_a_batch_that_fails_fails_for_every_clip_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = trained.shared(str(mpd.sprites.PATH)).unet
    monkeypatch.setattr(unet, "_answers", lambda calls: [][0])
    todo = [Task("", "svd", SEED + n) for n in range(2)]
    with pytest.raises(RuntimeError, match="batch"):
        collect(tmp_path, {}, todo, Trained(str(mpd.sprites.PATH), 2), jobs=1, abreast=2)


def test_the_best_of_two_is_the_one_that_ends_nearer() -> None:
    scene = world.scene(SEED)
    truth = world.render(scene)
    model = trained.shared(str(mpd.sprites.PATH))
    with model.unet.member():
        takes = [
            make(model, Variant("svd", bucket="told"), scene, truth, SEED + add, 2).frames
            for add in (0, trained.OTHER_TAKE)
        ]
        best = make(model, Variant("svd", tries=2, bucket="told"), scene, truth, SEED, 2).frames
    errors = [float(np.square(take[-1].astype(float) - truth[-1]).mean()) for take in takes]
    np.testing.assert_array_equal(best, takes[int(np.argmin(errors))])


def test_rows_of_another_run_are_refused_and_half_a_line_is_made_again(tmp_path: Path) -> None:
    made: list[Task] = []

    def work(task: Task) -> Row:
        made.append(task)
        return Row(task, {"psnr": float(task.seed)}, [0.5])

    todo = [Task("", "svd", seed) for seed in range(3)]
    collect(tmp_path, {"weights": "a"}, todo, work, jobs=1)
    path = tmp_path / "rows.jsonl"
    path.write_text(path.read_text()[:-9])
    again = collect(tmp_path, {"weights": "a"}, todo, work, jobs=1)
    assert made == [*todo, todo[2]]
    assert again == rows.read(path) == [Row(task, {"psnr": float(task.seed)}, [0.5]) for task in todo]
    with pytest.raises(RunError, match="another run"):
        collect(tmp_path, {"weights": "b"}, todo, work, jobs=1)


def test_two_processes_make_the_rows_that_one_makes(tmp_path: Path) -> None:
    todo = [Task(next(iter(TABLE)), name, seed) for seed in range(2) for name in ("trf", "exact")]
    one = collect(tmp_path / "one", {}, todo, Perfect(2, 2), jobs=1)
    two = collect(tmp_path / "two", {}, todo, Perfect(2, 2), jobs=2)
    for a, b in zip(one, two, strict=True):
        assert a.task == b.task
        assert a.figures == pytest.approx(b.figures, rel=1e-6)


def test_differences_are_taken_clip_by_clip() -> None:
    made = [Row(Task("", "vibid", seed), {"psnr": 10.0 * seed, "path": math.nan}) for seed in range(6)]
    made += [Row(Task("", "mpd-vibid", seed), {"psnr": 10.0 * seed + 1, "path": 1.0}) for seed in range(6)]
    table = tables.table(made, [("mpd-vibid", "vibid"), ("mpd-trf", "trf")])
    gap = table[f"mpd-vibid{tables.GAP}vibid"]
    assert gap["psnr"] == pytest.approx((1, 1, 1))
    assert table["vibid"]["psnr"][2] - table["vibid"]["psnr"][1] > 10
    assert len(table) == 3
    assert tables.cell(tables.Column("path", "path"), gap["path"]) == "n/a"
    assert tables.cell(tables.Column("x", "x", 0, 100), (0.5, 0.25, 0.75)) == "50 [25, 75]"
    assert json.loads(json.dumps(tables.plain(table), allow_nan=False))["vibid"]["path"] == [None] * 3


def test_paths_that_agree_have_no_mismatch_and_the_others_theirs() -> None:
    paths, noise = asked(1, count=2)
    sigmas = [30.0, 1.0]
    visited = [sigma * noise for sigma in sigmas]

    def reversed_start(x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        return flip(paths.start(flip(x), sigma, False)[0]), None

    assert mismatch(replace(paths, end=reversed_start), visited, sigmas) == pytest.approx([0, 0], abs=1e-12)
    assert paths.end is not None
    back = paths.end(visited[1].flip(0), 1.0)[0].flip(0)
    literal = math.sqrt(float(((paths.start(visited[1], 1.0)[0] - back) ** 2).mean()))
    assert mismatch(paths, visited, sigmas)[1] == pytest.approx(literal)


def test_the_models_own_gain_is_the_covariance_it_stands_for() -> None:
    """Against Σ w (y_i − μ_i)(y_N − μ_N) over the clips of an ideal denoiser, along the end error."""
    generator = torch.Generator().manual_seed(3)
    clips = torch.randn(6, 1, 1, 1, 1, generator=generator, dtype=torch.float64).cumsum(0)
    clips = clips + 0.1 * torch.randn(6, 5, 1, 2, 2, generator=generator, dtype=torch.float64).cumsum(1)
    shares = torch.full((6,), 1 / 6, dtype=torch.float64)
    denoiser = Ideal(Clips(clips, shares), Clips(clips, shares))
    sigma = 40.0
    x = sigma * torch.randn(5, 1, 2, 2, generator=generator, dtype=torch.float64)
    x0, _ = denoiser(x, sigma, False)
    z_end = x0[-1] + 0.7
    paths = Paths(denoiser, None, x0[0], z_end)
    scores = -((x - clips) ** 2).flatten(1).sum(1) / (2 * sigma**2)
    weights = torch.softmax(scores, 0)
    off = clips - x0
    along = (off[:, -1] * (z_end - x0[-1])).sum((1, 2, 3))
    pushed = torch.einsum("k,knchw,k->nchw", weights, off, along)  # Cov(x_i, x_N) δ
    g = (pushed * pushed[-1]).sum((1, 2, 3)) / pushed[-1].square().sum()
    expected = g.clamp(0, 1).view(-1, 1, 1, 1) * (z_end - x0[-1])
    found = experiments.own_gain(paths, x, x0, sigma, 1, field=False)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)
    size = (z_end - x0[-1]).square().sum()
    whole = experiments.own_gain(paths, x, x0, sigma, 1, field=True)
    torch.testing.assert_close(whole, pushed * size / (pushed[-1] * 0.7).sum(), rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name", experiments.STEPS)
def test_every_experiment_pins_both_keyframes_and_treats_clips_side_by_side_as_each_alone(name: str) -> None:
    paths, noise = asked(2, Law(between=True), count=2)
    x, x0 = experiments.named(name, CHANNELS)(paths, 5 * noise, 5.0, 2.0)
    torch.testing.assert_close(x0[0], paths.z_start)
    assert paths.z_end is not None
    torch.testing.assert_close(x0[-1], paths.z_end)
    alone = replace(paths, z_start=paths.z_start[:CHANNELS], z_end=paths.z_end[:CHANNELS])
    one, _ = experiments.named(name, CHANNELS)(alone, 5 * noise[:, :CHANNELS].contiguous(), 5.0, 2.0)
    torch.testing.assert_close(x[:, :CHANNELS], one)


def test_the_field_is_the_experiment_that_it_comes_from() -> None:
    paths, noise = asked(2, Law(between=True))
    experiment = experiments.named("gain, field", CHANNELS)(paths, 5 * noise, 5.0, 2.0)
    for step, made in zip(experiment, mpd_step(paths, 5 * noise, 5.0, 2.0, 1.0, "field"), strict=True):
        torch.testing.assert_close(made, step)


def test_a_strength_by_the_end_error_lies_between_pin_and_its_anchor() -> None:
    paths, noise = asked(4)
    x = 3 * noise
    x0 = paths.start(x, 3.0)[0]
    error = experiments.missed(paths, x0)
    squared = float(error.square().mean())
    middle = 0.5 * error  # the closure's gain of frame 5 of 9
    for when, strength in (("near", 1 / (1 + squared)), ("far", squared / (1 + squared))):
        found = experiments.by_end_error(paths, x, x0, 3.0, CHANNELS, scale=1.0, when=when, anchor="closure")
        torch.testing.assert_close(found[4], strength * middle)


def test_without_the_unconditional_estimate_a_step_is_eulers() -> None:
    paths, noise = asked(5)
    variant, sigmas = Variant("mpd", unconditional=False), karras(3, 0.1, 10.0)
    *_, step = walk(variant, variant.settings(None), paths, 10 * noise, sigmas, torch.zeros_like, CHANNELS)
    start: Any = paths.start
    single = replace(start, all=start.conditional)
    expected = walk(
        Variant("mpd"), variant.settings(None), replace(paths, start=single), 10 * noise, sigmas, torch.zeros_like, 2
    )
    *_, other = expected
    torch.testing.assert_close(step.x, other.x)
    assert variant.calls(10) == 5


def test_an_experiment_over_a_host_changes_its_early_steps_alone() -> None:
    paths, noise = asked(6)
    sigmas, anchor = karras(4, 0.1, 10.0), ANCHORS[0]
    own, till = Variant("mpd-vibid", {"anchor": anchor}), Variant("mpd-vibid", experiment="till 10")
    ends = [
        [*walk(one, one.settings(None), paths, 10 * noise, sigmas, torch.zeros_like, CHANNELS)][-1].x
        for one in (own, till)
    ]
    torch.testing.assert_close(*ends)  # `till 10` is `pin` from σ = 10 down


def test_sweeps_know_their_cost_and_change_one_thing_at_a_time() -> None:
    for name, sweep in ABLATIONS.items():
        assert all(variant.calls(25) > 0 for variant in sweep.values()), name
    assert ABLATIONS["mpd-vibid"]["mpd-vibid, k = 5"].settings(None).k == 5
    assert KNOWN["mpd-vibid"].calls(25) == 65
    assert KNOWN["mpd (gain)"].calls(25) == 37.5
    assert KNOWN["flow, re-noised"].calls(25) == 10
    assert KNOWN["mpd (pin), 1.5 × steps"].calls(25) == 38


def test_the_ideal_commands_write_their_tables_and_the_page_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perfect, "ROWS", ("exact", "mpd (pin)", "mpd (closure)"))
    monkeypatch.setattr(perfect, "IN_DIALS", ("mpd (pin)", "mpd (closure)"))
    monkeypatch.setitem(ABLATIONS, "mpd", {name: ABLATIONS["mpd"][name] for name in ("mpd (closure)", "mpd (gain)")})
    few = ["--clips", "1", "--steps", "2", "--out", str(tmp_path / "runs")]
    assert main(["ideal", "--samples", "2", *few]) == 0
    assert main(["dials", "--samples", "2", *few]) == 0
    assert main(["ablate", "--world", "ideal", "--sweep", "mpd", *few]) == 0
    content = json.loads((tmp_path / "runs" / "ideal" / "table.json").read_text())
    assert content["tables"].keys() == TABLE.keys()
    assert {"energy", "coverage", "reverse"} <= content["tables"][next(iter(TABLE))]["mpd (closure)"].keys()
    dials = json.loads((tmp_path / "runs" / "dials" / "table.json").read_text())
    assert dials["tables"].keys() == WORLDS.keys() - TABLE.keys()
    page = tmp_path / "docs" / "sprites.md"
    (page.parent / "pictures").mkdir(parents=True)
    page.write_text("before\n<!-- run: ideal -->\nold\n<!-- end -->\nafter\n<!-- run: table -->\nkept\n<!-- end -->\n")
    assert report.publish(tmp_path / "runs", page.parent) == ["ideal"]
    text = page.read_text()
    assert "old" not in text
    assert f"| mpd (closure){tables.GAP}mpd (pin) |" in text
    assert "| mpd (closure) |" not in text
    assert "(figures/sprites-ideal.md)" in text
    assert "| mpd (closure) |" in (page.parent / "figures" / "sprites-ideal.md").read_text()
    assert text.startswith("before")
    assert text.endswith("after\n<!-- run: table -->\nkept\n<!-- end -->\n")
    assert (page.parent / "pictures" / "sprites-ideal-mismatch.png").stat().st_size > 1000
    assert main(["ideal", "--samples", "3", *few]) == 2  # rows of another run are there


@pytest.mark.parametrize("world_name", ["trained", "ideal"])
def test_where_rounds_help_is_told_beside_the_same_rounds_with_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_name: str
) -> None:
    known = KNOWN if world_name == "trained" else variants.IDEAL_KNOWN
    lower = ["trf, top 3", "mpd-trf, top 3"] if world_name == "ideal" else []
    few = [name for name in variants.IDEAL_WHERE if "trf" in name and "top " not in name] + lower
    for name in few:
        short = replace(known[name], published=2, window=range(1) if known[name].window else None)
        monkeypatch.setitem(known, name, short)
    monkeypatch.setattr(commands, "WHERE" if world_name == "trained" else "IDEAL_WHERE", dict.fromkeys(few))
    assert main(["where", "--world", world_name, "--clips", "1", "--steps", "2", "--out", str(tmp_path)]) == 0
    folder = tmp_path / ("where" if world_name == "trained" else "where-ideal")
    for way in ("γ by steps", "γ by noise", "window"):
        line = f"| mpd-trf, {way}{tables.GAP}mpd-trf, {way}, rounds with pin |"
        assert line in (folder / "table.md").read_text()
        assert line in (folder / "brief.md").read_text()
    assert (f"| mpd-trf, top 3{tables.GAP}trf, top 3 |" in (folder / "brief.md").read_text()) == bool(lower)


def test_the_ideal_world_has_windows_of_its_own() -> None:
    assert {name: variants.IDEAL_KNOWN[name] for name in variants.IDEAL_WHERE} == variants.IDEAL_WHERE
    for host in ("trf", "vibid"):
        name = f"mpd-{host}, window"
        assert variants.IDEAL_KNOWN[name].window == variants.IDEAL_WINDOWS[host] != KNOWN[name].window


def test_the_prior_says_at_which_noise_the_model_tells_forward_from_backward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior, "LEVELS", (0.1, 3.0, 700.0))
    assert main(["prior", "--clips", "1", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "prior" / "table.json").read_text())["tables"]
    assert figures["3"]["prior"]["penalty"][0] > 1.2
    assert 1 < figures["0.1"]["prior"]["penalty"][0] < 2
    assert figures["0.1"]["prior"]["apart"][0] < 0.1 * figures["700"]["prior"]["apart"][0]


def test_strips_show_the_last_frame_and_plots_survive_a_hole(tmp_path: Path) -> None:
    clip = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.full((12, 8, 8, 3), 20, np.uint8)
    strip = np.asarray(pictures.strips({"truth": [clip, clip], "mpd": [clip, clip]}, every=3))
    assert strip.shape == (2 * 9, pictures.LABEL + 2 * (5 * 9 + pictures.GAP), 3)
    assert (strip[4, pictures.LABEL + 4 * 9 + 4] == 220).all()
    curve = {"a": [(0.0, 1.0), (1.0, math.nan), (2.0, 3.0)], "flat": [(0.0, 2.0)]}
    pictures.save(pictures.plots([("t", "x", curve), ("u", "x", curve), ("v", "x", curve)]), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_variants_know_of_the_model_that_ships_is_so(model: Model) -> None:
    assert model.schedule == variants.SPRITES
    assert math.prod(model.latent_shape(12, 64, 64)) == variants.CLIP
    assert KNOWN["mpd (closure)"].calls(None) == 15
    assert KNOWN["mpd-trf, window"].calls(None) == KNOWN["mpd-trf, γ by steps"].calls(None) == 66
    assert KNOWN["mpd-trf, γ by noise"].calls(None) > 66
    assert KNOWN["vibid, 25 from the top"].calls(None) == 50
    assert KNOWN["empty"].calls(None) == 0


@pytest.mark.parametrize(("world_name", "windows"), [("trained", variants.WINDOWS), ("ideal", variants.IDEAL_WINDOWS)])
def test_a_window_begins_where_a_quarter_is_decided(model: Model, world_name: str, windows: dict[str, range]) -> None:
    def error(level: float) -> float:
        total = 0.0
        for number in range(4):
            if world_name == "ideal":
                question = ideal.question(number, Law(window=2))
                truth, start = question.truth, question.start
                noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(number), dtype=truth.dtype)
                total += float((start(truth + level * noise, level, False)[0] - truth).square().mean())
            else:
                forward = prior._figures(model, world.seeds("development", 4, first=50)[number], level)["forward"]
                total += forward**2
        return total

    begins = windows["trf"].start
    assert windows["vibid"].start == begins
    sigmas = karras(25, 0.002, 700.0 if world_name == "trained" else perfect.SIGMA_MAX)
    with torch.inference_mode():
        top = error(sigmas[0])
        assert 1 - error(sigmas[begins]) / top > 0.2 > 1 - error(sigmas[begins - 1]) / top


def test_rounds_in_a_window_are_those_of_its_steps_alone() -> None:
    paths, noise = asked(6)
    sigmas = karras(6, 0.1, 10.0)
    taken: list[float] = []

    def counting(x: Tensor) -> Tensor:
        taken.append(1.0)
        return torch.zeros_like(x)

    one = Variant("mpd-trf", window=range(2, 4))
    plan = one.settings(None).distillation
    assert plan is not None
    [*walk(one, one.settings(None), paths, 10 * noise, sigmas, counting, CHANNELS)]
    assert len(taken) == 2 * plan.k
