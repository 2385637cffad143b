"""Keyframes: upright pictures to a model's size, and the way back.

Knows nothing of files, models, tensors or video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from mpd.methods import LIMITS, METHODS, Fit, Settings, SettingsError
from mpd.photographs import Size
from mpd.progress import Frames, Pictures

Look = Callable[[Image.Image], Image.Image]


LONGEST_OUT = 4096
"""Longest side of a video that `stretch` brings back to its source's aspect: as far as H.264's levels go."""

LEAST_CONTRAST = 0.1
"""Mean difference of what is visible from the background, of that of black from white, below which it is lost in it."""
BACKGROUNDS = ("#000000", "#ffffff", "#808080")
"""What is chosen from where no background is asked for; of equals the first."""
_SAMPLED = 512
"""Pixels of each side that are looked at for it."""


@dataclass(frozen=True)
class Framing:
    """The way back from the size that was sampled to the size that is delivered."""

    #: Size of the fitted pictures in pixels: width, then height.
    width: int
    height: int
    #: (left, top, right, bottom) of the source inside them when `contain` put bars around it, else None.
    box: tuple[int, int, int, int] | None
    #: (width, height) of the finished video, both even.
    out: Size


def fit(image: Image.Image, size: Size, fit: Fit, background: str) -> tuple[Pictures, Framing]:
    """Bring a picture to `size` (width, height): pixels (height, width, 3) uint8 and the way back.

    `cover` fills the size and crops what hangs over; `contain` keeps everything and puts `background` bars
    around it; `stretch` distorts. `background` also shows through transparent pixels.
    """
    image, frame = _opaque(image, background), _frame(image.size, size, fit)
    if fit == "cover":
        return _pixels(_cover(image, size)), frame
    if frame.box is None:
        return _pixels(image.resize(size, Image.Resampling.LANCZOS)), frame
    canvas = Image.new("RGB", size, background)
    canvas.paste(image.resize(frame.out, Image.Resampling.LANCZOS), frame.box[:2])
    return _pixels(canvas), frame


def _frame(source: Size, size: Size, fit: Fit) -> Framing:
    """Give the way back from `size` to a picture of size `source` that `fit` would give."""
    width, height = size
    if fit == "cover":
        return Framing(width, height, None, size)
    if fit == "stretch":
        return Framing(width, height, None, _unstretched(source, size))
    inner = _inside(source, size)
    if inner == size:
        return Framing(width, height, None, size)
    left, top = (width - inner[0]) // 4 * 2, (height - inner[1]) // 4 * 2
    return Framing(width, height, (left, top, left + inner[0], top + inner[1]), inner)


def restore(frames: Frames, frame: Framing) -> Frames:
    """Undo `fit` on frames (N, H, W, 3) or a matte (N, H, W): cut `contain` bars off, undo `stretch`, leave `cover`."""
    if frame.box is not None:
        left, top, right, bottom = frame.box
        frames = frames[:, top:bottom, left:right]
    if (frames.shape[2], frames.shape[1]) == frame.out:
        return frames
    restored = np.empty((len(frames), frame.out[1], frame.out[0], *frames.shape[3:]), frames.dtype)
    for index, picture in enumerate(frames):
        restored[index] = _resized(picture, frame.out)
    return restored


def prepare(
    keyframes: Sequence[Image.Image], settings: Settings, *, native_size: Size, size_multiple: int
) -> tuple[list[Pictures], Framing]:
    """Bring all keyframes of a job to one size, and give the way back, which follows the first of them.

    The size is the settings' own, else `native_size` (width, height) turned to the first keyframe's
    orientation; a method without a model gets `contain` pictures without bars, which only a model's size needs.
    Raises `SettingsError` when a side is no multiple of `size_multiple`.
    """
    if not keyframes:
        raise SettingsError("keyframes", "there are none", "Send the start and the end image")
    frame = plan(keyframes[0].size, settings, native_size=native_size, size_multiple=size_multiple)
    return fitted(keyframes, settings, frame), frame


def plan(source: Size, settings: Settings, *, native_size: Size, size_multiple: int) -> Framing:
    """Give the way back that `prepare` would, by the size of the first keyframe alone. Raises `SettingsError`."""
    size = _job_size(source, settings, native_size, size_multiple)
    frame = _frame(source, size, settings.fit)
    if not METHODS[settings.method].needs_model:  # optical flow would carry the bars into the picture
        frame = Framing(*frame.out, None, frame.out)
    return frame


def fitted(
    keyframes: Sequence[Image.Image], settings: Settings, frame: Framing, look: Look = lambda image: image
) -> list[Pictures]:
    """Bring all keyframes to the size that is sampled, as `plan` has it. look: what is made of each beforehand.

    The bars of the first keyframe are cut off again, so with `contain` the others lie inside them whole.
    """
    background, size = background_for(keyframes, settings), (frame.width, frame.height)
    if settings.fit != "contain":
        return _each(keyframes, lambda index, image: fit(look(image), size, settings.fit, background)[0])
    inner = _each(
        keyframes,
        lambda index, image: (
            fit(look(image), frame.out, "contain", background)[0]
            if index
            else _scaled(_opaque(look(image), background), frame.out)
        ),
    )
    if frame.box is None:
        return inner
    left, top, right, bottom = frame.box
    pictures = [_pixels(Image.new("RGB", size, background)) for _ in inner]
    for picture, content in zip(pictures, inner, strict=True):
        picture[top:bottom, left:right] = content
    return pictures


def background_for(keyframes: Sequence[Image.Image], settings: Settings) -> str:
    """Give the colour under transparent pixels and of the bars, as #rrggbb: the settings' own, or one for contrast.

    Where something is transparent, it is what differs most from the visible pixels of all keyframes; elsewhere black.
    """
    if settings.background is not None:
        return settings.background
    contrasts = np.zeros(len(BACKGROUNDS))
    for index in range(len(keyframes)):
        contrasts += _contrasts(keyframes[index])
    return BACKGROUNDS[int(contrasts.argmax())]


def contrast(keyframes: Sequence[Image.Image], background: str) -> float | None:
    """Measure how far what is visible of the keyframes differs from a background: 0 nowhere, 1 as black from white.

    The mean over the keyframe that differs least, each pixel by how visible it is; None where nothing is transparent.
    """
    colour = np.array(ImageColor.getrgb(background)[:3], np.float32)
    found = [_difference(keyframes[index], colour) for index in range(len(keyframes))]
    return min((one for one in found if one is not None), default=None)


def _difference(image: Image.Image, colour: NDArray[np.float32]) -> float | None:
    if not _is_transparent(image):
        return None
    samples = _samples(image)
    visible = samples[..., 3]
    if not visible.any():
        return None
    apart = np.linalg.norm(samples[..., :3] - colour, axis=-1) / (255 * np.sqrt(3))
    return float((apart * visible).sum() / visible.sum())


def _samples(image: Image.Image) -> NDArray[np.float32]:
    """Give a few of the pixels: (h, w, 4)."""
    shown = (min(_SAMPLED, image.width), min(_SAMPLED, image.height))
    return np.asarray(image.resize(shown, Image.Resampling.NEAREST).convert("RGBA"), np.float32)


def _contrasts(image: Image.Image) -> NDArray[np.float64]:
    """Measure how much the visible pixels differ from each of the backgrounds; nothing where all are opaque."""
    if not _is_transparent(image):
        return np.zeros(len(BACKGROUNDS))
    samples = _samples(image)
    colours, alpha = samples[..., :3], samples[..., 3]
    # The root, because a few pixels that vanish are worse than many that differ less.
    return np.array(
        [
            np.sqrt(np.linalg.norm(colours - ImageColor.getrgb(background), axis=-1)).ravel() @ alpha.ravel()
            for background in BACKGROUNDS
        ]
    )


def have_mattes(keyframes: Sequence[Image.Image]) -> bool:
    """Tell whether the video of these keyframes has transparency: all of them can, and something is transparent."""
    transparent = False
    for index in range(len(keyframes)):
        if "A" not in keyframes[index].getbands():
            return False
        transparent = transparent or _is_transparent(keyframes[index])
    return transparent


def mattes(keyframes: Sequence[Image.Image], settings: Settings, frame: Framing) -> list[Pictures]:
    """Give how opaque each pixel of the pictures of `prepare` is: (H, W) uint8 for each; bars are transparent."""
    return [_grey(picture) for picture in fitted(keyframes, _on_black(settings), frame, _matte)]


def exact(
    keyframes: Sequence[Image.Image], settings: Settings, frame: Framing, look: Look = lambda image: image
) -> list[Pictures]:
    """Give the keyframes (H, W, 3) at the output's size as if no model had been between: scaled once at most.

    look: as in `fitted`.
    """
    if frame.box is None and frame.out != (frame.width, frame.height):
        background = background_for(keyframes, settings)
        return _each(keyframes, lambda index, image: _scaled(_opaque(look(image), background), frame.out))
    return [_eight(picture) for picture in restore(np.stack(fitted(keyframes, settings, frame, look)), frame)]


def exact_mattes(keyframes: Sequence[Image.Image], settings: Settings, frame: Framing) -> list[Pictures]:
    """Give how opaque each pixel of the pictures of `exact` is, as `mattes` does for those of `prepare`."""
    return [_grey(picture) for picture in exact(keyframes, _on_black(settings), frame, _matte)]


def _each(keyframes: Sequence[Image.Image], work: Callable[[int, Image.Image], Pictures]) -> list[Pictures]:
    """Apply `work` to each keyframe by its number.

    No name keeps one while the next is decoded, as that of a loop would.
    """
    return [work(index, keyframes[index]) for index in range(len(keyframes))]


def _is_transparent(image: Image.Image) -> bool:
    """Tell whether anything shines through a picture."""
    return "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255)


def _matte(image: Image.Image) -> Image.Image:
    """Make a picture of the alpha channel."""
    return Image.merge("RGB", [image.getchannel("A")] * 3)


def _on_black(settings: Settings) -> Settings:
    return replace(settings, background="#000000")


def _grey(picture: Pictures) -> Pictures:
    return np.ascontiguousarray(picture[..., 0])


def _job_size(source: Size, settings: Settings, native_size: Size, multiple: int) -> Size:
    if settings.width is None or settings.height is None:
        turned = (source[0] < source[1]) != (native_size[0] < native_size[1]) and source[0] != source[1]
        return (native_size[1], native_size[0]) if turned else native_size
    for name, value in (("width", settings.width), ("height", settings.height)):
        if value % multiple:
            limit = LIMITS[name]
            near = value // multiple * multiple, -(-value // multiple) * multiple
            sizes = " or ".join(str(side) for side in near if limit.low <= side <= limit.high)
            raise SettingsError(name, f"{value} is no multiple of {multiple}", f"Send {sizes}")
    return settings.width, settings.height


def _opaque(image: Image.Image, background: str) -> Image.Image:
    if "A" not in image.getbands():
        return image if image.mode == "RGB" else image.convert("RGB")
    below = Image.new("RGBA", image.size, (*ImageColor.getrgb(background)[:3], 255))
    return Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")


def _cover(image: Image.Image, size: Size) -> Image.Image:
    scale = max(size[0] / image.width, size[1] / image.height)
    if scale == 1:  # whole pixels: a crop by half a pixel would resample, and so blur, the whole picture
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        return image.crop((left, top, left + size[0], top + size[1]))
    width, height = min(image.width, size[0] / scale), min(image.height, size[1] / scale)
    x, y = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(size, Image.Resampling.LANCZOS, box=(x, y, x + width, y + height))


def _even(length: float, most: int) -> int:
    return min(most, max(2, 2 * round(length / 2)))


def _inside(source: Size, size: Size) -> Size:
    """Find the largest even size of the source's aspect inside `size`; all of it where bars would be a hair wide."""
    scale = min(size[0] / source[0], size[1] / source[1])
    inner = _even(source[0] * scale, size[0]), _even(source[1] * scale, size[1])
    bars = (size[0] - inner[0]) + (size[1] - inner[1])
    return size if bars <= 2 else inner


