"""What is compared with what: the methods with their own settings, controls, and changes of one setting at a time.

Knows nothing of the worlds that they are compared in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.sprites.experiments import STEPS
from benchmarks.sprites.floor import FLOOR
from mpd.lengths import denoiser_calls
from mpd.methods import MOTION_BUCKET, Settings
from mpd.schedule import Schedule, early_steps

DRAWN = ("truth", "flow", *FLOOR)
"""What needs no denoiser."""
SPRITES = Schedule(0.002, 700.0, own_steps=15, own_sigma_max=40.0)
"""The schedule of the model that ships, as its card has it."""
CLIP = 12 * 4 * 8 * 8
"""Numbers of its latents."""
FLOW_LEVEL = 4.0
"""Noise level down to which `flow, re-noised` leaves steps out: it begins from flow and the next level's noise."""


def skipped(sigmas: Sequence[float]) -> int:
    """Count the steps that `flow, re-noised` leaves out."""
    return sum(sigma > FLOW_LEVEL for sigma in sigmas)


@dataclass(frozen=True)
class Variant:
    """One way of sampling."""

    #: Of `mpd.methods.Settings`, as `changes`; those of `DRAWN` sample nothing.
    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    #: The step of `experiments.STEPS` that takes the MPD step's place.
    experiment: str | None = None
    #: False lets x̂0_c stand in for x̂0_∅ everywhere, a CFG++ step becoming Euler's.
    unconditional: bool = True
    #: From pure noise, or from optical flow with noise upon it.
    begins: Literal["noise", "flow"] = "noise"
    #: Takes, of which the one that ends nearest to the end keyframe is kept.
    tries: int = 1
    #: Times as many steps as the others take, a control at equal calls.
    longer: float = 1.0
    #: What the model is told of how fast: what a caller gets, SVD's default, or the clip's own motion bucket.
    bucket: Literal["auto", "default", "told"] = "auto"
    #: So many steps from the model's published σ_max, whatever the others take.
    published: int | None = None
    #: The noise level that the ideal world's steps begin at, if not that world's own.
    top: float | None = None
    #: The steps that begin with MPD rounds, instead of those that γ names.
    window: range | None = None

    def settings(self, steps: int | None, bucket: int | None = None, **told: Any) -> Settings:
        """Give what is asked of the sampler. steps: None is the model's own. bucket: the clip's own."""
        asked = self.published or steps
        if self.longer != 1.0:
            asked = round(self.longer * (asked or SPRITES.own_steps))
        told["steps"] = asked
        named: dict[str, Any] = {"auto": "auto", "default": MOTION_BUCKET, "told": bucket}
        told["motion_bucket_id"] = named[self.bucket]
        return Settings(method=self.method, **(self.changes | told))

    def calls(self, steps: int | None) -> float:
        """Count the denoiser calls of one clip of the trained world.

        One is a conditional and an unconditional estimate, a lone conditional half.
        """
        if self.method in DRAWN:
            return 0
        settings = self.settings(steps)
        taken = settings.steps or SPRITES.own_steps
        calls: float = denoiser_calls(settings, SPRITES, [CLIP])
        if self.window is not None and settings.distillation is not None:
            early = early_steps(settings.distillation, SPRITES.sigmas(settings.steps), CLIP)
            calls += settings.distillation.k * (len(self.window) - early)
        if self.begins == "flow":
            calls -= skipped(SPRITES.sigmas(settings.steps))
        if self.experiment is not None and self.experiment.startswith("gain"):
            calls += taken / 2
        return self.tries * calls * (1 if self.unconditional else 0.5)


