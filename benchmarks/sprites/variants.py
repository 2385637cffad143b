"""What is compared with what: the methods with their own settings, controls, and changes of one setting at a time.

Knows nothing of the worlds that they are compared in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.sprites.experiments import STEPS
from mpd.lengths import denoiser_calls, early_steps
from mpd.methods import Settings

SKIPPED = 0.6
"""Share of the steps that `flow, re-noised` leaves out: it begins from optical flow and the next one's noise, σ ≈ 4."""


@dataclass(frozen=True)
class Variant:
    """One way of sampling."""

    #: Of `mpd.methods.Settings`, as `changes`; `truth` and `flow` sample nothing.
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

    def settings(self, **told: Any) -> Settings:
        if "steps" in told:
            told["steps"] = round(self.longer * told["steps"])
        return Settings(method=self.method, **(self.changes | told))

    def calls(self, steps: int) -> float:
        """Count the denoiser calls of one clip.

        One is a conditional and an unconditional estimate, a lone conditional half.
        """
        if self.method == "truth":
            return 0
        calls: float = denoiser_calls(self.settings(steps=steps))
        if self.begins == "flow":
            calls -= early_steps(SKIPPED, steps)
        if self.experiment is not None and self.experiment.startswith("gain"):
            calls += steps / 2
        return self.tries * calls * (1 if self.unconditional else 0.5)


VARIANTS: dict[str, Variant] = {
    "truth": Variant("truth"),
    "flow": Variant("flow"),
    "svd": Variant("svd"),
    "trf": Variant("trf"),
    "mpd-trf": Variant("mpd-trf"),
    "vibid": Variant("vibid"),
    "mpd-vibid": Variant("mpd-vibid"),
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
CLAIMS = (
    ("mpd-trf", "trf"),
    ("mpd-vibid", "vibid"),
    ("mpd (rigid)", "mpd (pin)"),
    ("mpd (closure)", "mpd (pin)"),
    ("mpd (closure)", "mpd (rigid)"),
    ("mpd (field)", "mpd (closure)"),
    ("mpd (field)", "mpd (closure), 1.5 × steps"),
    ("mpd (closure)", "mpd-vibid"),
    ("mpd (closure)", "flow"),
)
"""Pairs (method, what it is compared with), the paper's claims first."""


def _table_3(method: str) -> dict[str, Variant]:
    """List the paper's Table 3: γ, k and λ around the method's own, one at a time; then what the paper has not."""
    own = Variant(method).settings().distillation
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
    VARIANTS | CONTROLS | {name: one for sweep in ABLATIONS.values() for name, one in sweep.items()}
)
