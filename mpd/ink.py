"""Drawings on transparency, whose motion is the same over every background.

Over a background, dark ink shows as little motion as its contrast, and none at all where the two are one colour. Of a
drawing in one ink the matte says all there is to see: frames are laid anew from it, the ink and the background. One in
several colours is moved over a ground that differs from them, and laid over its background again. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from mpd.between import Between, Tell
from mpd.keyframes import BACKGROUNDS, LEAST_CONTRAST
from mpd.progress import Frames, Pictures

_APART, _EVER = 6.0, 24.0
"""Levels by which nearly all visible samples may differ from those of one ink, as rounding and scaling make them, and
by which none may."""
_NEARLY_ALL = 0.995
_CONTRAST = LEAST_CONTRAST * 255 * 3**0.5
"""Mean distance of visible colours from their background below which they are moved over another."""
_OPAQUE, _SHARPENED = 0.97, 1.12


@dataclass(frozen=True)
class Ink:
    """The colour of all that is visible, and of what lies below, (3,) each."""

    ink: NDArray[np.float32]
    background: NDArray[np.float32]

    def laid(self, matte: Frames) -> Frames:
        """Lay the ink over the background by a matte (H, W) in 0…255: (H, W, 4), in the matte's kind of numbers."""
        share = (matte.astype(np.float32) / 255)[..., None]
        picture: Frames = np.dstack([self.background + share * (self.ink - self.background), matte])
        return np.rint(picture).astype(np.uint8) if matte.dtype == np.uint8 else picture


def of(*pictures: Pictures) -> Ink | None:
    """Find the one ink of pictures (H, W, 4) over one background; None where there are more, or nothing is clear."""
    samples, counts = _kinds(pictures)
    colours, share = samples[:, :3], samples[:, 3:] / 255
    seen = share[:, 0] > 0
    if seen.all() or not seen.any():
        return None
    background = colours[~seen][counts[~seen].argmax()]
    colours, share, counts = colours[seen] - background, share[seen], counts[seen]
    contrast = _contrast(colours, share, counts)
    # Scaling sharpens edges: where that makes a pixel more than opaque, its alpha was cut off and its colour was not.
    along = colours @ contrast / max(float(contrast @ contrast), 1e-6)
    share = np.where(share < _OPAQUE, share, along[:, None].clip(share, _SHARPENED))
    contrast = _contrast(colours, share, counts)
    apart = np.abs(colours - share * contrast).max(-1)
    if counts[apart <= _APART].sum() < _NEARLY_ALL * counts.sum() or apart.max() > _EVER:
        return None
    return Ink((background + contrast).clip(0, 255).astype(np.float32), background)


def _kinds(pictures: Sequence[Pictures]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give the different samples (n, 4) of pictures, and how many there are of each: a drawing has few."""
    samples = np.ascontiguousarray(np.concatenate([picture.reshape(-1, 4) for picture in pictures]))
    codes, counts = np.unique(samples.view(np.uint32), return_counts=True)
    return codes.view(np.uint8).reshape(-1, 4).astype(np.float32), counts


def _contrast(colours: NDArray[Any], share: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """Fit the difference (3,) between ink and background to colours (n, 3) above the background, by least squares."""
    weights = counts[:, None] * share
    fitted: NDArray[Any] = (weights * colours).sum(0) / (weights * share).sum()
    return fitted


def aware(between: Between) -> Between:
    """Make frames as `between` does, but of drawings on transparency whatever their background."""

    def made(start: Pictures, end: Pictures, times: Sequence[float], tell: Tell) -> Generator[Frames, None, None]:
        if start.shape[2] == 3:
            yield from between(start, end, times, tell)
            return
        found = of(start, end)
        if found is not None:
            with closing(between(_shown(start), _shown(end), times, tell)) as mattes:
                for matte in mattes:
                    level = 255 - (matte.mean(-1).clip(0, 255) if matte.dtype != np.uint8 else matte[..., 0])
                    yield found.laid(level)
            return
        change = ground_of(start, end)
        with closing(between(_over(start, change), _over(end, change), times, tell)) as frames:
            for frame in frames:
                yield _over(frame, -change)

    return made


def ground_of(*pictures: Pictures) -> NDArray[np.float32]:
    """Give what to add to the background of pictures (H, W, 4) so that all visible colours differ from it: (3,).

    Nothing where nothing is wholly clear, so that no background is known, or where the background differs enough.
    """
    samples, counts = _kinds(pictures)
    clear, opaque = samples[:, 3] == 0, samples[:, 3] == 255
    if not clear.any() or not opaque.any():
        return np.zeros(3, np.float32)
    background = samples[clear, :3][counts[clear].argmax()]
    grounds = [background, *(np.array(ImageColor.getrgb(one), np.float32) for one in BACKGROUNDS)]
    contrasts = [
        float(np.average(np.linalg.norm(samples[opaque, :3] - ground, axis=-1), weights=counts[opaque]))
        for ground in grounds
    ]
    if contrasts[0] >= _CONTRAST:
        return np.zeros(3, np.float32)
    chosen: NDArray[np.float32] = grounds[int(np.argmax(contrasts))] - background
    return chosen


def _over(picture: Any, change: NDArray[np.float32]) -> Any:
    """Change the background of a picture (H, W, 4), in its kind of numbers."""
    if not change.any():
        return picture
    clear = 1 - picture[..., 3:].astype(np.float32) / 255
    changed = np.dstack([picture[..., :3] + clear * change, picture[..., 3]])
    return np.rint(changed.clip(0, 255)).astype(np.uint8) if picture.dtype == np.uint8 else changed


def _shown(picture: Pictures) -> Pictures:
    """Show a matte as a drawing on paper: (H, W, 3)."""
    return np.repeat(255 - picture[..., 3:], 3, 2)
