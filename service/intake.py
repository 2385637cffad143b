"""Keyframes at the door: is this a picture that a worker can use?

The bytes alone decide, never a name or a declared type. Everything is checked here, up to decoding each picture once,
so that a bad file is refused in the answer to its request and not minutes later in a job. Knows nothing of HTTP
bodies, storage or sizes of videos. Decoding takes up to a second: call it from a thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import threading
import urllib.parse
from dataclasses import dataclass
from typing import Literal, NoReturn

import pillow_heif
from PIL import ExifTags, Image, UnidentifiedImageError

from service.errors import Problem
from service.settings import Settings

pillow_heif.register_heif_opener()

Format = Literal["jpeg", "png", "webp", "avif", "heic"]
CONTENT_TYPES: dict[Format, str] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
}
ENDINGS: dict[Format, str] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif", "heic": ".heic"}
NAMES = "JPEG, PNG, WebP, AVIF or HEIC"

SMALLEST = 16
"""Pixels of the shorter side: below it there is nothing to see move."""
LONGEST_ASPECT = 8
"""Longer side over shorter side: no video has that shape, and cropping would leave next to nothing."""
MOST_SCANS = 200
"""Scans of a JPEG. A progressive one has about ten; each costs a pass over all pixels for a few bytes of file."""

# MPO is what Pillow calls a JPEG with further pictures behind it, such as a phone's gain map.
_FORMATS: dict[str, Format] = {
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "AVIF": "avif",
    "HEIF": "heic",
}
_OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
    b"<?xml": "XML",
    b"<!DOC": "an HTML page",
    b"<html": "an HTML page",
    b"{": "JSON",
}
_SIDEWAYS = (5, 6, 7, 8)
_decoders = threading.BoundedSemaphore(2)
"""Two at a time: a picture of 40 megapixels is 160 MB while it is decoded."""


@dataclass(frozen=True)
class ImageInfo:
    """One usable picture. width, height: as it is seen, after EXIF rotation. sha256: hex, of the file. size: bytes."""

    width: int
    height: int
    format: Format
    content_type: str
    has_alpha: bool
    sha256: str
    size: int


def inspect(data: bytes, settings: Settings, *, field: str = "image") -> ImageInfo:
    """What the file is. Raises `Problem` (`invalid-image`, `image-too-large`) naming `field`.

    Still images of any mode (CMYK, palette, 16 bits a channel, alpha) pass.
    """
    if not data:
        _refuse(field, "The file is empty.", f"Send the bytes of a {NAMES} image.")
    _check_size(len(data), settings, field)
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MOST_SCANS:
        _refuse(field, f"The JPEG has more than {MOST_SCANS} scans.", "Save it again as an ordinary JPEG.")
    with _decoders:
        return _decode(data, settings, field)


def is_data_uri(text: str) -> bool:
    return text[:5].lower() == "data:"


def decode_data_uri(uri: str, settings: Settings, *, field: str = "image") -> bytes:
    """The bytes of a base64 data URI; its declared media type is ignored. Raises `Problem` as `inspect` does."""
    head, comma, body = uri.partition(",")
    remedy = "Write it as data:image/png;base64,… with the file's bytes in base64."
    if not is_data_uri(head) or not comma or not head.lower().endswith(";base64"):
        _refuse(field, "This is not a base64 data URI.", remedy)
    _check_size(len(body) * 3 // 4 - 2, settings, field)
    text = "".join(urllib.parse.unquote(body).split())
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "invalid-image", "The data URI's base64 is damaged.", field=field, remedy=remedy) from error


def _decode(data: bytes, settings: Settings, field: str) -> ImageInfo:
    image = _open(data, settings, field)
    with image:
        kind = _FORMATS[image.format or ""]
        width, height = image.size
        _check_shape(width, height, settings, field)
        # An MPO's or a HEIC's further pictures are no frames of an animation; the first, or the primary one, counts.
        if image.format not in ("MPO", "HEIF") and getattr(image, "is_animated", False):
            _refuse(field, "The image is animated.", "Send one of its frames as a still image.")
        try:
            if kind == "jpeg":
                # At an eighth of its size every bit is still read. (A draft of a HEIC is its thumbnail instead.)
                image.draft(image.mode, (max(1, width // 8), max(1, height // 8)))
            image.load()
            has_alpha = image.has_transparency_data
        except Exception as error:
            # Decoders meet hostile bytes with exceptions of any kind.
            raise _damaged(kind, field) from error
        if kind != "jpeg" and image.size != (width, height):
            raise _damaged(kind, field)
        if _orientation(image) in _SIDEWAYS:
            width, height = height, width
        return ImageInfo(
            width,
            height,
            kind,
            CONTENT_TYPES[kind],
            has_alpha,
            hashlib.sha256(data).hexdigest(),
            len(data),
        )


def _open(data: bytes, settings: Settings, field: str) -> Image.Image:
    """The image with its header read and nothing decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "AVIF", "HEIF"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("far more", settings, field) from error
    except UnidentifiedImageError as error:
        start = data[:512].lstrip().lower() if data[:1].isspace() else data[:512]
        other = next((name for magic, name in _OTHERS.items() if start.lower().startswith(magic.lower())), None)
        if other is None:
            detail = f"The file cannot be read as a {NAMES} image."
        else:
            detail = f"The file is {other}, not a {NAMES} image."
        raise Problem(422, "invalid-image", detail, field=field, remedy=f"Send a still {NAMES} image.") from error
    except Exception as error:
        raise _damaged("image", field) from error


def _check_size(size: int, settings: Settings, field: str) -> None:
    if size > settings.max_image_bytes:
        raise Problem(
            413,
            "image-too-large",
            f"The file has {size:,} bytes; at most {settings.max_image_bytes:,} are taken.",
            field=field,
            remedy="Scale the image down, or save it as JPEG or WebP.",
        )


def _check_shape(width: int, height: int, settings: Settings, field: str) -> None:
    if width * height > settings.max_image_pixels:
        raise _too_many_pixels(f"{width} × {height} = {width * height:,}", settings, field)
    if min(width, height) < SMALLEST:
        _refuse(
            field,
            f"The image is {width} × {height} pixels; each side needs at least {SMALLEST}.",
            "Send a larger image.",
        )
    if max(width, height) > LONGEST_ASPECT * min(width, height):
        _refuse(
            field,
            f"The image is {width} × {height} pixels, longer than {LONGEST_ASPECT}:1.",
            f"Crop it to at most {LONGEST_ASPECT}:1.",
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 where there is none or it is damaged, as browsers have it."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged metadata does not make a picture unusable
        return 1


def _too_many_pixels(count: str, settings: Settings, field: str) -> Problem:
    return Problem(
        413,
        "image-too-large",
        f"The image has {count} pixels; at most {settings.max_image_pixels:,} are taken.",
        field=field,
        remedy="Scale the image down; nothing beyond the video's size is used.",
    )


def _damaged(what: str, field: str) -> Problem:
    detail = f"The {what.upper() if what != 'image' else what} is truncated or damaged."
    return Problem(422, "invalid-image", detail, field=field, remedy="Export the image again and send the whole file.")


def _refuse(field: str, detail: str, remedy: str) -> NoReturn:
    raise Problem(422, "invalid-image", detail, field=field, remedy=remedy)
