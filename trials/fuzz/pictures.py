"""Real picture files of every format that is taken, and ways to damage them.

Everything is decided by a seed. Knows nothing of the service.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pillow_heif
from PIL import Image, ImageCms

pillow_heif.register_heif_opener()

PHOTOGRAPH = Path(__file__).resolve().parents[2] / "examples" / "keyframes" / "start.jpg"
SIZE = (96, 64)
EXTREMES = (0, 1, 15, 16, 17, 127, 128, 4096, 6000, 32767, 32768, 65535)
"""Sides of a picture that a header may claim."""


@cache
def originals() -> dict[str, bytes]:
    """Make whole files by name."""
    with Image.open(PHOTOGRAPH) as opened:
        photo = opened.convert("RGB").resize(SIZE)
    turned = photo.rotate(180)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 30.0)
    several = {"save_all": True, "append_images": [turned]}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "jpeg": _saved(photo, "JPEG"),
        "jpeg-progressive": _saved(photo, "JPEG", progressive=True),
        "jpeg-cmyk": _saved(photo.convert("CMYK"), "JPEG"),
        "jpeg-exif-icc": _saved(photo, "JPEG", exif=exif, icc_profile=profile),
        "jpeg-mpo": _saved(photo, "MPO", **several),
        "png": _saved(photo, "PNG"),
        "png-palette": _saved(photo.convert("P"), "PNG", transparency=0),
        "png-16-bit": _png(16, 2, [b"\0" + random.Random(y).randbytes(SIZE[0] * 6) for y in range(SIZE[1])]),
        "png-interlaced": _interlaced(photo.convert("L")),
        "png-animated": _saved(photo, "PNG", **several),
        "webp-lossy": _saved(photo, "WEBP", exif=exif),
        "webp-lossless": _saved(photo.convert("RGBA"), "WEBP", lossless=True),
        "webp-animated": _saved(photo, "WEBP", **several),
        "avif": _saved(photo, "AVIF", exif=exif),
        "avif-animated": _saved(photo, "AVIF", **several),
        "heic": _saved(photo, "HEIF"),
        "heic-exif": _saved(photo, "HEIF", exif=exif.tobytes()),
    }


def damaged(seed: int, number: int) -> tuple[str, bytes]:
    """Make the `number`th damaged file of a seed: what it is and how it was damaged, and its bytes."""
    draw = random.Random(f"{seed}/{number}")
    names = list(originals())
    name = names[number % len(names)]
    data = bytearray(originals()[name])
    told = [name]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        damage = draw.choice(DAMAGES)
        if data:
            damage(data, draw)
        told.append(damage.__name__)
    return " ".join(told), bytes(data)


def flip(data: bytearray, draw: random.Random) -> None:
    """Flip single bits."""
    for _ in range(draw.choice((1, 2, 8, 64))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def scribble(data: bytearray, draw: random.Random) -> None:
    """Overwrite bytes of the head, where the numbers are."""
    for _ in range(draw.choice((1, 2, 5))):
        data[draw.randrange(min(len(data), 300))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def cut(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    del data[start : start + draw.randrange(1, 400)]


def repeat(data: bytearray, draw: random.Random) -> None:
    start, length = draw.randrange(len(data)), draw.randrange(1, 100)
    data[start:start] = data[start : start + length] * draw.choice((1, 50))


def pad(data: bytearray, draw: random.Random) -> None:
    """Put something before or behind the file."""
    more = draw.randbytes(draw.choice((1, 100, 5000)))
    data[:] = more + data if draw.random() < 0.3 else data + more


def splice(data: bytearray, draw: random.Random) -> None:
    """Join the beginning of this file and the end of another."""
    other = draw.choice(list(originals().values()))
    data[draw.randrange(len(data)) :] = other[draw.randrange(len(other)) :]


def shuffle(data: bytearray, draw: random.Random) -> None:
    """Order segments, chunks or boxes anew, one of them doubled or left out."""
    parts = [bytes(data[start:end]) for start, end in segments(data)]
    if len(parts) < 3:
        return
    head, rest = parts[:1], parts[1:]
    match draw.randrange(3):
        case 0:
            draw.shuffle(rest)
        case 1:
            rest.pop(draw.randrange(len(rest)))
        case _:
            rest.insert(draw.randrange(len(rest)), draw.choice(rest))
    data[:] = b"".join(head + rest)


def lengths(data: bytearray, draw: random.Random) -> None:
    """Make a segment say that it is longer or shorter than it is."""
    starts = _length_fields(data)
    if not starts:
        return
    start, width = draw.choice(starts)
    value = int.from_bytes(data[start : start + width], "big")
    wrong = draw.choice((0, 1, 2, value - 1, value + 1, value * 2, 256**width - 1, 256**width // 2))
    data[start : start + width] = (wrong % 256**width).to_bytes(width, "big")


def sides(data: bytearray, draw: random.Random) -> None:
    """Change the width or height that the header has; a PNG's checksum is made right again."""
    places = _side_fields(data)
    if not places:
        return
    start, width, order = draw.choice(places)
    side = draw.choice((*EXTREMES, 2**31 - 1)) % 256**width
    data[start : start + width] = side.to_bytes(width, order)
    if data.startswith(b"\x89PNG"):
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))