def _unstretched(source: Size, size: Size) -> Size:
    """Find the even size of the picture's own aspect with about the pixels of `size`, no side beyond `LONGEST_OUT`."""
    if _inside(source, size) == size:
        return size
    scale = (size[0] * size[1] / (source[0] * source[1])) ** 0.5
    scale = min(scale, LONGEST_OUT / max(source))
    return _even(source[0] * scale, LONGEST_OUT), _even(source[1] * scale, LONGEST_OUT)


def _scaled(image: Image.Image, size: Size) -> Pictures:
    return _pixels(image.resize(size, Image.Resampling.LANCZOS))


def _pixels(image: Image.Image) -> Pictures:
    return np.array(image, dtype=np.uint8)


def _eight(picture: Frames) -> Pictures:
    return picture.astype(np.uint8, copy=False)


def _resized(picture: Frames, size: Size) -> Frames:
    """Bring a picture (H, W, 3) or (H, W) to another size.

    One channel at a time with 16 bits, which Pillow has no colours of.
    """
    if picture.dtype == np.uint8:
        return _pixels(Image.fromarray(_eight(picture)).resize(size, Image.Resampling.LANCZOS))
    if picture.ndim == 3:
        return np.dstack([_resized(picture[..., channel], size) for channel in range(picture.shape[2])])
    channel = Image.fromarray(picture.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    levels: Frames = np.rint(np.clip(np.asarray(channel), 0, 65535)).astype(np.uint16)
    return levels
