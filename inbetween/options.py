"""The options of a request as a type checker and the command line see them. Made by `make generated`.

The server decides what they may hold, and refuses the rest.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Required, TypedDict

MethodName = Literal["flow", "rife", "film", "svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"]
Fit = Literal["cover", "contain", "stretch"]
Motion = Literal["auto", "dis", "rife"]
Segments = Literal["joint", "alone", "chained"]
MotionBucket = Literal["auto"]
GammaIn = Literal["steps", "noise"]
Anchor = Literal["pin", "rigid", "closure", "field"]
Format = Literal["mp4", "webm", "gif", "apng", "webp", "png", "png16", "prores", "prores4444"]
Priority = Literal["high", "default", "low"]
EventType = Literal["inbetween.succeeded", "inbetween.failed", "inbetween.canceled"]
SUFFIXES: dict[str, Format] = {
    ".mp4": "mp4",
    ".webm": "webm",
    ".gif": "gif",
    ".apng": "apng",
    ".webp": "webp",
    ".zip": "png",
    ".mov": "prores",
}
"""The format that a file's name asks for."""


class Webhook(TypedDict, total=False):
    """Where a signed event goes when the job is over, and which events: all unless named."""

    url: Required[str]
    events: list[EventType]


class Options(TypedDict, total=False):
    """Everything about a video but its keyframes. What is left out, or None, has the server's default.

    `GET /methods`, here `Client.methods()`, describes the methods and the bounds of every number.
    """

    method: MethodName | None
    """How the frames are made."""
    seeds: list[int] | None
    """One take for each seed; the same seed gives the same video."""
    frames: int | None
    """Frames of each segment, both its keyframes included."""
    fps: int | None
    """Frames per second of the video; the model is told it too."""
    seed: int | None
    """Shorthand for seeds with one seed; the same seed gives the same video."""
    output_fps: int | None
    """Frames per second of the finished video, by interpolating the frames; `fps` is then the model's alone."""
    width: int | None
    """Width of the sampled frames, with height."""
    height: int | None
    """Height of the sampled frames, with width."""
    fit: Fit | None
    """How a keyframe of another shape is made to fit: crop, bars that are cut off again, or distortion."""
    background: str | None
    """Colour under transparent pixels and of the bars, as #rrggbb."""
    loop: bool | None
    """Return to the first keyframe at the end, so that the video repeats."""
    exact_keyframes: bool | None
    """Show the keyframes' own pixels at their frames, where a model has made its own of them."""
    motion: Motion | None
    """Where motion is taken from: the better of both at each pixel, classical flow (dis) or the network alone."""
    segments: Segments | None
    """How more than two keyframes are sampled: neighbours as one latent where they fit it, or each pair alone."""
    steps: int | None
    """Sampling steps. More take longer; past 25 little changes."""
    motion_bucket_id: int | MotionBucket | None
    """How much motion the model is asked for; auto is what the keyframes' distance takes."""
    noise_aug_strength: float | None
    """Noise on the keyframe as the model sees it: more leaves it more freedom."""
    guidance: list[float] | None
    """Guidance scale at the first and at the last frame."""
    gamma: float | None
    """How much of the beginning is distilled: a share of the steps."""
    gamma_in: GammaIn | None
    """Whether γ is a share of the steps, as in the paper, or of the noise that latents of this size can tell."""
    k: int | None
    """Rounds of distillation at each of the early steps."""
    lam: float | None
    """How strongly the start frame's motion is carried into the path to the end: 0 not at all, 1 fully."""
    anchor: Anchor | None
    """How the end keyframe's error is spread over the frames."""
    handover: float | None
    """Share of the steps, from the first, in which the MPD step replaces the host's step."""
    loop_frame: int | None
    """With loop and keyframes at given frames: the frame at which the first keyframe comes again."""
    formats: list[Format] | None
    """What to deliver, several at once."""
    priority: Priority | None
    """Which line the job waits in."""
    result_ttl: int | None
    """Seconds that the finished job and its files are kept."""
    webhook: Webhook | None
    """Where a signed event goes when the job is over, and which events."""
    reference: str | None
    """Your own name for the job; comes back unchanged."""


class Flag(NamedTuple):
    """One option as a command line may say it."""

    name: str
    kind: str
    help: str
    choices: tuple[str, ...] = ()


