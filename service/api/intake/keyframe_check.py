"""Keyframes at the door: is this a picture that a worker can use?

The bytes alone decide, never a name or a declared type. Everything is checked here, up to decoding each picture once,
so that a bad file is refused in the answer to its request and not minutes later in a job. Knows nothing of HTTP
bodies, storage or sizes of videos. Decoding takes up to a second: call it from a thread.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NoReturn

import pillow_heif
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from service.problems import Problem
from service.settings import ServiceSettings

pillow_heif.register_heif_opener()

ImageFormat = Literal["jpeg", "png", "webp", "avif", "heic"]
CONTENT_TYPES: dict[ImageFormat, str] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
}
ENDINGS: dict[ImageFormat, str] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif", "heic": ".heic"}
NAMES = "JPEG, PNG, WebP, AVIF or HEIC"

SMALLEST = 16
"""Pixels of the shorter side: below it there is nothing to see move."""
LONGEST_ASPECT = 8
"""Longer side over shorter side: no video has that shape, and cropping would leave next to nothing."""
MOST_SCANS = 100
"""Scans of a JPEG. A progressive one has about ten; each costs a pass over all pixels for a few bytes of file."""
MOST_SCANNED = 1_500_000_000
"""Pixels of a JPEG, times its scans: about a second of a decoder. A telephone's 48 megapixels may have thirty scans."""

