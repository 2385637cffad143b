"""Keyframes: any photograph to an upright sRGB picture, that picture to a model's size, and the way back.

Knows nothing of models, tensors or video.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageColor

from mpd.methods import LIMITS, METHODS, Fit, Settings, SettingsError
from mpd.progress import Frames

Picture = NDArray[np.uint8]
Size = tuple[int, int]
Look = Callable[[Image.Image], Image.Image]

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded: Pillow's own bound, about 11,000 × 8,000."""

LONGEST_OUT = 4096
"""Longest side of a video that `stretch` brings back to its source's aspect: as far as H.264's levels go."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")  # an MPO is opened as JPEG; Pillow knows its name only after one
_READS = "JPEG, PNG, WebP, AVIF or HEIC"
_SEVERAL_PICTURES_BUT_STILL = ("MPO", "HEIF")  # a phone's depth map, gain map or burst beside the photograph
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
_LET_GO = ("JPEG", "PNG")
"""Formats whose decoders keep nothing beside a picture that is loaded: it need not be copied to be rid of them."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright."""
_SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, IndexError, KeyError)
_OTHER_FILES = {
    b"GIF8": "a GIF",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"BM": "a BMP",
    b"%PDF": "a PDF",
    b"8BPS": "a Photoshop file",
    b"<svg": "an SVG",
    b"<?xml": "an SVG or another XML file",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"PK\3\4": "a zip file",
    b"\x1aE\xdf\xa3": "a video",
}


class KeyframeError(ValueError):
    """A file cannot be used as a keyframe: `problem` says why, `remedy` what to send instead.

    index: which keyframe of several it is, where that is known.
    """

    index: int | None = None

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}.")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Frame:
    """The way back from the size that was sampled to the size that is delivered."""

    #: Size of the fitted pictures in pixels: width, then height.
    width: int
    height: int
    #: (left, top, right, bottom) of the source inside them when `contain` put bars around it, else None.
    box: tuple[int, int, int, int] | None
    #: (width, height) of the finished video, both even.
    out: Size


def load(source: bytes | str | Path, enough: Size | None = None) -> Image.Image:
    """Read an encoded picture (bytes, or the path of a file) as upright RGB, or RGBA where it has transparency.

    EXIF rotation is applied, an embedded colour profile is converted to sRGB, palettes, CMYK, grey and
    16-bit samples become 8-bit RGB. enough: (width, height) above which a JPEG need not be: it comes at the least of
    1/2, 1/4 and 1/8 of its size that has both, which costs a fraction of the time and memory. Raises `KeyframeError`.
    """
    if isinstance(source, bytes):
        return _decode(source, enough)
    path = Path(source)
    try:
        return _decode(_read(path), enough)
    except KeyframeError as error:
        raise KeyframeError(f"{path}: {error.problem}", error.remedy) from error


def check_head(data: bytes) -> None:
    """Refuse a file that does not begin as a picture that can be read; decodes nothing. Raises `KeyframeError`."""
    _open(data)


def size_of(data: bytes) -> Size:
    """Give the (width, height) that `load` would. Raises `KeyframeError`.

    Decodes nothing, but a PNG that may be turned.
    """
    image = _open(data)
    # Pillow reads all of a PNG to see whether it says behind its pixels which way is up.
    if image.format == "PNG" and not any(mark in data for mark in _PNG_METADATA):
        return image.size
    return image.size[::-1] if _turn(image) in _SIDEWAYS else image.size


def fit(image: Image.Image, size: Size, fit: Fit, background: str) -> tuple[Picture, Frame]:
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


def _frame(source: Size, size: Size, fit: Fit) -> Frame:
    """Give the way back from `size` to a picture of size `source` that `fit` would give."""
    width, height = size
    if fit == "cover":
        return Frame(width, height, None, size)
    if fit == "stretch":
        return Frame(width, height, None, _unstretched(source, size))
    inner = _inside(source, size)
    if inner == size:
        return Frame(width, height, None, size)
    left, top = (width - inner[0]) // 4 * 2, (height - inner[1]) // 4 * 2
    return Frame(width, height, (left, top, left + inner[0], top + inner[1]), inner)


def restore(frames: Frames, frame: Frame) -> Frames:
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
) -> tuple[list[Picture], Frame]:
    """Bring all keyframes of a job to one size, and give the way back, which follows the first of them.

    The size is the settings' own, else `native_size` (width, height) turned to the first keyframe's
    orientation; a method without a model gets `contain` pictures without bars, which only a model's size needs.
    Raises `SettingsError` when a side is no multiple of `size_multiple`.
    """
    if not keyframes:
        raise SettingsError("keyframes", "there are none", "Send the start and the end image")
    frame = plan(keyframes[0].size, settings, native_size=native_size, size_multiple=size_multiple)
    return fitted(keyframes, settings, frame), frame


def plan(source: Size, settings: Settings, *, native_size: Size, size_multiple: int) -> Frame:
    """Give the way back that `prepare` would, by the size of the first keyframe alone. Raises `SettingsError`."""
    size = _job_size(source, settings, native_size, size_multiple)
    frame = _frame(source, size, settings.fit)
    if not METHODS[settings.method].needs_model:  # optical flow would carry the bars into the picture
        frame = Frame(*frame.out, None, frame.out)
    return frame


def fitted(
    keyframes: Sequence[Image.Image], settings: Settings, frame: Frame, look: Look = lambda image: image
) -> list[Picture]:
    """Bring all keyframes to the size that is sampled, as `plan` has it. look: what is made of each beforehand.

    The bars of the first keyframe are cut off again, so with `contain` the others lie inside them whole.
    """
    background, size = settings.background, (frame.width, frame.height)
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


