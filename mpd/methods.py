"""The methods: names, parameters, defaults and limits.

Imports nothing but the standard library, so that the API can describe and check a request without torch.
Knows nothing of tensors, images or HTTP.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from mpd.options import Limit as Limit
from mpd.options import Option, Trait, option, options_of
from mpd.options import SettingsError as SettingsError

FixedAnchor = Literal["pin", "rigid", "closure"]
"""How the end error is spread whatever the model says."""
Anchor = Literal["pin", "rigid", "closure", "field"]
Fit = Literal["cover", "contain", "stretch"]
Motion = Literal["auto", "dis", "rife"]
Segments = Literal["joint", "alone", "chained"]
GammaIn = Literal["steps", "noise"]
MotionBucket = Literal["auto"]
ANCHORS: tuple[str, ...] = get_args(Anchor)
FITS: tuple[str, ...] = get_args(Fit)
MOTIONS: tuple[str, ...] = get_args(Motion)
SEGMENTS: tuple[str, ...] = get_args(Segments)
STEPS = 25
"""Steps where neither the settings nor the model's card say how many."""
MOTION_BUCKET = 127
"""Asked of a model where neither the settings say it nor the model is calibrated: SVD's own default."""


@dataclass(frozen=True)
class Distillation:
    """How strongly the start frame's motion is distilled into the path that must reach the end frame."""

    #: Share of the steps (from the first) that begin with `k` MPD rounds (Algorithm 1).
    gamma: float
    #: MPD rounds at each such step, re-noised to the same sigma after each.
    k: int
    #: Weight λ of the distilled estimate in Eq. 18.
    lam: float
    #: How the end error is spread over the frames: `rigid` is the paper's Eq. 13-17, `pin` moves the last frame alone,
    #: `closure` grows linearly from the start frame to the end frame, `field` asks the model, at half a call a step.
    anchor: Anchor
    #: Share of the steps in which an MPD step *is* the host's step.
    handover: float = 0.0
    #: Whether γ is a share of the steps, or says at which noise level early steps end, by the size of the latents.
    gamma_in: GammaIn = "steps"


@dataclass(frozen=True)
class Method:
    """One way from two keyframes to a video."""

    name: str
    title: str
    description: str
    #: The sampler that takes the ordinary step (`svd`, `trf`, `vibid`, `mpd`), or None for methods that interpolate.
    host: str | None
    #: Denoiser calls of one host step; one call is a conditional and an unconditional estimate.
    calls_per_step: int
    distillation: Distillation | None = None
    #: The default per-frame classifier-free guidance ramp (first frame, last frame), None where the method has no
    #: guidance scale (CFG++ with scale 1).
    guidance: tuple[float, float] | None = None
    min_keyframes: int = 2
    #: Whether the end keyframe has a part in the frames.
    uses_end: bool = True
    #: Whether latents are sampled backwards in time too, for which the model's must be reversible.
    reverses_time: bool = False
    #: The learned interpolator that makes the frames, None for those that no network makes and those that are sampled.
    interpolator: str | None = None
    #: The default source of motion, None where there is but one.
    motion: Motion | None = None
    #: How the segments between several keyframes are sampled by default.
    segments: Segments = "alone"

    @property
    def host_free(self) -> bool:
        """Tell whether every step is an MPD step, so that there is no host to hand over from."""
        return self.host == "mpd"

    @property
    def needs_model(self) -> bool:
        """Tell whether a base model makes the frames."""
        return self.host is not None

    @property
    def needs_engine(self) -> bool:
        """Tell whether a network makes the frames: a base model or a learned interpolator."""
        return self.needs_model or self.interpolator is not None

    def has(self, trait: Trait | None) -> bool:
        """Tell whether an option of this trait means anything to the method."""
        if trait == "guidance":
            return self.guidance is not None
        if trait == "motion":
            return self.motion is not None
        if trait == "model":
            return self.needs_model
        if trait == "host":
            return self.distillation is not None and not self.host_free
        return trait is None or self.distillation is not None

    @property
    def defaults(self) -> dict[str, Any]:
        """The method's own values of the options that only some methods have; None for those that it has not."""
        own = {**vars(self), **(vars(self.distillation) if self.distillation is not None else {})}
        return {
            name: own[name] if self.has(one.trait) else None for name, one in OPTIONS.items() if one.trait is not None
        }


