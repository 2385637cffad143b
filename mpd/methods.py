"""The methods: names, parameters, defaults and limits.

Imports nothing but the standard library, so that the API can describe and check a request without torch.
Knows nothing of tensors, images or HTTP.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal, get_args

Anchor = Literal["pin", "rigid", "closure"]
Fit = Literal["cover", "contain", "stretch"]
ANCHORS: tuple[str, ...] = get_args(Anchor)
FITS: tuple[str, ...] = get_args(Fit)


class SettingsError(ValueError):
    """A setting cannot be used as given.

    `field` names the setting, `problem` says what is wrong with it, `remedy` what to send instead.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}. {remedy}.")
        self.field = field
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Distillation:
    """How strongly the start frame's motion is distilled into the path that must reach the end frame.

    gamma: share of the steps (from the first) that begin with `k` MPD rounds (Algorithm 1).
    k: MPD rounds at each such step, re-noised to the same sigma after each.
    lam: weight λ of the distilled estimate in Eq. 18.
    anchor: how the end error is spread over the frames: `rigid` is the paper's Eq. 13-17, `pin` moves the
        last frame alone, `closure` grows linearly from the start frame to the end frame.
    handover: share of the steps in which an MPD step *is* the host's step.
    """

    gamma: float
    k: int
    lam: float
    anchor: Anchor
    handover: float = 0.0


@dataclass(frozen=True)
class Method:
    """One way from two keyframes to a video.

    host: the sampler that takes the ordinary step (`svd`, `trf`, `vibid`, `mpd`), or None for `flow`.
    calls_per_step: denoiser calls of one host step; one call is a conditional and an unconditional estimate.
    guidance: the default per-frame classifier-free guidance ramp (first frame, last frame), None where
        the method has no guidance scale (CFG++ with scale 1).
    uses_end: whether the end keyframe has a part in the frames.
    reverses_time: whether latents are sampled backwards in time too, for which the model's must be reversible.
    """

    name: str
    title: str
    description: str
    host: str | None
    calls_per_step: int
    distillation: Distillation | None = None
    guidance: tuple[float, float] | None = None
    min_keyframes: int = 2
    uses_end: bool = True
    reverses_time: bool = False

    @property
    def host_free(self) -> bool:
        """Tell whether every step is an MPD step, so that there is no host to hand over from."""
        return self.host == "mpd"

    @property
    def needs_model(self) -> bool:
        return self.host is not None


