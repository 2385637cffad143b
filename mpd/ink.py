"""Drawings in one ink on transparency: what moves is the matte, the same for every ink over every background.

Over a background, dark ink shows as little motion as its contrast, and none at all where the two are one colour. The
matte says all there is to see; frames are laid anew from it, the ink and the background. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpd.between import Between, Tell
from mpd.progress import Frames, Pictures

_APART, _EVER = 6.0, 24.0
"""Levels by which nearly all visible samples may differ from those of one ink, as rounding and scaling make them, and
by which none may."""
_NEARLY_ALL = 0.995
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
    samples = np.concatenate([picture.reshape(-1, 4) for picture in pictures])
    codes, counts = np.unique(np.ascontiguousarray(samples).view(np.uint32), return_counts=True)
    samples = codes.view(np.uint8).reshape(-1, 4).astype(np.float32)  # a drawing has few, which makes the rest cheap
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


def _contrast(colours: NDArray[Any], share: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """Fit the difference (3,) between ink and background to colours (n, 3) above the background, by least squares."""
    weights = counts[:, None] * share
    fitted: NDArray[Any] = (weights * colours).sum(0) / (weights * share).sum()
    return fitted


def aware(between: Between) -> Between:
    """Make frames as `between` does, but of drawings in one ink by their mattes."""

    def made(start: Pictures, end: Pictures, times: Sequence[float], tell: Tell) -> Generator[Frames, None, None]:
        found = of(start, end) if start.shape[2] == 4 else None
        if found is None:
            yield from between(start, end, times, tell)
            return
        with closing(between(_shown(start), _shown(end), times, tell)) as mattes:
            for matte in mattes:
                yield found.laid(255 - matte.mean(-1).clip(0, 255) if matte.dtype != np.uint8 else 255 - matte[..., 0])

    return made


def _shown(picture: Pictures) -> Pictures:
    """Show a matte as a drawing on paper: (H, W, 3)."""
    return np.repeat(255 - picture[..., 3:], 3, 2)
