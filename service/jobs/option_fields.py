"""The fields of a request's options, as pydantic checks them. Made by `make generated`.

What they mean is told in mpd/methods.py and service/jobs/request_options.py; change it there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mpd.methods import Anchor, Fit, MotionBucket
from service.jobs.record import Priority
from service.jobs.strict import Strict, Webhook

MethodName = Literal["flow", "rife", "film", "svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"]
Motion = Literal["auto", "dis", "rife"]
Segments = Literal["joint", "alone", "chained"]
GammaIn = Literal["steps", "noise"]
Format = Literal["mp4", "webm", "gif", "apng", "webp", "png", "png16", "prores", "prores4444"]


class OptionFields(Strict):
    """Hold the options of a request."""

    method: MethodName | None = Field(
        default=None,
        description="How the frames are made. Default: the server's, which suits the models at work.",
        examples=["mpd-vibid"],
    )
    seeds: list[Annotated[int, Field(ge=0, le=4294967295)]] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        description="One take for each seed; the same seed gives the same video. Each 0 to 4294967295: seeds are "
        "unsigned 32-bit integers. 1 to 8 of them: each take costs a whole sampling run. Default: seed alone.",
        examples=[[1, 2]],
    )
    frames: int | None = Field(
        default=None,
        ge=2,
        le=241,
        description="Frames of each segment, both its keyframes included. 2 to 241: both keyframes are frames of the "
        "segment; beyond 241 one request should be several. Default: the model's own number; 25 for methods without a "
        "model.",
    )
    fps: int = Field(
        default=7,
        ge=1,
        le=60,
        description="Frames per second of the video; the model is told it too. 1 to 60: the model is conditioned on "
        "it and was trained below 31.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=4294967295,
        description="Shorthand for seeds with one seed; the same seed gives the same video. 0 to 4294967295: seeds "
        "are unsigned 32-bit integers. Default: 0.",
    )
    output_fps: int | None = Field(
        default=None,
        ge=1,
        le=60,
        description="Frames per second of the finished video, by interpolating the frames; `fps` is then the model's "
        "alone. 1 to 60: players and editors know rates up to it. Default: `fps`.",
    )
    width: int | None = Field(
        default=None,
        ge=32,
        le=2048,
        description="Width of the sampled frames, with height. 32 to 2048: SVD was trained at 1024x576. Default: the "
        "model's own, turned as the first keyframe is; for methods without a model that keyframe's.",
    )
    height: int | None = Field(
        default=None,
        ge=32,
        le=2048,
        description="Height of the sampled frames, with width. 32 to 2048: SVD was trained at 1024x576. Default: the "
        "model's own, turned as the first keyframe is; for methods without a model that keyframe's.",
    )
    fit: Fit = Field(
        default="cover",
        description="How a keyframe of another shape is made to fit: crop, bars that are cut off again, or distortion.",
    )
    background: str | None = Field(
        default=None,
        pattern=r"^#[0-9a-fA-F]{6}$",
        description="Colour under transparent pixels and of the bars, as #rrggbb. Default: black, white or grey, "
        "which differs most from what is visible; black where nothing is transparent.",
    )
    loop: bool = Field(
        default=False,
        description="Return to the first keyframe at the end, so that the video repeats.",
    )
    exact_keyframes: bool = Field(
        default=False,
        description="Show the keyframes' own pixels at their frames, where a model has made its own of them.",
    )
    motion: Motion | None = Field(
        default=None,
        description="Where motion is taken from: the better of both at each pixel, classical flow (dis) or the "
        "network alone. Default: the method's own.",
    )
    segments: Segments | None = Field(
        default=None,
        description="How more than two keyframes are sampled: neighbours as one latent where they fit it, or each "
        "pair alone. `joint` moves through its keyframes: of `mpd` with the anchor `closure`, else it is `alone`, in "
        "which each pair has noise of its own; `chained` draws it on from pair to pair, as releases before 0.2 did. "
        "Default: the method's own.",
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Sampling steps. More take longer; past 25 little changes. 1 to 100: 25 is the methods' default; "
        "past 100 nothing visible changes. Default: the model's own schedule; 25 where its card names none.",
        examples=[25],
    )
    motion_bucket_id: Annotated[int, Field(ge=0, le=255)] | MotionBucket | None = Field(
        default=None,
        description="How much motion the model is asked for; auto is what the keyframes' distance takes. 0 to 255: "
        "the range of the training data's motion scores. Default: auto for a model with a calibration, 127 for "
        "others.",
        examples=[127],
    )
    noise_aug_strength: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Noise on the keyframe as the model sees it: more leaves it more freedom. 0 to 1: noise is added "
        "to a keyframe in [-1, 1].",
    )
    guidance: list[Annotated[float, Field(ge=0, le=20)]] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="Guidance scale at the first and at the last frame. Each 0 to 20: larger scales burn the colours. "
        "2 of them: one at the first and one at the last frame. Default: the method's own.",
        examples=[[1.0, 3.0]],
    )
    gamma: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How much of the beginning is distilled: a share of the steps. 0 to 1: none of the steps to all "
        "of them. Default: the method's own.",
    )
    gamma_in: GammaIn | None = Field(
        default=None,
        description="Whether γ is a share of the steps, as in the paper, or of the noise that latents of this size "
        "can tell. By `noise`, small sizes and few frames have rounds at the lower noise levels at which they are "
        "decided; at 1024x576 and 25 frames both are the same. Default: the method's own.",
    )
    k: int | None = Field(
        default=None,
        ge=0,
        le=10,
        description="Rounds of distillation at each of the early steps. 0 to 10: each round costs one denoiser call "
        "per early step. Default: the method's own.",
    )
    lam: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How strongly the start frame's motion is carried into the path to the end: 0 not at all, 1 "
        "fully. 0 to 1: a weight between two estimates. Default: the method's own.",
    )
    anchor: Anchor | None = Field(
        default=None,
        description="How the end keyframe's error is spread over the frames. `rigid` as in the paper, `pin` at the "
        "last frame alone, `closure` growing from the start to the end, `field` as the model lets each place follow "
        "the last frame, for half a call more a step. Default: the method's own.",
    )
    handover: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the steps, from the first, in which the MPD step replaces the host's step. 0 to 1: none "
        "of the steps to all of them. Default: the method's own.",
    )
    loop_frame: int | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="With loop and keyframes at given frames: the frame at which the first keyframe comes again. 1 to "
        "10000: keyframes stand at frames up to there. Default: none.",
    )
    formats: list[Format] = Field(
        default=["mp4"],
        min_length=1,
        max_length=9,
        description="What to deliver, several at once. `mp4`, H.264, 4:2:0, BT.709, index at the front: plays "
        "everywhere; `webm`, VP9, 4:2:0, BT.709: smaller, for the web; `gif`, 256 colours chosen for this video; at "
        "most 50 frames a second; `apng`, animated PNG, without loss, plays in a loop; `webp`, animated WebP, small, "
        "plays in a loop; `png`, a zip of frame-0001.png and so on, without loss; `png16`, the same with 16 bits a "
        "sample, as decoded; `prores`, ProRes 422 HQ, 10 bits, BT.709, for editing; `prores4444`, ProRes 4444, 10 "
        "bits, BT.709, with transparency where there is any. Transparency that all keyframes have is kept in `webm`, "
        "`apng`, `webp`, `png`, `png16`, `prores4444`; elsewhere `background` shows through. 1 to 9 of them: each "
        "format once.",
        examples=[["mp4", "gif"]],
    )
    priority: Priority = Field(
        default="default",
        description="Which line the job waits in.",
    )
    result_ttl: int | None = Field(
        default=None,
        ge=60,
        le=31536000,
        description="Seconds that the finished job and its files are kept. 60 to 31536000: a minute to a year. "
        "Default: the server's.",
    )
    webhook: Webhook | None = Field(
        default=None,
        description="Where a signed event goes when the job is over, and which events. Default: none.",
    )
    reference: str | None = Field(
        default=None,
        max_length=200,
        description="Your own name for the job; comes back unchanged. Default: none.",
        examples=["shot-012"],
    )