VARIANTS: dict[str, Variant] = {
    "truth": Variant("truth"),
    **{name: Variant(name) for name in FLOOR},
    "flow": Variant("flow"),
    "svd": Variant("svd"),
    "trf": Variant("trf"),
    "mpd-trf": Variant("mpd-trf"),
    "mpd-trf, rounds with pin": Variant("mpd-trf", {"anchor": "pin"}),
    "vibid": Variant("vibid"),
    "mpd-vibid": Variant("mpd-vibid"),
    "mpd-vibid, rounds with pin": Variant("mpd-vibid", {"anchor": "pin"}),
    "mpd (pin)": Variant("mpd", {"anchor": "pin"}),
    "mpd (rigid)": Variant("mpd", {"anchor": "rigid"}),
    "mpd (closure)": Variant("mpd", {"anchor": "closure"}),
    "mpd (field)": Variant("mpd", {"anchor": "field"}),
}
"""The table's rows."""
CONTROLS: dict[str, Variant] = {
    "svd, best of 2": Variant("svd", tries=2),
    "flow, re-noised": Variant("mpd", {"anchor": "pin"}, begins="flow"),
    "mpd (closure), 1.5 × steps": Variant("mpd", {"anchor": "closure"}, longer=1.5),
}
"""What any method has to beat at as many calls or fewer."""
_SAID: tuple[tuple[str, Literal["told", "default"]], ...] = (("told its speed", "told"), ("bucket 127", "default"))
BUCKETS: dict[str, Variant] = {
    f"{name}, {said}": replace(variant, bucket=bucket)
    for name, variant in (("mpd (closure)", VARIANTS["mpd (closure)"]), ("vibid", VARIANTS["vibid"]))
    for said, bucket in _SAID
}
"""The same with another motion bucket: the clip's own, which no caller knows, and the one without a calibration."""
CLAIMS = (
    ("mpd-trf", "trf"),
    ("mpd-trf", "mpd-trf, rounds with pin"),
    ("mpd-vibid", "vibid"),
    ("mpd-vibid", "mpd-vibid, rounds with pin"),
    ("mpd (rigid)", "mpd (pin)"),
    ("mpd (closure)", "mpd (pin)"),
    ("mpd (closure)", "mpd (rigid)"),
    ("mpd (field)", "mpd (closure)"),
    ("mpd (field)", "mpd (closure), 1.5 × steps"),
    ("mpd (closure)", "mpd-vibid"),
    ("mpd (closure)", "flow"),
)
"""Pairs (method, what it is compared with), the paper's claims first."""
TOLD = tuple(
    (f"{name}{one}", f"{name}{other}")
    for name in ("mpd (closure)", "vibid")
    for one, other in (("", ", bucket 127"), ("", ", told its speed"), (", told its speed", ", bucket 127"))
)
"""The same of the motion bucket."""


def _where(host: str, window: range, own: bool = True) -> dict[str, Variant]:
    """List MPD's rounds over a host at other noise levels, each beside the same rounds with `pin`.

    window: the steps of 25 from σ_max at which the model decides. own: the model's own schedule as well.
    """
    mpd, variants = f"mpd-{host}", {}
    ways: dict[str, dict[str, Any]] = {
        "γ by steps": {},
        "γ by noise": {"changes": {"gamma_in": "noise"}},
        "window": {"window": window},
    }
    for way, told in ways.items():
        variants[f"{mpd}, {way}"] = Variant(mpd, **told, published=STEPS_BEFORE)
        pinned = {**told, "changes": {**told.get("changes", {}), "anchor": "pin"}}
        variants[f"{mpd}, {way}, rounds with pin"] = Variant(mpd, **pinned, published=STEPS_BEFORE)
    before = {f"{host}, 25 from the top": Variant(host, published=STEPS_BEFORE), **variants}
    owned = {name: VARIANTS[name] for name in (host, mpd, f"{mpd}, rounds with pin")}
    return {**before, **owned} if own else before


STEPS_BEFORE = 25
WINDOWS = {"trf": range(12, 20), "vibid": range(12, 17)}
"""Of 25 steps from 700, from the first at which the model that ships has decided a quarter, as many as γ names.

Decided is the share by which its error in foretelling a clip has fallen below that of pure noise (`prior`).
"""
IDEAL_WINDOWS = {"trf": range(15, 23), "vibid": range(15, 20)}
"""Of 25 steps from the ideal world's top, the same."""
WHERE: dict[str, Variant] = {
    **_where("trf", WINDOWS["trf"]),
    **_where("vibid", WINDOWS["vibid"]),
    "mpd-vibid, handed over until σ = 1": Variant(
        "mpd-vibid", {"k": 0, "anchor": "closure", "handover": 0.72}, published=STEPS_BEFORE
    ),
}
"""At which noise levels MPD's rounds help a host, at the same number of them."""