DAMAGES: Sequence[Callable[[bytearray, random.Random], None]] = (
    flip,
    scribble,
    truncate,
    cut,
    repeat,
    pad,
    splice,
    shuffle,
    lengths,
    sides,
)


def segments(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Find where a file's parts begin and end, as far as its own lengths can be followed; the head is the first."""
    if data.startswith(b"\xff\xd8"):
        return _walk(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
    if data.startswith(b"\x89PNG"):
        return _walk(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    if data.startswith(b"RIFF"):
        return _walk(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2)
    return _walk(data, 0, lambda at: int.from_bytes(data[at : at + 4], "big"))


def _walk(data: bytes | bytearray, first: int, length: Callable[[int], int]) -> list[tuple[int, int]]:
    found = [(0, first)] if first else []
    at = first
    while at + 8 <= len(data):
        end = at + max(4, length(at))
        # A JPEG's pixels have no length: they go to the end.
        if end > len(data) or data[at : at + 2] == b"\xff\xda":
            end = len(data)
        found.append((at, end))
        at = end
    return found


def _length_fields(data: bytearray) -> list[tuple[int, int]]:
    """Find the (start, width) of each length in the file."""
    inner = 2 if data.startswith(b"\xff\xd8") else 4 if data.startswith(b"RIFF") else 0
    width = 2 if inner == 2 else 4
    return [(start + inner, width) for start, _ in segments(data) if start + inner + width <= len(data)]


def _side_fields(data: bytearray) -> list[tuple[int, int, str]]:
    """Find the (start, width, byte order) of each side of the picture."""
    if data.startswith(b"\x89PNG") and len(data) > 33:
        return [(16, 4, "big"), (20, 4, "big")]
    found: list[tuple[int, int, str]] = []
    for marker in (b"\xff\xc0\x00", b"\xff\xc2\x00"):
        at = data.find(marker)
        found += [(at + 5, 2, "big"), (at + 7, 2, "big")] if 0 < at < len(data) - 9 else []
    at = data.find(b"ispe")
    while 0 < at < len(data) - 16:
        found += [(at + 8, 4, "big"), (at + 12, 4, "big")]
        at = data.find(b"ispe", at + 4)
    for name, offsets, width in ((b"VP8 ", (14, 16), 2), (b"VP8X", (12, 15), 3), (b"VP8L", (9, 11), 2)):
        at = data.find(name)
        found += [(at + offset, width, "little") for offset in offsets] if 0 < at < len(data) - 20 else []
    return found


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _png(depth: int, colour: int, rows: Sequence[bytes], interlace: int = 0) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", *SIZE, depth, colour, 0, 0, interlace)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _interlaced(grey: Image.Image) -> bytes:
    """Write a picture with Adam7, which Pillow reads and does not write."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    pixels = grey.tobytes()
    across, down = SIZE
    rows = [
        b"\0" + pixels[y * across + x : (y + 1) * across : dx] for x, y0, dx, dy in passes for y in range(y0, down, dy)
    ]
    return _png(8, 0, rows, interlace=1)