# MPO is what Pillow calls a JPEG with further pictures behind it, such as a phone's gain map.
_FORMATS: dict[str, ImageFormat] = {
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
_HELD: dict[ImageFormat, float] = {"jpeg": 0.5, "png": 4.2, "webp": 18.0, "avif": 10.0, "heic": 5.2}
"""Bytes for each pixel that are held while a picture is checked, as measured; a JPEG's beside its coefficients."""
_DECODING = 65
"""Percent of MAX_BODIES_BYTES that pictures may take while they are decoded."""


_decoders = threading.BoundedSemaphore(2)
"""Two at a time."""


class _Memory:
    """What the decoders at work may hold together. One alone may always have what it needs."""

    def __init__(self) -> None:
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, need: int, room: int) -> Iterator[None]:
        """Hold `need` bytes, once they fit into `room` beside the others'."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + need <= room)
            self._held += need
        try:
            yield
        finally:
            with self._changed:
                self._held -= need
                self._changed.notify_all()


_memory = _Memory()


@dataclass(frozen=True)
class ImageInfo:
    """One usable picture."""

    #: Width and height are those of the picture as it is seen, after EXIF rotation.
    width: int
    height: int
    format: ImageFormat
    content_type: str
    has_alpha: bool
    #: Hex, of the file.
    sha256: str
    #: Bytes of the file.
    size: int


def inspect(data: bytes, settings: ServiceSettings, *, field: str = "image", others: int = 0) -> ImageInfo:
    """Read what kind of picture a file is. Raises `Problem` (`invalid-image`, `image-too-large`) naming `field`.

    Still images of any mode (CMYK, palette, 16 bits a channel, alpha) pass. others: pixels of the same request's other
    pictures, with which this one must not have too many.
    """
    if not data:
        _refuse(field, "The file is empty.", f"Send the bytes of a {NAMES} image.")
    check_size(len(data), settings, field)
    with _decoders, _open(data, settings, field) as image:
        _check_shape(*image.size, settings, field)
        if others + image.width * image.height > settings.max_request_pixels:
            raise _too_many_together(settings, field)
        need = round(_held(image, data, field) * image.width * image.height)
        room = settings.max_bodies_bytes * _DECODING // 100
        if need > room:
            raise _too_much_memory(need, room, field)
        with _memory.of(need, room):
            return _decode(image, data, field)


def _held(image: Image.Image, data: bytes, field: str) -> float:
    """Return how many bytes decoding holds for each pixel. Raises `Problem` for a JPEG that would take too long."""
    held = _HELD[_FORMATS[image.format or ""]]
    if not isinstance(image, JpegImageFile):
        return held
    scans, pixels = data.count(b"\xff\xda"), image.width * image.height
    if scans > MOST_SCANS or scans * pixels > MOST_SCANNED:
        detail = f"The JPEG has {scans} scans; at most {min(MOST_SCANS, MOST_SCANNED // pixels)} are taken at its size."
        _refuse(field, detail, "Save it again as an ordinary JPEG: baseline, or progressive with about ten scans.")
    across, down = (max(layer[side] for layer in image.layer) for side in (1, 2))
    # A damaged file may say that its layers have no samples, which the decoder refuses.
    if scans > 1 and across and down:
        # All coefficients, of two bytes each, are kept until the last scan has come.
        held += 2 * sum(layer[1] * layer[2] for layer in image.layer) / (across * down)
    return held


def _decode(image: Image.Image, data: bytes, field: str) -> ImageInfo:
    kind = _FORMATS[image.format or ""]
    width, height = image.size
    # An MPO's or a HEIC's further pictures are no frames of an animation; the first, or the primary one, counts.
    if image.format not in ("MPO", "HEIF") and getattr(image, "is_animated", False):
        _refuse(field, "The image is animated.", "Send one of its frames as a still image.")
    size = width, height
    try:
        if kind == "heic":
            # Without the copy that Pillow would make of it.
            file = pillow_heif.open_heif(io.BytesIO(data))
            found = file[file.primary_index]
            found.load()
            size = found.size
        else:
            if kind == "jpeg":
                # At an eighth of its size every bit is still read.
                image.draft(image.mode, (max(1, width // 8), max(1, height // 8)))
            image.load()
            size = size if kind == "jpeg" else image.size
        has_alpha = image.has_transparency_data
    except Exception as error:
        # Decoders meet hostile bytes with exceptions of any kind.
        raise _damaged(kind, field) from error
    if size != (width, height):
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


def _open(data: bytes, settings: ServiceSettings, field: str) -> Image.Image:
    """Open the image, with its header read and nothing decoded."""
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


def check_size(size: int, settings: ServiceSettings, field: str) -> None:
    """Raise `Problem` 413 for more bytes than a keyframe may have."""
    if size > settings.max_image_bytes:
        raise Problem(
            413,
            "image-too-large",
            f"The file has {size:,} bytes; at most {settings.max_image_bytes:,} are taken.",
            field=field,
            remedy="Scale the image down, or save it as JPEG or WebP.",
        )


def _check_shape(width: int, height: int, settings: ServiceSettings, field: str) -> None:
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
    """Read the EXIF orientation; 1 where there is none or it is damaged, as browsers have it."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged metadata does not make a picture unusable
        return 1


def _too_many_pixels(count: str, settings: ServiceSettings, field: str) -> Problem:
    return Problem(
        413,
        "image-too-large",
        f"The image has {count} pixels; at most {settings.max_image_pixels:,} are taken.",
        field=field,
        remedy="Scale the image down; nothing beyond the video's size is used.",
    )


def _too_many_together(settings: ServiceSettings, field: str) -> Problem:
    return Problem(
        413,
        "image-too-large",
        f"With this one the request's images have more than {settings.max_request_pixels:,} pixels together.",
        field=field,
        remedy="Scale them down; nothing beyond the video's size is used.",
    )


def _too_much_memory(need: int, room: int, field: str) -> Problem:
    return Problem(
        413,
        "image-too-large",
        f"Decoding the image would take {need // 10**6:,} MB of memory; at most {room // 10**6:,} MB are spent on one.",
        field=field,
        remedy="Scale it down, or save it as an ordinary JPEG.",
    )


def _damaged(what: str, field: str) -> Problem:
    detail = f"The {what.upper() if what != 'image' else what} is truncated or damaged."
    return Problem(422, "invalid-image", detail, field=field, remedy="Export the image again and send the whole file.")


def _refuse(field: str, detail: str, remedy: str) -> NoReturn:
    raise Problem(422, "invalid-image", detail, field=field, remedy=remedy)
