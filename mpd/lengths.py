"""How long a video gets and what it costs: frames of segments, the frames that show keyframes, denoiser calls.

Imports nothing but the standard library, as `mpd.methods`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

from mpd.methods import KEYFRAMES, METHODS, Settings, SettingsError

FLOW_LONGEST_SIDE = 1280
"""Longest side of a `flow` video when the settings leave its size open."""
FLOW_SIZE_MULTIPLE = 2
"""Video codecs halve both sides for colour."""


def early_steps(share: float, steps: int) -> int:
    """Count the i in 0 … steps-1 that satisfy i < share·steps, in exact decimal arithmetic (0.28 · 25 is 7)."""
    return min(steps, math.ceil(Fraction(str(share)) * steps))


def shown_keyframes(settings: Settings, segments: Sequence[int]) -> tuple[int, ...]:
    """Find the frame of the finished video that shows each keyframe.

    segments: frames of each, both ends included. A method that does not use the keyframe at a segment's end shows the
    video's last keyframe nowhere.
    """
    frames = list(itertools.accumulate((length - 1 for length in segments), initial=0))
    last_is_shown = not settings.loop and METHODS[settings.method].uses_end
    return tuple(frames if last_is_shown else frames[:-1])


def denoiser_calls(settings: Settings, segments: int = 1) -> int:
    """Count the denoiser calls of one take. A call is a conditional and an unconditional estimate."""
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
    """Give the frames that a model makes of each segment, both ends included, for `keyframes` keyframes.

    `native_frames` stands in for an unset `frames`. Raises `SettingsError` when the keyframes do not fit the
    method, the loop or the positions.
    """
    method = METHODS[settings.method]
    if keyframes < method.min_keyframes:
        raise SettingsError(
            "keyframes",
            f"{settings.method} needs at least {method.min_keyframes}, got {keyframes}",
            "Send the start and the end image",
        )
    if keyframes > KEYFRAMES.high:
        remedy = f"Send at most {KEYFRAMES.high:g}: {KEYFRAMES.why}"
        raise SettingsError("keyframes", f"{keyframes} are too many", remedy)
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
    steps = (b - a for a, b in itertools.pairwise(settings.positions))
    return tuple(max(1, _at_rate(step, settings.rate, settings.fps)) + 1 for step in steps)


def delivered_frames(settings: Settings, keyframes: int, native_frames: int) -> tuple[int, ...]:
    """Give the frames of each segment of the finished video: those of `segment_frames`, brought to its rate.

    Both ends of the video keep their time, to half a frame, and each keyframe in between is in the nearest frame; where
    positions say which, in that one. Raises `SettingsError` as `segment_frames` does, and where two keyframes would
    fall into one frame.
    """
    segments = segment_frames(settings, keyframes, native_frames)
    if settings.positions is not None:
        return tuple(b - a + 1 for a, b in itertools.pairwise(settings.positions))
    places = itertools.accumulate((frames - 1 for frames in segments), initial=0)
    delivered = [_at_rate(place, settings.fps, settings.rate) for place in places]
    if any(a == b for a, b in itertools.pairwise(delivered)):
        least = math.ceil(Fraction(settings.fps, min(segments) - 1))
        problem = f"{settings.rate} frames a second have no frame for each keyframe"
        raise SettingsError("output_fps", problem, f"Ask for at least {least}, or for more frames")
    return tuple(b - a + 1 for a, b in itertools.pairwise(delivered))


def _at_rate(steps: int, fps: int, rate: int) -> int:
    """Give the nearest number of steps of 1/rate seconds to `steps` of 1/fps seconds, half a step upwards."""
    return math.floor(Fraction(steps * rate, fps) + Fraction(1, 2))


def flow_size(image_size: tuple[int, int], width: int | None, height: int | None) -> tuple[int, int]:
    """Give the (width, height) of a `flow` video: as asked, else the picture's own with even sides of at most 1280."""
    if width is not None and height is not None:
        return width, height
    longest = FLOW_LONGEST_SIDE
    scale = min(1.0, longest / max(image_size))
    # An odd side loses a line rather than gain one, which would resample the picture.
    across, down = (min(longest, max(32, 2 * round((side * scale - 0.5) / 2))) for side in image_size)
    return across, down


def total_frames(segments: Sequence[int], loop: bool) -> int:
    """Count the finished video's frames: shared boundary frames once, and in a loop without the return to the start."""
    return sum(frames - 1 for frames in segments) + (0 if loop else 1)