FLAGS = (
    Flag(
        "method",
        "choice",
        "How the frames are made. (flow · rife · film · svd · trf · vibid · mpd-trf · mpd-vibid · mpd; default: the "
        "server's, which suits the models at work)",
        ("flow", "rife", "film", "svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"),
    ),
    Flag(
        "seeds",
        "integers",
        "One take for each seed; the same seed gives the same video. (1 to 8 whole numbers from 0 to 4294967295; "
        "default: seed alone)",
    ),
    Flag(
        "frames",
        "integer",
        "Frames of each segment, both its keyframes included. (whole number from 2 to 241; default: the model's own "
        "number; 25 for methods without a model)",
    ),
    Flag(
        "fps",
        "integer",
        "Frames per second of the video; the model is told it too. (whole number from 1 to 60; default: 7)",
    ),
    Flag(
        "seed",
        "integer",
        "Shorthand for seeds with one seed; the same seed gives the same video. (whole number from 0 to 4294967295; "
        "default: 0)",
    ),
    Flag(
        "output_fps",
        "integer",
        "Frames per second of the finished video, by interpolating the frames; `fps` is then the model's alone. "
        "(whole number from 1 to 60; default: fps)",
    ),
    Flag(
        "width",
        "integer",
        "Width of the sampled frames, with height. (whole number from 32 to 2048; default: the model's own, turned as "
        "the first keyframe is; for methods without a model that keyframe's)",
    ),
    Flag(
        "height",
        "integer",
        "Height of the sampled frames, with width. (whole number from 32 to 2048; default: the model's own, turned as "
        "the first keyframe is; for methods without a model that keyframe's)",
    ),
    Flag(
        "fit",
        "choice",
        "How a keyframe of another shape is made to fit: crop, bars that are cut off again, or distortion. (default: "
        "cover)",
        ("cover", "contain", "stretch"),
    ),
    Flag(
        "background",
        "colour",
        "Colour under transparent pixels and of the bars, as #rrggbb. (default: black, white or grey, which differs "
        "most from what is visible; black where nothing is transparent)",
    ),
    Flag("loop", "boolean", "Return to the first keyframe at the end, so that the video repeats."),
    Flag(
        "exact_keyframes",
        "boolean",
        "Show the keyframes' own pixels at their frames, where a model has made its own of them.",
    ),
    Flag(
        "motion",
        "choice",
        "Where motion is taken from: the better of both at each pixel, classical flow (dis) or the network alone. "
        "(default: the method's own)",
        ("auto", "dis", "rife"),
    ),
    Flag(
        "segments",
        "choice",
        "How more than two keyframes are sampled: neighbours as one latent where they fit it, or each pair alone. "
        "(default: the method's own)",
        ("joint", "alone", "chained"),
    ),
    Flag(
        "steps",
        "integer",
        "Sampling steps. More take longer; past 25 little changes. (whole number from 1 to 100; default: the model's "
        "own schedule; 25 where its card names none)",
    ),
    Flag(
        "motion_bucket_id",
        "integer",
        "How much motion the model is asked for; auto is what the keyframes' distance takes. (whole number from 0 to "
        "255 · auto; default: auto for a model with a calibration, 127 for others)",
        ("auto",),
    ),
    Flag(
        "noise_aug_strength",
        "number",
        "Noise on the keyframe as the model sees it: more leaves it more freedom. (number from 0 to 1; default: 0.02)",
    ),
    Flag(
        "guidance",
        "numbers",
        "Guidance scale at the first and at the last frame. (2 numbers from 0 to 20; default: the method's own)",
    ),
    Flag(
        "gamma",
        "number",
        "How much of the beginning is distilled: a share of the steps. (number from 0 to 1; default: the method's own)",
    ),
    Flag(
        "gamma_in",
        "choice",
        "Whether γ is a share of the steps, as in the paper, or of the noise that latents of this size can tell. "
        "(default: the method's own)",
        ("steps", "noise"),
    ),
    Flag(
        "k",
        "integer",
        "Rounds of distillation at each of the early steps. (whole number from 0 to 10; default: the method's own)",
    ),
    Flag(
        "lam",
        "number",
        "How strongly the start frame's motion is carried into the path to the end: 0 not at all, 1 fully. (number "
        "from 0 to 1; default: the method's own)",
    ),
    Flag(
        "anchor",
        "choice",
        "How the end keyframe's error is spread over the frames. (default: the method's own)",
        ("pin", "rigid", "closure", "field"),
    ),
    Flag(
        "handover",
        "number",
        "Share of the steps, from the first, in which the MPD step replaces the host's step. (number from 0 to 1; "
        "default: the method's own)",
    ),
    Flag(
        "loop_frame",
        "integer",
        "With loop and keyframes at given frames: the frame at which the first keyframe comes again. (whole number "
        "from 1 to 10000; default: none)",
    ),
    Flag(
        "formats",
        "choices",
        "What to deliver, several at once. (mp4 · webm · gif · apng · webp · png · png16 · prores · prores4444; "
        "default: mp4)",
        ("mp4", "webm", "gif", "apng", "webp", "png", "png16", "prores", "prores4444"),
    ),
    Flag("priority", "choice", "Which line the job waits in. (default: default)", ("high", "default", "low")),
    Flag(
        "result_ttl",
        "integer",
        "Seconds that the finished job and its files are kept. (whole number from 60 to 31536000; default: the "
        "server's)",
    ),
    Flag("webhook", "webhook", "Where a signed event goes when the job is over, and which events. (default: none)"),
    Flag("reference", "text", "Your own name for the job; comes back unchanged. (default: none)"),
)
"""Every option of a request."""