_METHODS = (
    Method(
        "flow",
        "Optical flow",
        "Classical bidirectional optical flow (DIS). No model: a preview in a second or two.",
        host=None,
        calls_per_step=0,
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
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
DEFAULT_METHOD = "mpd-vibid"

FLOW_FRAMES = 25
"""Frames of a segment of `flow` when the settings leave them open: as many as SVD-XT makes."""
FLOW_LONGEST_SIDE = 1280
"""Longest side of a `flow` video when the settings leave its size open."""
FLOW_SIZE_MULTIPLE = 2
"""Video codecs halve both sides for colour."""


@dataclass(frozen=True)
class Limit:
    """An inclusive range with the reason for its ends."""

    low: float
    high: float
    why: str


LIMITS: dict[str, Limit] = {
    "frames": Limit(2, 241, "both keyframes are frames of the segment; beyond 241 one request should be several"),
    "steps": Limit(1, 100, "25 is the methods' default; past 100 nothing visible changes"),
    "seeds": Limit(0, 2**32 - 1, "seeds are unsigned 32-bit integers"),
    "takes": Limit(1, 8, "each take costs a whole sampling run"),
    "width": Limit(32, 2048, "SVD was trained at 1024x576"),
    "height": Limit(32, 2048, "SVD was trained at 1024x576"),
    "fps": Limit(1, 60, "the model is conditioned on it and was trained below 31"),
    "motion_bucket_id": Limit(0, 255, "the range of the training data's motion scores"),
    "noise_aug_strength": Limit(0, 1, "noise is added to a keyframe in [-1, 1]"),
    "gamma": Limit(0, 1, "a share of the steps"),
    "k": Limit(0, 10, "each round costs one denoiser call per early step"),
    "lam": Limit(0, 1, "a weight between two estimates"),
    "handover": Limit(0, 1, "a share of the steps"),
    "guidance": Limit(0, 20, "larger scales burn the colours"),
    "keyframes": Limit(1, 32, "each pair of neighbours is sampled as one segment"),
}


@dataclass(frozen=True)
class Settings:
    """Everything but the keyframes that decides what a video looks like.

    `None`, where it is the default, means the method's or the model's own. Checked on construction: a value of another
    kind or outside `LIMITS`, an unknown name, or a parameter that the method does not have raises `SettingsError`.

    frames: frames per segment, both keyframes included. `positions`, when given, says instead at which frame
        of the timeline each keyframe stands (first 0, strictly increasing); with `loop` one more position
        says where the first keyframe comes round again.
    seeds: one take per seed.
    background: `#rrggbb`, under transparent pixels and around a `contain` fit.
    exact_keyframes: the keyframes' frames are the keyframes' own pixels, and not what the method makes of them.
    guidance: (first frame, last frame) of the guidance ramp, for methods that have one.
    """

    method: str = DEFAULT_METHOD
    frames: int | None = None
    positions: tuple[int, ...] | None = None
    steps: int = 25
    seeds: tuple[int, ...] = (0,)
    width: int | None = None
    height: int | None = None
    fit: Fit = "cover"
    background: str = "#000000"
    loop: bool = False
    exact_keyframes: bool = False
    fps: int = 7
    motion_bucket_id: int = 127
    noise_aug_strength: float = 0.02
    gamma: float | None = None
    k: int | None = None
    lam: float | None = None
    anchor: Anchor | None = None
    handover: float | None = None
    guidance: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """From decoded JSON, where tuples came as lists. An unknown name raises `SettingsError`."""
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise SettingsError(name, "is not a setting", f"Known settings: {', '.join(sorted(known))}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    @property
    def distillation(self) -> Distillation | None:
        """The method's distillation with this job's own values in it; None for a method that has none."""
        base = METHODS[self.method].distillation
        if base is None:
            return None
        own = {
            name: getattr(self, name)
            for name in ("gamma", "k", "lam", "anchor", "handover")
            if getattr(self, name) is not None
        }
        return replace(base, **own)

    @property
    def guidance_ramp(self) -> tuple[float, float] | None:
        return self.guidance or METHODS[self.method].guidance


def early_steps(share: float, steps: int) -> int:
    """How many i in 0 … steps-1 satisfy i < share·steps, in exact decimal arithmetic (0.28 · 25 is 7)."""
    return min(steps, math.ceil(Fraction(str(share)) * steps))


def shown_keyframes(settings: Settings, segments: Sequence[int]) -> tuple[int, ...]:
    """The frame of the finished video that shows each keyframe, for segments of so many frames, both ends included.

    A method that does not use the keyframe at a segment's end shows the video's last keyframe nowhere.
    """
    frames = list(itertools.accumulate((length - 1 for length in segments), initial=0))
    last_is_shown = not settings.loop and METHODS[settings.method].uses_end
    return tuple(frames if last_is_shown else frames[:-1])


def denoiser_calls(settings: Settings, segments: int = 1) -> int:
    """Denoiser calls of one take. A call is a conditional and an unconditional estimate."""
    method = METHODS[settings.method]
    calls = method.calls_per_step * settings.steps
    distillation = settings.distillation
    if distillation is not None and not method.host_free:
        calls += distillation.k * early_steps(distillation.gamma, settings.steps)
        calls -= (method.calls_per_step - 1) * early_steps(distillation.handover, settings.steps)
    elif distillation is not None:
        calls += distillation.k * early_steps(distillation.gamma, settings.steps)
    return calls * segments


def segment_frames(settings: Settings, keyframes: int, native_frames: int) -> tuple[int, ...]:
    """Frames of each segment, both ends included, for `keyframes` keyframes.

    `native_frames` stands in for an unset `frames`. Raises `SettingsError` when the keyframes do not fit the
    method, the loop or the positions.
    """
    method = METHODS[settings.method]
    limit = LIMITS["keyframes"]
    if keyframes < method.min_keyframes:
        raise SettingsError(
            "keyframes",
            f"{settings.method} needs at least {method.min_keyframes}, got {keyframes}",
            "Send the start and the end image",
        )
    if keyframes > limit.high:
        raise SettingsError("keyframes", f"{keyframes} are too many", f"Send at most {limit.high:g}: {limit.why}")
    if settings.loop and keyframes < 2:
        raise SettingsError("loop", "needs at least two keyframes", "Send a second keyframe or turn loop off")
    segments = keyframes if settings.loop else max(1, keyframes - 1)
    if settings.positions is None:
        return (settings.frames or native_frames,) * segments
    if len(settings.positions) != segments + 1:
        raise SettingsError(
            "positions",
            f"{len(settings.positions)} positions for {segments + 1} ends of segments",
            "Give one frame number per keyframe (and with loop, one more for the return to the first)",
        )
    return tuple(b - a + 1 for a, b in itertools.pairwise(settings.positions))


def flow_size(image_size: tuple[int, int], width: int | None, height: int | None) -> tuple[int, int]:
    """Size (width, height) of a `flow` video: as asked, else the picture's own with even sides of at most 1280."""
    if width is not None and height is not None:
        return width, height
    longest = FLOW_LONGEST_SIDE
    scale = min(1.0, longest / max(image_size))
    # An odd side loses a line rather than gain one, which would resample the picture.
    across, down = (min(longest, max(32, 2 * round((side * scale - 0.5) / 2))) for side in image_size)
    return across, down


def total_frames(segments: Sequence[int], loop: bool) -> int:
    """Frames of the finished video: shared boundary frames once, and in a loop the return to the start dropped."""
    return sum(frames - 1 for frames in segments) + (0 if loop else 1)


def _check(settings: Settings) -> None:
    _check_kinds(settings)
    if settings.method not in METHODS:
        raise SettingsError("method", f"unknown method {settings.method!r}", f"Choose one of {', '.join(METHODS)}")
    for name in ("fit", "anchor"):
        value, allowed = getattr(settings, name), FITS if name == "fit" else ANCHORS
        if value is not None and value not in allowed:
            raise SettingsError(name, f"unknown value {value!r}", f"Choose one of {', '.join(allowed)}")
    for name in ("frames", "steps", "width", "height", "fps", "motion_bucket_id", "k"):
        _check_number(name, getattr(settings, name), int)
    for name in ("noise_aug_strength", "gamma", "lam", "handover"):
        _check_number(name, getattr(settings, name), float)
    if (settings.width is None) != (settings.height is None):
        missing = "height" if settings.height is None else "width"
        raise SettingsError(missing, "width and height come together", f"Send {missing} too, or neither")
    takes = LIMITS["takes"]
    if not takes.low <= len(settings.seeds) <= takes.high:
        raise SettingsError("seeds", f"{len(settings.seeds)} takes", f"Send 1 to {takes.high:g} seeds: {takes.why}")
    _check_each("seeds", settings.seeds, int)
    if len(set(settings.seeds)) != len(settings.seeds):
        raise SettingsError("seeds", "the same seed twice gives the same take twice", "Send each seed once")
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", settings.background):
        raise SettingsError("background", f"{settings.background!r} is not a colour", "Write it as #rrggbb")
    _check_positions(settings)
    _check_method_has(settings)


def _check_kinds(settings: Settings) -> None:
    kinds: dict[str, tuple[str, type | tuple[type, ...]]] = {
        **dict.fromkeys(("positions", "seeds", "guidance"), ("a list of numbers", (tuple, list))),
        **dict.fromkeys(("method", "fit", "background", "anchor"), ("a text", str)),
        **dict.fromkeys(("loop", "exact_keyframes"), ("true or false", bool)),
    }
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is None and field.default is not None:
            raise SettingsError(field.name, "has no value", "Leave it out for its default")
        noun, kind = kinds.get(field.name, ("", object))
        if value is not None and not isinstance(value, kind):
            raise SettingsError(field.name, f"{value!r} is not {noun}", f"Send {noun}")


def _check_number(name: str, value: object, kind: type) -> None:
    if value is None:
        return
    allowed = (int, float) if kind is float else (int,)
    limit = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, allowed) or not limit.low <= value <= limit.high:
        noun = "a whole number" if kind is int else "a number"
        raise SettingsError(
            name, f"{value!r} is out of range", f"Send {noun} from {limit.low} to {limit.high}: {limit.why}"
        )


def _check_each(name: str, values: Sequence[object], kind: type) -> None:
    for value in values:
        if value is None:
            raise SettingsError(name, "one of them has no value", "Send a number for each")
        _check_number(name, value, kind)


def _check_positions(settings: Settings) -> None:
    positions = settings.positions
    if positions is None:
        return
    if settings.frames is not None:
        raise SettingsError("positions", "frames and positions both set the length", "Send one of the two")
    whole = all(isinstance(position, int) and not isinstance(position, bool) for position in positions)
    if len(positions) < 2 or not whole or positions[0] != 0:
        raise SettingsError("positions", f"{positions!r} is not a timeline", "Start at 0, one whole number a keyframe")
    longest = LIMITS["frames"].high
    for before, after in itertools.pairwise(positions):
        if not 1 <= after - before < longest:
            raise SettingsError(
                "positions",
                f"{before} to {after} is no segment",
                f"Let each keyframe come 1 to {longest - 1:g} frames after the one before",
            )


def _check_method_has(settings: Settings) -> None:
    method = METHODS[settings.method]
    own = [name for name in ("gamma", "k", "lam", "anchor", "handover") if getattr(settings, name) is not None]
    if own and method.distillation is None:
        with_it = ", ".join(other.name for other in METHODS.values() if other.distillation)
        raise SettingsError(own[0], f"{method.name} has no such parameter", f"Remove it, or choose one of {with_it}")
    if settings.handover is not None and method.host_free:
        raise SettingsError("handover", "the host-free mpd has no host to hand over to", "Remove it")
    if settings.guidance is None:
        return
    if method.guidance is None:
        with_it = ", ".join(other.name for other in METHODS.values() if other.guidance)
        raise SettingsError("guidance", f"{method.name} has no guidance scale", f"Remove it, or use one of {with_it}")
    if len(settings.guidance) != 2:
        raise SettingsError("guidance", "is a ramp of two numbers", "Send [first frame, last frame]")
    _check_each("guidance", settings.guidance, float)
