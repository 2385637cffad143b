"""Sampled frames brought to another rate: the frames in between by an interpolator, the keyframes where they belong.

Methods that interpolate want none of it, as they make the frames of the finished video's times at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mpd.between import Between
from mpd.interpolation import rounded, small
from mpd.lengths import total_frames
from mpd.methods import Settings
from mpd.output.clip import eight_bits
from mpd.progress import Frames, MotionReport, Progress, Take

if TYPE_CHECKING:
    from mpd.film import Film
    from mpd.rife.interpolator import Interpolator

SHARE = 0.1
"""Of the whole job's progress, which sampling has the rest of: beside it, these frames cost little."""


def by(interpolator: Interpolator | Film) -> Between:
    """Give what makes the frames between two neighbours, whose motion is small: the network alone."""
    from mpd import film
    from mpd.rife import pair

    return film.Maker(interpolator) if isinstance(interpolator, film.Film) else pair.Maker(interpolator, "rife")


def retimed(
    reports: Iterator[Progress | Take],
    settings: Settings,
    segments: Sequence[int],
    delivered: Sequence[int],
    between: Between,
    facts: dict[str, Any],
) -> Generator[Progress | Take, None, None]:
    """Bring each take to the settings' `rate`: with a `Progress` for every frame, after those of sampling it.

    segments, delivered: frames of each segment as they come and as they are to be (`mpd.lengths`), both ends included.
    facts: of what `between` goes by; a take tells them where that made frames of it.
    Frames that fall on sampled ones are those, unchanged; of 16 bits a sample, the others are made of 8.
    """
    made_by = facts if any(place % 1 for place in _places(segments, delivered)) else None
    takes, total = len(settings.seeds), total_frames(delivered, settings.loop)
    made = 0
    for report in reports:
        if isinstance(report, Progress):
            yield replace(report, fraction=(1 - SHARE) * report.fraction + SHARE * made / (takes * total))
            continue
        frames: Frames = np.empty((total, *report.frames.shape[1:]), report.frames.dtype)
        with closing(_frames(report.frames, segments, delivered, settings.loop, between)) as found:
            for number, frame in enumerate(found):
                frames[number] = frame
                made += 1
                sampled = (1 - SHARE) * (report.index + 1) / takes
                yield Progress(
                    take=report.index,
                    takes=takes,
                    segment=len(segments) - 1,
                    segments=len(segments),
                    step=number + 1,
                    steps=total,
                    fraction=sampled + SHARE * made / (takes * total),
                    sigma=None,
                    preview=partial(small, frame),
                )
        yield replace(report, frames=frames, fps=settings.rate, interpolator=made_by)


def _frames(
    sampled: Frames, segments: Sequence[int], delivered: Sequence[int], loop: bool, between: Between
) -> Generator[Frames, None, None]:
    """Give the finished video's frames in order."""
    places = _places(segments, delivered)
    for before, group in itertools.groupby(places[:-1] if loop else places, key=int):
        # A loop's last frame is followed by its first.
        ends = [sampled[before], sampled[(before + 1) % len(sampled)]]
        times = [place - before for place in group]
        if times[0] == 0:
            yield sampled[before]
            times = times[1:]
        if times:
            with closing(between(eight_bits(ends[0]), eight_bits(ends[1]), times, _unheard)) as made:
                for frame in made:
                    yield rounded(frame, 8 * sampled.dtype.itemsize)


def _places(segments: Sequence[int], delivered: Sequence[int]) -> list[float]:
    """Give where each frame of the finished video lies among the sampled ones: 2.5 is between the third and fourth."""
    places, begins = [0.0], 0
    for frames, wanted in zip(segments, delivered, strict=True):
        places += [begins + step * (frames - 1) / (wanted - 1) for step in range(1, wanted)]
        begins += frames - 1
    return places


def _unheard(report: MotionReport) -> None:
    """Do nothing with how far a motion is to be believed: it is between sampled frames."""