def have_mattes(keyframes: Sequence[Image.Image]) -> bool:
    """Tell whether the video of these keyframes has transparency: all of them have."""
    return all("A" in image.getbands() for image in keyframes)


def mattes(keyframes: Sequence[Image.Image], settings: Settings, frame: Frame) -> list[Picture]:
    """Give how opaque each pixel of the pictures of `prepare` is: (H, W) uint8 for each; bars are transparent."""
    return [_grey(picture) for picture in fitted(keyframes, _on_black(settings), frame, _matte)]


def exact(
    keyframes: Sequence[Image.Image], settings: Settings, frame: Frame, look: Look = lambda image: image
) -> list[Picture]:
    """Give the keyframes (H, W, 3) at the output's size as if no model had been between: scaled once at most.

    look: as in `fitted`.
    """
    if frame.box is None and frame.out != (frame.width, frame.height):
        return _each(
            keyframes,
            lambda index, image: _scaled(_opaque(look(image), settings.background), frame.out),
        )
    return [_eight(picture) for picture in restore(np.stack(fitted(keyframes, settings, frame, look)), frame)]


def exact_mattes(keyframes: Sequence[Image.Image], settings: Settings, frame: Frame) -> list[Picture]:
    """Give how opaque each pixel of the pictures of `exact` is, as `mattes` does for those of `prepare`."""
    return [_grey(picture) for picture in exact(keyframes, _on_black(settings), frame, _matte)]


def _each(keyframes: Sequence[Image.Image], work: Callable[[int, Image.Image], Picture]) -> list[Picture]:
    """Apply `work` to each keyframe by its number.

    No name keeps one while the next is decoded, as that of a loop would.
    """
    return [work(index, keyframes[index]) for index in range(len(keyframes))]


def _matte(image: Image.Image) -> Image.Image:
    """Make a picture of the alpha channel."""
    return Image.merge("RGB", [image.getchannel("A")] * 3)


def _on_black(settings: Settings) -> Settings:
    return replace(settings, background="#000000")


def _grey(picture: Picture) -> Picture:
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyframeError("there is no such file", "Check the path") from None
    except OSError as error:
        raise KeyframeError(f"cannot be read ({error.strerror})", "Name a file that can be") from None


def _decode(data: bytes, enough: Size | None = None) -> Image.Image:
    image = _open(data)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _SEVERAL_PICTURES_BUT_STILL:
        raise KeyframeError(f"the picture is animated ({frames} frames)", "Send one still picture")
    if enough is not None and image.format in ("JPEG", "MPO"):  # a draft of a HEIC is its thumbnail
        image.draft(image.mode, enough[::-1] if _turn(image) in _SIDEWAYS else enough)
    try:
        image.load()
    except _DECODER_ERRORS as error:
        raise KeyframeError(f"the {image.format} data is damaged or cut short", "Save or upload it again") from error
    return _srgb(_upright(image))


@cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _open(data: bytes) -> Image.Image:
    _register_heif()
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large() from error
    except _DECODER_ERRORS as error:
        raise KeyframeError(_what_it_is(data), f"Send {_READS}") from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_large()
    return image


def _too_large() -> KeyframeError:
    return KeyframeError(f"the picture has more than {MAX_PIXELS // 10**6} million pixels", "Send a smaller copy of it")


def _what_it_is(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data[4:8] == b"ftyp":
        return "this is a video, or an HEIC or AVIF file that is damaged"
    for start, name in _OTHER_FILES.items():
        if data.startswith(start):
            return f"this is {name}"
    return "this is no picture in a format that can be read"


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF rotation; damaged metadata counts as none, as it does in browsers.

    Pillow's own `exif_transpose` also writes the other metadata anew, and a damaged part of it keeps it from turning.
    """
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # noqa: BLE001 - damaged metadata does not make a picture unusable
        return None


def _srgb(image: Image.Image) -> Image.Image:
    """Make RGB or RGBA uint8 in sRGB of any mode that the formats above decode to."""
    profile = image.info.get("icc_profile")
    colour, alpha = _channels(image)
    if profile:
        colour = _convert_profile(colour, profile)
    if colour.mode != "RGB" or image.format not in _LET_GO:
        colour = colour.convert("RGB")
    if alpha is not None and alpha.getextrema() != (255, 255):
        colour.putalpha(alpha)
    colour.info.clear()
    return colour


def _channels(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split a picture into its colour part in mode L, RGB or CMYK, and its alpha channel or None."""
    if image.mode.startswith("I"):
        samples = np.asarray(image, dtype=np.int64)
        return Image.fromarray(((samples * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8)), None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        return (image.getchannel("L") if image.mode == "LA" else rgba.convert("RGB")), alpha
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _convert_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert from the embedded profile to sRGB. A profile that is damaged or of other channels is taken for sRGB.

    Relative colorimetric with black point compensation, as browsers do; CMYK perceptual, as its profiles mean.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=_intent(image.mode),
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted


def _intent(mode: str) -> ImageCms.Intent:
    return ImageCms.Intent.PERCEPTUAL if mode == "CMYK" else ImageCms.Intent.RELATIVE_COLORIMETRIC


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


def _scaled(image: Image.Image, size: Size) -> Picture:
    return _pixels(image.resize(size, Image.Resampling.LANCZOS))


def _pixels(image: Image.Image) -> Picture:
    return np.array(image, dtype=np.uint8)


def _eight(picture: Frames) -> Picture:
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
