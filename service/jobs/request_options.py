"""The options that a request may have, told once: the library's settings, and what the service adds to them.

The request's model, the client's types and flags, `GET /methods`, the playground's fields and docs/options.md are made
from `REQUEST_OPTIONS` (`make generated`).
"""

from __future__ import annotations

from dataclasses import replace

from mpd.methods import LIMITS, OPTIONS
from mpd.options import GROUPS, Limit, Option
from mpd.output.formats import FORMATS
from service.jobs.record import PRIORITIES

_OF_THE_TIMELINE = "positions"
"""The one setting that no option gives: the request says at its keyframes where they stand."""

_FORMATS = (
    "; ".join(f"`{one.name}`, {one.description}" for one in FORMATS.values())
    + ". Transparency that all keyframes have is kept in "
    + ", ".join(f"`{one.name}`" for one in FORMATS.values() if one.alpha)
    + "; elsewhere `background` shows through."
)

_OWN = (
    Option(
        name="seed",
        kind="integer",
        default=None,
        label="Seed",
        hint="Shorthand for seeds with one seed; the same seed gives the same video.",
        group="basics",
        limit=LIMITS["seeds"],
        unset="0",
    ),
    Option(
        name="loop_frame",
        kind="integer",
        default=None,
        label="Loop frame",
        hint="With loop and keyframes at given frames: the frame at which the first keyframe comes again.",
        group="timeline",
        limit=Limit(1, 10_000, "keyframes stand at frames up to there"),
        unset="none",
    ),
    Option(
        name="formats",
        kind="choices",
        default=["mp4"],
        label="Formats",
        hint="What to deliver, several at once.",
        group="delivery",
        size=Limit(1, len(FORMATS), "each format once"),
        choices=tuple(FORMATS),
        alias="Format",
        more=_FORMATS,
        example=["mp4", "gif"],
    ),
    Option(
        name="priority",
        kind="choice",
        default="default",
        label="Priority",
        hint="Which line the job waits in.",
        group="delivery",
        choices=PRIORITIES,
        alias="Priority",
    ),
    Option(
        name="result_ttl",
        kind="integer",
        default=None,
        label="Kept for",
        hint="Seconds that the finished job and its files are kept.",
        group="delivery",
        limit=Limit(60, 31_536_000, "a minute to a year"),
        unset="the server's",
    ),
    Option(
        name="webhook",
        kind="webhook",
        default=None,
        label="Webhook",
        hint="Where a signed event goes when the job is over, and which events.",
        group="delivery",
        unset="none",
    ),
    Option(
        name="reference",
        kind="text",
        default=None,
        label="Reference",
        hint="Your own name for the job; comes back unchanged.",
        group="delivery",
        size=Limit(0, 200, "a name, and no text"),
        unset="none",
        example="shot-012",
    ),
)


def _of_request(setting: Option) -> Option:
    """Tell a setting as a request has it, where leaving it out means something else than in the library."""
    if setting.name == "method":
        return replace(setting, default=None, unset="the server's, which suits the models at work")
    if setting.name == "seeds":
        return replace(setting, default=None, unset="seed alone")
    return setting


def _by_group(one: Option) -> int:
    return list(GROUPS).index(one.group)


REQUEST_OPTIONS: dict[str, Option] = {
    one.name: one
    for one in sorted((*map(_of_request, OPTIONS.values()), *_OWN), key=_by_group)
    if one.name != _OF_THE_TIMELINE
}