def _claims_of(host: str) -> list[tuple[str, str]]:
    ways = ("γ by steps", "γ by noise", "window")
    made = [(f"mpd-{host}, {way}", f"{host}, 25 from the top") for way in ways]
    made += [(f"mpd-{host}, {way}", f"mpd-{host}, {way}, rounds with pin") for way in ways]
    return [*made, (f"mpd-{host}", host), (f"mpd-{host}", f"mpd-{host}, rounds with pin")]


WHERE_CLAIMS = (
    *_claims_of("trf"),
    *_claims_of("vibid"),
    ("mpd-vibid, handed over until σ = 1", "vibid, 25 from the top"),
)
TOPS = (300.0, 10.0, 3.0)
IDEAL_WHERE: dict[str, Variant] = {
    **{name: one for host, window in IDEAL_WINDOWS.items() for name, one in _where(host, window, own=False).items()},
    **{
        f"{name}, top {top:g}": replace(VARIANTS[name], top=top)
        for top in TOPS
        for name in ("trf", "mpd-trf", "vibid", "mpd-vibid")
    },
}
"""The same in the ideal world, and with the schedule's top lower."""
IDEAL_WHERE_CLAIMS = (
    *(claim for claim in WHERE_CLAIMS if claim[0] in IDEAL_WHERE and claim[1] in IDEAL_WHERE),
    *((f"mpd-{host}, top {top:g}", f"{host}, top {top:g}") for host in ("trf", "vibid") for top in TOPS),
)


def _table_3(method: str) -> dict[str, Variant]:
    """List the paper's Table 3: γ, k and λ around the method's own, one at a time; then what the paper has not."""
    own = Variant(method).settings(None).distillation
    assert own is not None
    sweep: dict[str, tuple[Any, ...]] = {
        "gamma": (0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 1.0),
        "k": (1, 2, 3, 5),
        "lam": (0.25, 0.5, 0.75, 1.0),
        "anchor": ("pin", "closure"),
        "handover": (0.2, 0.4, 0.6, 0.8),
    }
    signs = {"gamma": "γ", "k": "k", "lam": "λ"}
    variants = {method: Variant(method)}
    for name, values in sweep.items():
        for value in values:
            if value != getattr(own, name):
                variants[f"{method}, {signs.get(name, name)} = {value}"] = Variant(method, {name: value})
    return variants


def _free() -> dict[str, Variant]:
    """List the host-free path: anchors, γ, k and λ, gains that the model itself supplies, strengths by end error."""
    base = "mpd (closure)"
    variants = {name: VARIANTS[name] for name in ("mpd (pin)", "mpd (rigid)", base)}
    for lam in (0.25, 0.5, 0.75):
        variants[f"{base}, λ = {lam}"] = Variant("mpd", {"lam": lam})
    for gamma, k in ((0.2, 3), (0.3, 2), (0.5, 1)):
        variants[f"{base}, γ = {gamma}, k = {k}"] = Variant("mpd", {"gamma": gamma, "k": k})
    variants["mpd (pin), 1.5 × steps"] = Variant("mpd", {"anchor": "pin"}, longer=1.5)
    for name in STEPS:
        variants[f"mpd ({name})"] = Variant("mpd", experiment=name)
    variants["mpd (closure), no x̂0_∅"] = Variant("mpd", {"anchor": "closure"}, unconditional=False)
    return variants


ABLATIONS: dict[str, dict[str, Variant]] = {
    "mpd-vibid": {
        "vibid": VARIANTS["vibid"],
        **_table_3("mpd-vibid"),
        "vibid, no x̂0_∅": Variant("vibid", unconditional=False),
        "mpd-vibid, no x̂0_∅": Variant("mpd-vibid", unconditional=False),
        "mpd-vibid, near 1": Variant("mpd-vibid", experiment="near 1"),
        "mpd-vibid, far 1": Variant("mpd-vibid", experiment="far 1"),
    },
    "mpd-trf": {"trf": VARIANTS["trf"], **_table_3("mpd-trf")},
    "mpd": _free(),
}
"""What `ablate` compares, each with its sweep's own method. `handover` 1 would be the host-free path, in `mpd`."""
KNOWN: dict[str, Variant] = (
    VARIANTS | CONTROLS | BUCKETS | WHERE | {name: one for sweep in ABLATIONS.values() for name, one in sweep.items()}
)
IDEAL_KNOWN: dict[str, Variant] = KNOWN | IDEAL_WHERE
"""In the ideal world, where clips are decided at other noise levels, so that a window is another."""
