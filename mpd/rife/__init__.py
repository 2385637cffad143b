"""Inbetweens by RIFE, a learned interpolator, with `flow`'s motion beside it and what stands still kept.

Loads torch only when frames are made. Pictures are uint8 RGB, with a matte as a fourth channel where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mpd.methods import METHODS, Settings
from mpd.progress import Pictures, Progress, Take

if TYPE_CHECKING:
    from mpd.rife.interpolator import Interpolator


def load(source: str = "auto", device: str = "auto") -> Interpolator:
    """Load the network with its weights: `auto` those that are installed, else those of a file.

    device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`. Raises `WeightsError`.
    """
    from mpd.rife import weights
    from mpd.rife.interpolator import Interpolator

    found = weights.find(source)
    if found is None:
        raise weights.WeightsError(f"RIFE's weights are not installed: {weights.INSTALL}")
    return Interpolator(found, device)


def generate(
    interpolator: Interpolator, pictures: Sequence[Pictures], settings: Settings, bits: int = 8
) -> Iterator[Progress | Take]:
    """Make all segments between the pictures (H, W, 3 or 4): one `Progress` per frame, then a `Take` per seed.

    bits: 8 or 16, of the frames' samples. Nothing here is random, so the takes are equal and only the first costs
    anything. Raises `SettingsError` when the pictures do not fit the settings.
    """
    from mpd import interpolation
    from mpd.rife.pair import Maker

    source = settings.motion or METHODS[settings.method].motion
    return interpolation.generate(pictures, settings, bits, Maker(interpolator, source or "auto"))
