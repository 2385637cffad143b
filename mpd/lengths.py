"""How long a video gets and what it costs: frames of segments, the frames that show keyframes, denoiser calls.

Imports nothing but the standard library, as `mpd.methods`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from mpd.methods import KEYFRAMES, METHODS, Settings, SettingsError
from mpd.schedule import NUMBERS, SVD_XT, NoiseLevels, early_steps, share_of_steps

FLOW_LONGEST_SIDE = 1280
"""Longest side of a `flow` video when the settings leave its size open."""
FLOW_SIZE_MULTIPLE = 2
"""Video codecs halve both sides for colour."""
JOINT_SEGMENTS = 4
"""Of a group whose length the settings leave open, at most."""
JOINT_FRAMES = 6
"""Of each of its segments, both ends included, at least."""


@dataclass(frozen=True)
class Group:
    """Neighbouring segments that are sampled as one latent; one that is sampled alone is such a group too."""

    #: The first segment's number, from 0.
    first: int
    #: Of each segment, both ends included.
    frames: tuple[int, ...]
    #: Whether the last one is the first again, so that a loop moves through its seam; it is dropped from the video.
    passes_seam: bool = False

    @property
    def places(self) -> tuple[int, ...]:
        """Give the frame of the latent that stands at each keyframe."""
        return tuple(itertools.accumulate((frames - 1 for frames in self.frames), initial=0))

    @property
    def length(self) -> int:
        """Count the frames of the latent."""
        return self.places[-1] + 1

    @property
    def shown(self) -> int:
        """Count the frames of the latent that are in the video, up to the seam where it is passed."""
        return self.places[-2 if self.passes_seam else -1] + 1

    def keyframes(self, count: int) -> tuple[int, ...]:
        """Give its keyframes' numbers, from 0, of `count` in the video; those of a loop come again."""
        last = self.first + len(self.frames) if count > 1 else 0
        return tuple(number % count for number in range(self.first, last + 1))


def groups(settings: Settings, segments: Sequence[int], most: int) -> tuple[Group, ...]:
    """Group neighbouring segments that are sampled as one latent: as many as fit, from the left.

    segments: frames of each, both ends included. most: frames of a latent, such as the model's native ones. A loop that
    fits with its first segment once more is one group, which passes the seam.
    """
    if not settings.joins:
        return tuple(Group(number, (frames,)) for number, frames in enumerate(segments))
    whole = Group(0, (*segments, segments[0]), passes_seam=True)
    if settings.loop and whole.length <= most:
        return (whole,)
    made: list[Group] = []
    for number, frames in enumerate(segments):
        longer = replace(made[-1], frames=(*made[-1].frames, frames)) if made else None
        if longer is not None and longer.length <= most:
            made[-1] = longer
        else:
            made.append(Group(number, (frames,)))
    return tuple(made)


def shown_keyframes(settings: Settings, segments: Sequence[int]) -> tuple[int, ...]:
    """Find the frame of the finished video that shows each keyframe.

    segments: frames of each, both ends included. A method that does not use the keyframe at a segment's end shows the
    video's last keyframe nowhere.
    """
    frames = list(itertools.accumulate((length - 1 for length in segments), initial=0))
    last_is_shown = not settings.loop and METHODS[settings.method].uses_end
    return tuple(frames if last_is_shown else frames[:-1])


def denoiser_calls(settings: Settings, schedule: NoiseLevels = SVD_XT, numbers: Sequence[float] = (NUMBERS,)) -> int:
    """Count the denoiser calls of one take. A call is a conditional and an unconditional estimate.

    numbers: D of each latent that is sampled, which are as many as there are `groups`; it matters where γ is by noise.
    """
    sigmas = schedule.sigmas(settings.steps)
    return sum(_calls(settings, sigmas, each) for each in numbers)


def _calls(settings: Settings, sigmas: Sequence[float], numbers: float) -> int:
    method, steps = METHODS[settings.method], len(sigmas) - 1
    calls = method.calls_per_step * steps
    distillation = settings.distillation
    if distillation is not None:
        rounds = distillation.k * early_steps(distillation, sigmas, numbers)
        instead = steps if method.host_free else share_of_steps(distillation.handover, steps)
        calls += rounds - (method.calls_per_step - 1) * instead
        if distillation.anchor == "field":
            # One more estimate for each MPD step, without the unconditional one.
            calls += math.ceil((rounds + instead) / 2)
    return calls


def segment_frames(settings: Settings, keyframes: int, native_frames: int) -> tuple[int, ...]:
    """Give the frames that a model makes of each segment, both ends included, for `keyframes` keyframes.

    An unset `frames` is the model's `native_frames`; where segments are joined, these are spread over as many as are
    sampled as one. Raises `SettingsError` when the keyframes do not fit the method, the loop or the positions.
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
    if settings.positions is None and settings.frames is None and settings.joins:
        return _spread(segments, settings.loop, native_frames)
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


def _spread(segments: int, loop: bool, native_frames: int) -> tuple[int, ...]:
    """Spread a model's native frames over the segments of each group, groups as equal as they can be.

    There are at most `JOINT_SEGMENTS` in a group, of `JOINT_FRAMES` or more; a loop that is one group holds its first
    segment once more.
    """
    steps = native_frames - 1
    most = max(1, min(JOINT_SEGMENTS, steps // (JOINT_FRAMES - 1)))
    if loop and segments + 1 <= most:
        return (steps // (segments + 1) + 1,) * segments
    each = math.ceil(segments / math.ceil(segments / most))
    places = [math.floor(Fraction(place * steps, each) + Fraction(1, 2)) for place in range(each + 1)]
    frames = [b - a + 1 for a, b in itertools.pairwise(places)]
    return tuple(itertools.islice(itertools.cycle(frames), segments))


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