_METHODS = (
    Method(
        "flow",
        "Optical flow",
        "Classical bidirectional optical flow (DIS). No model: a preview in a second or two.",
        host=None,
        calls_per_step=0,
    ),
    Method(
        "rife",
        "RIFE",
        "A learned interpolator, with classical flow beside it. No base model: on any machine with its weights.",
        host=None,
        calls_per_step=0,
        interpolator="rife",
        motion="auto",
    ),
    Method(
        "film",
        "FILM",
        "A learned interpolator of your own, f(x0, x1, t) as TorchScript, such as FILM's published export.",
        host=None,
        calls_per_step=0,
        interpolator="film",
    ),
    Method(
        "svd",
        "Stable Video Diffusion",
        "The base model from the start keyframe alone; the end keyframe is not used.",
        host="svd",
        calls_per_step=1,
        guidance=(1.0, 3.0),
        min_keyframes=1,
        uses_end=False,
    ),
    Method(
        "trf",
        "Time Reversal Fusion",
        "Forward and reversed estimates fused with a weight linear in the frame index.",
        host="trf",
        calls_per_step=2,
        reverses_time=True,
        guidance=(1.0, 3.0),
    ),
    Method(
        "vibid",
        "ViBiDSampler",
        "A forward and a reversed half-step one after the other, each pinned to the other keyframe.",
        host="vibid",
        calls_per_step=2,
        reverses_time=True,
    ),
    Method(
        "mpd-trf",
        "MPD + TRF",
        "Motion Prior Distillation in the early steps, Time Reversal Fusion after each (paper, Table 1).",
        host="trf",
        calls_per_step=2,
        reverses_time=True,
        distillation=Distillation(gamma=0.3, k=2, lam=0.5, anchor="rigid"),
        guidance=(1.0, 3.0),
    ),
    Method(
        "mpd-vibid",
        "MPD + ViBiDSampler",
        "Motion Prior Distillation in the early steps, ViBiDSampler after each (paper, Table 1).",
        host="vibid",
        calls_per_step=2,
        reverses_time=True,
        distillation=Distillation(gamma=0.2, k=3, lam=1.0, anchor="rigid"),
    ),
    Method(
        "mpd",
        "MPD, host-free",
        "One forward path with an MPD step at every noise level: half the cost of any two-path method.",
        host="mpd",
        calls_per_step=1,
        distillation=Distillation(gamma=0.0, k=0, lam=1.0, anchor="closure"),
        segments="joint",
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
DEFAULT_METHOD = "mpd-vibid"


FLOW_FRAMES = 25
"""Frames of a segment that is interpolated when the settings leave them open: as many as SVD-XT makes."""
KEYFRAMES = Limit(1, 32, "each pair of neighbours is sampled as one segment")
_TAKES = Limit(1, 8, "each take costs a whole sampling run")
_SHARE = Limit(0, 1, "none of the steps to all of them")
_SIDE = Limit(32, 2048, "SVD was trained at 1024x576")
_MODELS = "the model's own"
_METHODS_OWN = "the method's own"


@dataclass(frozen=True)
class Settings:
    """Everything but the keyframes that decides what a video looks like: the one definition of these options.

    `None`, where it is the default, means the method's or the model's own. Checked on construction: a value of another
    kind or outside its limit, an unknown name, or a parameter that the method does not have raises `SettingsError`.
    """

    method: str = option(
        DEFAULT_METHOD,
        "choice",
        "Method",
        "How the frames are made.",
        "basics",
        choices=tuple(METHODS),
        alias="MethodName",
        example="mpd-vibid",
    )
    seeds: tuple[int, ...] = option(
        (0,),
        "integers",
        "Seeds",
        "One take for each seed; the same seed gives the same video.",
        "basics",
        limit=Limit(0, 2**32 - 1, "seeds are unsigned 32-bit integers"),
        size=_TAKES,
        example=[1, 2],
    )
    frames: int | None = option(
        None,
        "integer",
        "Frames",
        "Frames of each segment, both its keyframes included.",
        "basics",
        limit=Limit(2, 241, "both keyframes are frames of the segment; beyond 241 one request should be several"),
        unset=f"{_MODELS} number; {FLOW_FRAMES} for methods without a model",
    )
    fps: int = option(
        7,
        "integer",
        "Frames / s",
        "Frames per second of the video; the model is told it too.",
        "basics",
        limit=Limit(1, 60, "the model is conditioned on it and was trained below 31"),
    )
    output_fps: int | None = option(
        None,
        "integer",
        "Delivered frames / s",
        "Frames per second of the finished video, by interpolating the frames; `fps` is then the model's alone.",
        "video",
        limit=Limit(1, 60, "players and editors know rates up to it"),
        unset="`fps`",
    )
    width: int | None = option(
        None,
        "integer",
        "Width",
        "Width of the sampled frames, with height.",
        "video",
        limit=_SIDE,
        unset=f"{_MODELS}, turned as the first keyframe is; for methods without a model that keyframe's",
    )
    height: int | None = option(
        None,
        "integer",
        "Height",
        "Height of the sampled frames, with width.",
        "video",
        limit=_SIDE,
        unset=f"{_MODELS}, turned as the first keyframe is; for methods without a model that keyframe's",
    )
    fit: Fit = option(  # noqa: RUF009 - a field
        "cover",
        "choice",
        "Fit",
        "How a keyframe of another shape is made to fit: crop, bars that are cut off again, or distortion.",
        "video",
        choices=FITS,
        alias="Fit",
    )
    background: str | None = option(
        None,
        "colour",
        "Background",
        "Colour under transparent pixels and of the bars, as #rrggbb.",
        "video",
        unset="black, white or grey, which differs most from what is visible; black where nothing is transparent",
    )
    loop: bool = option(
        False, "boolean", "Loop", "Return to the first keyframe at the end, so that the video repeats.", "video"
    )
    exact_keyframes: bool = option(
        False,
        "boolean",
        "Exact keyframes",
        "Show the keyframes' own pixels at their frames, where a model has made its own of them.",
        "video",
    )
    positions: tuple[int, ...] | None = option(
        None,
        "integers",
        "Positions",
        "The video's frame of each keyframe, from 0 and rising, instead of frames; with loop one more for the return.",
        "timeline",
        unset="neighbours are `frames` apart",
    )
    motion: Motion | None = option(  # noqa: RUF009 - a field
        None,
        "choice",
        "Motion from",
        "Where motion is taken from: the better of both at each pixel, classical flow (dis) or the network alone.",
        "interpolation",
        choices=MOTIONS,
        alias="Motion",
        unset=_METHODS_OWN,
        trait="motion",
    )
    segments: Segments | None = option(  # noqa: RUF009 - a field
        None,
        "choice",
        "Several keyframes",
        "How more than two keyframes are sampled: neighbours as one latent where they fit it, or each pair alone.",
        "sampling",
        choices=SEGMENTS,
        alias="Segments",
        unset=_METHODS_OWN,
        trait="model",
        more="`joint` moves through its keyframes: of `mpd` with the anchor `closure`, else it is `alone`, in which "
        "each pair has noise of its own; `chained` draws it on from pair to pair, as releases before 0.2 did.",
    )
    steps: int | None = option(
        None,
        "integer",
        "Steps",
        "Sampling steps. More take longer; past 25 little changes.",
        "sampling",
        limit=Limit(1, 100, "25 is the methods' default; past 100 nothing visible changes"),
        unset=f"the model's own schedule; {STEPS} where its card names none",
        example=25,
    )
    motion_bucket_id: int | MotionBucket | None = option(  # noqa: RUF009 - a field
        None,
        "integer",
        "Motion",
        "How much motion the model is asked for; auto is what the keyframes' distance takes.",
        "sampling",
        limit=Limit(0, 255, "the range of the training data's motion scores"),
        choices=get_args(MotionBucket),
        alias="MotionBucket",
        unset=f"auto for a model with a calibration, {MOTION_BUCKET} for others",
        example=127,
    )
    noise_aug_strength: float = option(
        0.02,
        "number",
        "Noise on the keyframe",
        "Noise on the keyframe as the model sees it: more leaves it more freedom.",
        "sampling",
        limit=Limit(0, 1, "noise is added to a keyframe in [-1, 1]"),
    )
    guidance: tuple[float, float] | None = option(
        None,
        "numbers",
        "Guidance",
        "Guidance scale at the first and at the last frame.",
        "sampling",
        limit=Limit(0, 20, "larger scales burn the colours"),
        size=Limit(2, 2, "one at the first and one at the last frame"),
        unset=_METHODS_OWN,
        trait="guidance",
        example=[1.0, 3.0],
    )
    gamma: float | None = option(
        None,
        "number",
        "γ  early share",
        "How much of the beginning is distilled: a share of the steps.",
        "distillation",
        limit=_SHARE,
        unset=_METHODS_OWN,
        trait="distillation",
    )
    gamma_in: GammaIn | None = option(  # noqa: RUF009 - a field
        None,
        "choice",
        "γ counts",
        "Whether γ is a share of the steps, as in the paper, or of the noise that latents of this size can tell.",
        "distillation",
        choices=get_args(GammaIn),
        alias="GammaIn",
        unset=_METHODS_OWN,
        trait="distillation",
        more="By `noise`, small sizes and few frames have rounds at the lower noise levels at which they are decided; "
        "at 1024x576 and 25 frames both are the same.",
    )
    k: int | None = option(
        None,
        "integer",
        "k  rounds",
        "Rounds of distillation at each of the early steps.",
        "distillation",
        limit=Limit(0, 10, "each round costs one denoiser call per early step"),
        unset=_METHODS_OWN,
        trait="distillation",
    )
    lam: float | None = option(
        None,
        "number",
        "λ  strength",
        "How strongly the start frame's motion is carried into the path to the end: 0 not at all, 1 fully.",
        "distillation",
        limit=Limit(0, 1, "a weight between two estimates"),
        unset=_METHODS_OWN,
        trait="distillation",
    )
    anchor: Anchor | None = option(  # noqa: RUF009 - a field
        None,
        "choice",
        "Anchor",
        "How the end keyframe's error is spread over the frames.",
        "distillation",
        choices=ANCHORS,
        alias="Anchor",
        unset=_METHODS_OWN,
        trait="distillation",
        more="`rigid` as in the paper, `pin` at the last frame alone, `closure` growing from the start to the end, "
        "`field` as the model lets each place follow the last frame, for half a call more a step.",
    )
    handover: float | None = option(
        None,
        "number",
        "Handover",
        "Share of the steps, from the first, in which the MPD step replaces the host's step.",
        "distillation",
        limit=_SHARE,
        unset=_METHODS_OWN,
        trait="host",
    )

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """Read settings from decoded JSON, where tuples came as lists. An unknown name raises `SettingsError`."""
        for name in values:
            if name not in OPTIONS:
                raise SettingsError(name, "is not a setting", f"Known settings: {', '.join(sorted(OPTIONS))}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    @property
    def distillation(self) -> Distillation | None:
        """The method's distillation with this job's own values in it; None for a method that has none."""
        base = METHODS[self.method].distillation
        if base is None:
            return None
        return replace(base, **{name: value for name in vars(base) if (value := getattr(self, name)) is not None})

    @property
    def joins(self) -> bool:
        """Tell whether neighbouring segments are sampled as one latent where they fit the model.

        That is for a path of MPD steps alone, whose errors at several keyframes spread as `closure` spreads one.
        """
        method, distillation = METHODS[self.method], self.distillation
        asked = (self.segments or method.segments) == "joint"
        return asked and method.host_free and distillation is not None and distillation.anchor == "closure"

    def spelled_out(self, steps: int | None = None) -> dict[str, Any]:
        """Give each option by its name, with the method's own value where that is what counts.

        steps: the model's own.
        """
        own = METHODS[self.method].defaults
        values = {name: own.get(name) if value is None else value for name, value in asdict(self).items()}
        if values["segments"] == "joint" and not self.joins:
            values["segments"] = "alone"
        return {**values, "steps": self.steps or steps}

    @property
    def rate(self) -> int:
        """Give the frames per second of the finished video."""
        return self.output_fps or self.fps

    @property
    def retimed(self) -> bool:
        """Tell whether the finished video has another rate than its frames were made for."""
        return self.rate != self.fps

    @property
    def guidance_ramp(self) -> tuple[float, float] | None:
        return self.guidance or METHODS[self.method].guidance


OPTIONS: dict[str, Option] = options_of(Settings)
LIMITS: dict[str, Limit] = {
    **{name: one.limit for name, one in OPTIONS.items() if one.limit is not None},
    "takes": _TAKES,
    "keyframes": KEYFRAMES,
}
"""The limits of the options' numbers, of the seeds that may be sent (`takes`), and of the keyframes."""


def _check(settings: Settings) -> None:
    for one in OPTIONS.values():
        # Methods may have been registered since.
        known = replace(one, choices=tuple(METHODS)) if one.name == "method" else one
        known.check(getattr(settings, one.name))
    if (settings.width is None) != (settings.height is None):
        missing = "height" if settings.height is None else "width"
        raise SettingsError(missing, "width and height come together", f"Send {missing} too, or neither")
    if len(set(settings.seeds)) != len(settings.seeds):
        raise SettingsError("seeds", "the same seed twice gives the same take twice", "Send each seed once")
    _check_positions(settings)
    _check_method_has(settings)


def _check_positions(settings: Settings) -> None:
    positions = settings.positions
    if positions is None:
        return
    if settings.frames is not None:
        raise SettingsError("positions", "frames and positions both set the length", "Send one of the two")
    if len(positions) < 2 or positions[0] != 0:
        raise SettingsError("positions", f"{positions!r} is not a timeline", "Start at 0, one whole number a keyframe")
    longest = LIMITS["frames"].high
    for before, after in itertools.pairwise(positions):
        # Counted, and rounded, at the rate at which they are made.
        most = math.ceil(Fraction((2 * int(longest) - 1) * settings.rate, 2 * settings.fps)) - 1
        if not 1 <= after - before <= most:
            raise SettingsError(
                "positions",
                f"{before} to {after} is no segment",
                f"Let each keyframe come 1 to {most} frames after the one before",
            )


def _check_method_has(settings: Settings) -> None:
    method = METHODS[settings.method]
    for name, one in OPTIONS.items():
        if getattr(settings, name) is not None and not method.has(one.trait):
            with_it = ", ".join(other.name for other in METHODS.values() if other.has(one.trait))
            raise SettingsError(name, f"{method.name} has no such parameter", f"Remove it, or choose one of {with_it}")
