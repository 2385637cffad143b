"""Photographs: the file of any picture to an upright sRGB picture in memory.

Knows nothing of models, sizes that are wanted, tensors or video.
"""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

Size = tuple[int, int]
"""Width, then height."""


MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded: Pillow's own bound, about 11,000 × 8,000."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")  # an MPO is opened as JPEG; Pillow knows its name only after one
_READS = "JPEG, PNG, WebP, AVIF or HEIC"
_SEVERAL_PICTURES_BUT_STILL = ("MPO", "HEIF")  # a phone's depth map, gain map or burst beside the photograph
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
_PNG_DEPTH = 24
"""Where a PNG tells the bits of a sample."""
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


def load(source: bytes | str | Path, enough: Size | None = None) -> Image.Image:
    """Read an encoded picture (bytes, or the path of a file) as upright RGB, or RGBA where it has an alpha channel.

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
    if image.format == "PNG" and image.mode == "RGB" and "transparency" in image.info and data[_PNG_DEPTH] == 16:
        _make_transparent(image, data)
    return _srgb(_upright(image))


def _make_transparent(image: Image.Image, data: bytes) -> None:
    """Give a PNG of 16 bits its transparent colour: Pillow has but 8 of a pixel's bits to find it by."""
    import cv2

    samples = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    key = np.array(image.info.pop("transparency")[::-1], np.uint16)
    image.putalpha(Image.fromarray(np.where((samples[..., :3] == key).all(-1), np.uint8(0), np.uint8(255))))


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
    if alpha is not None:
        colour.putalpha(alpha)
    colour.info.clear()
    return colour


def _channels(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split a picture into its colour part in mode L, RGB or CMYK, and its alpha channel or None."""
    if image.mode.startswith("I"):
        samples = np.asarray(image, dtype=np.int64)
        key = image.info.get("transparency")
        shown = None if key is None else Image.fromarray(np.where(samples == key, np.uint8(0), np.uint8(255)))
        return Image.fromarray(((samples * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8)), shown
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
