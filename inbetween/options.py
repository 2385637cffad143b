"""The options of a request as a type checker sees them. The server decides what they may hold, and refuses the rest."""

from __future__ import annotations

from typing import Literal, Required, TypedDict

Method = Literal["flow", "svd", "trf", "vibid", "mpd-trf", "mpd-vibid", "mpd"]
Format = Literal["mp4", "webm", "gif", "apng", "webp", "png", "png16", "prores", "prores4444"]
Priority = Literal["high", "default", "low"]
Fit = Literal["cover", "contain", "stretch"]
Anchor = Literal["pin", "rigid", "closure"]
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
State = Literal["queued", "running", "succeeded", "failed", "canceled"]


class Webhook(TypedDict, total=False):
    """Where a signed event goes when the job is over, and which events: all unless named."""

    url: Required[str]
    events: list[EventType]


class Options(TypedDict, total=False):
    """Everything about a video but its keyframes. What is left out, or None, has the server's default.

    `GET /methods`, here `Client.methods()`, describes the methods and the bounds of every number.
    """

    method: Method | None
    """How the frames are made; `mpd-vibid` by default. `flow` needs no model."""
    frames: int | None
    """Frames of each segment, both its keyframes included."""
    steps: int | None
    seed: int | None
    seeds: list[int] | None
    """One take for each."""
    width: int | None
    height: int | None
    fit: Fit | None
    """How a keyframe of another shape is made to fit: crop, bars, or distort."""
    background: str | None
    """`#rrggbb`, under transparent pixels and of the bars."""
    loop: bool | None
    """Return to the first keyframe at the end."""
    exact_keyframes: bool | None
    """Show the keyframes' own pixels at their frames."""
    loop_frame: int | None
    """With `loop` and keyframes at given frames: where the first one comes again."""
    fps: int | None
    motion_bucket_id: int | None
    noise_aug_strength: float | None
    gamma: float | None
    k: int | None
    lam: float | None
    anchor: Anchor | None
    handover: float | None
    guidance: list[float] | None
    """Scale at the first and at the last frame."""
    formats: list[Format] | None
    """What to deliver; `mp4` by default. `png` is a zip of numbered PNGs; `Client.methods()` describes all."""
    priority: Priority | None
    result_ttl: int | None
    """Seconds the finished job and its files are kept."""
    webhook: Webhook | None
    reference: str | None
    """Your own name for the job; comes back unchanged."""
