"""From the frames of the size that was sampled to the video that is delivered: the matte, the way back to the source's
aspect, and the keyframes' own pixels.

Knows nothing of models or formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from mpd import keyframes as pictures_of
from mpd.keyframes import Framing
from mpd.lengths import shown_keyframes
from mpd.methods import METHODS, Settings
from mpd.output.clip import to_bits
from mpd.progress import Frames, Pictures, Take


@dataclass(frozen=True)
class Compositor:
    """What becomes of a job's takes."""

    #: As they were loaded.
    keyframes: Sequence[Image.Image]
    settings: Settings
    #: The way back that `keyframes.prepare` gave.
    frame: Framing
    #: Frames of each segment, both ends included.
    lengths: Sequence[int]
    #: Whether transparency is to be kept, where all keyframes have it.
    matte: bool

    @cached_property
    def keeps_matte(self) -> bool:
        return self.matte and pictures_of.have_mattes(self.keyframes)

    def with_mattes(self, pictures: Sequence[Pictures]) -> list[Pictures]:
        """Give the pictures of `prepare`, for `flow` (H, W, 4) where there is a matte to be kept."""
        if not self.keeps_matte or METHODS[self.settings.method].needs_model:
            return list(pictures)
        return [np.dstack(both) for both in zip(pictures, self._mattes, strict=True)]

    def __call__(self, take: Take, on_frame: Callable[[], None] = lambda: None) -> Take:
        """Finish a take. on_frame: called again and again on the way; what it raises passes through."""
        matte = take.matte
        if matte is None and self.keeps_matte:
            from mpd.output import mattes

            matte = mattes.follow(take.frames, self._mattes, self.settings, self.lengths, on_frame)
        frames = pictures_of.restore(take.frames, self.frame)
        matte = None if matte is None else pictures_of.restore(matte, self.frame)
        if self.settings.exact_keyframes:
            self._put_back(frames, matte)
        return replace(take, frames=frames, matte=matte, background=self._background)

    def _put_back(self, frames: Frames, matte: Frames | None) -> None:
        bits = 8 * frames.dtype.itemsize
        shown = shown_keyframes(self.settings, self.lengths)
        for index, picture in zip(shown, self._exact, strict=False):  # svd shows one keyframe fewer than there are
            frames[index] = to_bits(picture, bits)
        if matte is not None:
            for index, picture in zip(shown, self._exact_mattes, strict=False):
                matte[index] = to_bits(picture, bits)

    # For all takes once: keyframes may be decoded anew whenever they are looked at.

    @cached_property
    def _background(self) -> str:
        return pictures_of.background_for(self.keyframes, self.settings)

    @cached_property
    def _mattes(self) -> list[Pictures]:
        return pictures_of.mattes(self.keyframes, self.settings, self.frame)

    @cached_property
    def _exact(self) -> list[Pictures]:
        return pictures_of.exact(self.keyframes, self.settings, self.frame)

    @cached_property
    def _exact_mattes(self) -> list[Pictures]:
        return pictures_of.exact_mattes(self.keyframes, self.settings, self.frame)
