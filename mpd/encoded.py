"""Keyframes that stay files: each is decoded when it is looked at and dropped afterwards, one at a time.

A photograph of a telephone is 200 MB while it is decoded, and the pictures of a job are a few MB each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

from PIL import Image

from mpd import keyframes, photographs
from mpd.keyframes import Framing
from mpd.methods import Settings
from mpd.photographs import KeyframeError, Size
from mpd.progress import Pictures

_FINER = 2
"""A JPEG is decoded at no less than so many times the size it is brought to: what is lost, the eye would not find."""


class Encoded(Sequence[Image.Image]):
    """Image files as upright RGB or RGBA, as `photographs.load` gives them. Raises `KeyframeError` with its `index`."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._enough: Size | None = None

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Encoded: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Encoded:
        if isinstance(index, slice):
            part = Encoded(self._files[index])
            part._enough = self._enough
            return part
        try:
            return photographs.load(self._files[index].read_bytes(), self._enough)
        except KeyframeError as error:
            error.index = index
            raise

    @property
    def first_size(self) -> Size:
        """(width, height) of the first, by its head alone."""
        try:
            return photographs.size_of(self._files[0].read_bytes())
        except KeyframeError as error:
            error.index = 0
            raise

    def with_background(self, settings: Settings) -> Settings:
        """Give the settings with a background, chosen where they leave it open (`keyframes.background_for`)."""
        glanced = self[:]
        # JPEGs are opaque, and need not be large to say so.
        glanced._enough = (1, 1)
        return replace(settings, background=keyframes.background_for(glanced, settings))

    def prepare(self, settings: Settings, *, native_size: Size, size_multiple: int) -> tuple[list[Pictures], Framing]:
        """Bring the pictures to one size as `keyframes.prepare` does.

        From here on JPEGs are decoded no larger than the job can use.
        """
        frame = keyframes.plan(self.first_size, settings, native_size=native_size, size_multiple=size_multiple)
        across, down = max(frame.width, frame.out[0]), max(frame.height, frame.out[1])
        self._enough = _FINER * across, _FINER * down
        return keyframes.fitted(self, settings, frame), frame
