"""Keyframes and settings in, progress and finished takes out.

Two halves, because a service does them in two processes: `mpd.keyframes.prepare` brings all keyframes to one size, and
`generate` samples at that size. `inbetween` is both, and the way back to the source's aspect. Both give generators:
whoever reads them sees progress after every step, and cancels by closing them.

Loads torch only for methods that need a model. Knows nothing of video formats or HTTP.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mpd import keyframes, photographs
from mpd.lengths import delivered_frames, flow_size, segment_frames
from mpd.methods import FLOW_FRAMES, METHODS, Settings, SettingsError
from mpd.output.compositing import Compositor
from mpd.progress import Pictures, Progress, Take

if TYPE_CHECKING:
    from mpd.base import Base
    from mpd.film import Film
    from mpd.rife.interpolator import Interpolator

KeyframeSource = Image.Image | Pictures | str | Path | bytes


def inbetween(
    model: Base | None,
    sources: Sequence[KeyframeSource],
    settings: Settings,
    *,
    bits: int = 8,
    matte: bool = False,
    interpolator: Interpolator | Film | None = None,
) -> Generator[Progress | Take, None, None]:
    """Make the inbetween video of two or more keyframes: one `Progress` per step, one `Take` per seed.

    model: None suffices for methods without a base model. sources: Pillow images, (H, W, 3) uint8 arrays, or image
    files by path or content. bits: 8 or 16, of the frames' samples. matte: keep transparency, where all keyframes have
    it, as the takes' matte. interpolator: for `rife` and for another rate (`output_fps`) of sampled frames, where None
    loads the weights that are installed, and for `film`. Takes come at the output size: with `fit="contain"` the bars
    are cut away, with `stretch` the aspect is the start keyframe's again; each tells the background that it is over.
    Raises `SettingsError` or `KeyframeError` before the first step, and `WeightsError` where no weights are.
    """
    images = [_image(source) for source in sources]
    settings = replace(settings, background=keyframes.background_for(images, settings))
    if not METHODS[settings.method].needs_model:
        size = flow_size(images[0].size, settings.width, settings.height)
        pictures, frame = keyframes.prepare(images, settings, native_size=size, size_multiple=2)
        lengths = delivered_frames(settings, len(images), FLOW_FRAMES)
        finish = Compositor(images, settings, frame, lengths, matte)
        return _finished(_interpolated(interpolator, finish.with_mattes(pictures), settings, bits), finish)
    if model is None:
        raise SettingsError("method", f"{settings.method} needs a model", "Load one, or choose flow")
    pictures, frame = keyframes.prepare(
        images, settings, native_size=model.native_size, size_multiple=model.size_multiple
    )
    lengths = delivered_frames(settings, len(images), model.native_frames)
    reports: Iterator[Progress | Take] = generate(model, pictures, settings, bits)
    if settings.retimed:
        reports = _retimed(
            reports, settings, segment_frames(settings, len(images), model.native_frames), lengths, interpolator
        )
    return _finished(reports, Compositor(images, settings, frame, lengths, matte))


def generate(
    model: Base, pictures: Sequence[Pictures], settings: Settings, bits: int = 8
) -> Generator[Progress | Take, None, None]:
    """Make frames from pictures of the model's size (`mpd.segments.generate`): the second half of the work."""
    from mpd import segments

    return segments.generate(model, pictures, settings, bits)


def _retimed(
    reports: Iterator[Progress | Take],
    settings: Settings,
    segments: Sequence[int],
    delivered: Sequence[int],
    interpolator: Interpolator | Film | None,
) -> Iterator[Progress | Take]:
    from mpd import retiming, rife

    learned = interpolator or rife.load()
    return retiming.retimed(reports, settings, segments, delivered, retiming.by(learned), learned.facts)


def _interpolated(
    interpolator: Interpolator | Film | None, pictures: Sequence[Pictures], settings: Settings, bits: int
) -> Iterator[Progress | Take]:
    if METHODS[settings.method].interpolator is None:
        from mpd import flow

        return flow.generate(pictures, settings, bits)
    from mpd import film, rife

    if METHODS[settings.method].interpolator == "film":
        if not isinstance(interpolator, film.Film):
            raise SettingsError("method", "film needs an interpolator", "Load one, mpd.film.Film(path), or choose rife")
        return film.generate(interpolator, pictures, settings, bits)
    if isinstance(interpolator, film.Film):
        raise SettingsError("method", "rife has a network of its own", "Choose film, or load mpd.rife.load()")
    return rife.generate(interpolator or rife.load(), pictures, settings, bits)


def _finished(reports: Iterator[Progress | Take], finish: Compositor) -> Generator[Progress | Take, None, None]:
    for report in reports:
        yield finish(report) if isinstance(report, Take) else report


def _image(source: KeyframeSource) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    return photographs.load(source) if isinstance(source, str | Path | bytes) else Image.fromarray(source)
