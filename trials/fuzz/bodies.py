"""Bodies that cost more than they say: texts that grow as they are read, forms that are hard to take apart, pictures
that are small as files alone.

Everything is decided by a seed. Knows nothing of the service but how a request to it looks.
"""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from PIL import Image

MB = 1_000_000
BOUNDARY = "b0undary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
CHARSETS = (
    "utf-8",
    "undefined",
    "punycode",
    "idna",
    "rot13",
    "utf-16",
    "utf-7",
    "zlib",
    "hex",
    "x" * 300,
    "é",
    "",
    '"',
)
UNITS = ("%41", "%2B", "%", "AB ", "A", "\\u0041", "\\/", "\\\\", '\\"', "\\ud83d\\ude00", "é", "😀", "\\n", "=")
"""What a text is made of, as JSON writes it."""
HEADED = b'Content-Disposition: form-data; name="%s"'
OPTIONS = {"method": "flow", "frames": 3}


@dataclass(frozen=True)
class Body:
    """A request's body."""

    #: How it came about.
    name: str
    content_type: str
    content: bytes = field(repr=False)
    #: Bytes that its largest picture takes while it is decoded.
    decoded: int = 0


def hostile(seed: int, number: int) -> Body:
    """Make the `number`th body of a seed."""
    draw = random.Random(f"bodies/{seed}/{number}")
    make = KINDS[number % len(KINDS)]
    # Most are such as everybody sends, and some as large as any may be.
    size = round(draw.choice((0.1, 1, 4, 4, 12, 25)) * MB) if number % 37 else 100 * MB
    made = make(draw, size)
    return Body(f"{make.__name__} {made.name} {len(made.content)}", made.content_type, made.content, made.decoded)


def charset(draw: random.Random, size: int) -> Body:
    """Make a content type with parameters that say how to read the rest."""
    name = draw.choice(CHARSETS)
    kind = draw.choice(
        (
            f"{FORM}; charset={name}",
            f"{JSON}; charset={name}",
            f'multipart/form-data; charset="{name}"; boundary="{BOUNDARY}"',
            f"multipart/form-data; charset*=utf-8''{name}; boundary={BOUNDARY}",
            f"multipart/form-data; boundary={'b' * draw.choice((0, 1, 70, 71, 5000))}; charset={name}",
            f"multipart/form-data; boundary*0={BOUNDARY}; charset={name}; charset=utf-8",
        )
    )
    text = json.dumps({"method": "flow", "reference": "Bäume"}, ensure_ascii=False).encode()
    parts = [_part(b"start", _picture(64, 48), b"a.png"), _part(b"end", _picture(64, 48), b"b.png")]
    return Body(ascii(kind), kind, _form([*parts, _part(b"options", text)]))


def texts(draw: random.Random, size: int) -> Body:
    """Make images as text, of one thing over and over."""
    unit = draw.choice(UNITS).encode()
    count = draw.choice((1, 1, 2, 5))
    text = draw.choice((b"data:image/png;base64,", b"data:;base64,iVBORw0KGgo", b"https://a.example/", b"")) + unit * (
        size // count // len(unit)
    )
    images = b",".join(b'{"image":"%b"}' % text for _ in range(count))
    return Body(
        f"{unit!r} × {count}", JSON, b'{"keyframes":[%b],"options":%b}' % (images, json.dumps(OPTIONS).encode())
    )


def nonsense(draw: random.Random, size: int) -> Body:
    """Make JSON that is long without a text."""
    before, unit, after = draw.choice(
        (
            (b'{"options":{"seed":', b"1", b"}}"),
            (b'{"options":{"seed":1.', b"1", b"}}"),
            (b'{"options":{"seeds":[', b"1,", b"1]}}"),
            (b'{"result":', b"[", b""),
            (b'{"result":{"a":', b'{"a":', b""),
            (b"", b" ", b""),
            (b"[", b'"",', b"1]"),
            (b'{"options":{', b'"a":1,', b'"b":1}}'),
        )
    )
    return Body(f"{before!r} {unit!r}", JSON, before + unit * (size // len(unit)) + after)


def forms(draw: random.Random, size: int) -> Body:
    """Make forms with much of what there is little of."""
    unit = draw.choice((b"\r", b"\n", b"\r\n", b"\r\n--", b"-", b"a", b"\0", "é".encode()))
    much = unit * (size // len(unit))
    file = HEADED % b"start" + b'; filename="a"'
    name, content = draw.choice(
        (
            ("file", _form([file + b"\r\n\r\n" + much])),
            ("field", _form([HEADED % b"start" + b"\r\n\r\n" + much])),
            ("field name", _form([HEADED % much + b"\r\n\r\nx"])),
            ("header", _form([file + b"\r\nX-A: " + much + b"\r\n\r\nx"])),
            ("headers", _form([file + b"\r\nX-A: b" * (size // 10) + b"\r\n\r\nx"])),
            ("preamble", much + _form([file + b"\r\n\r\nx"])),
            ("epilogue", _form([file + b"\r\n\r\nx"]) + much),
            ("parts", _form([_part(b"keyframes", b"x", b"a")] * (size // 100))),
            ("no end", _form([file + b"\r\n\r\n" + much])[:-20]),
        )
    )
    return Body(f"{name} of {unit!r}", FORM, content)


def scans(draw: random.Random, size: int) -> Body:
    """Make a JPEG that is gone over again and again."""
    side, count = draw.choice((64, 500, 2000, 5000)), draw.choice((10, 30, 90, 150, 400))
    data = _progressive(side)
    last = data.rindex(b"\xff\xda")
    data = data[:last] + data[last:-2] * max(1, count - data.count(b"\xff\xda") + 1) + data[-2:]
    # Three full channels of two bytes, and what is decoded of them.
    return Body(f"{count} of {side}²", FORM, _pictures([data, _picture(64, 48)]), 7 * side * side)


def crowds(draw: random.Random, size: int) -> Body:
    """Make many flat pictures, each large when it is decoded."""
    side, count = draw.choice(((1000, 32), (2000, 20), (4000, 9), (4000, 12), (6300, 4), (7900, 2), (8100, 2)))
    kind = draw.choice(("PNG", "PNG", "WEBP"))
    held = 18 if kind == "WEBP" else 5
    data = _picture(side, side, kind)
    return Body(f"{count} {kind} of {side}²", FORM, _pictures([data] * count), held * side * side)


KINDS: tuple[Callable[[random.Random, int], Body], ...] = (charset, texts, forms, nonsense, scans, texts, crowds)


def large(size: int) -> Body:
    """Make a request that is right, and has two images with so many bytes behind them."""
    data = _picture(64, 48)
    uri = b"data:image/png;base64," + base64.b64encode(data + bytes(size))
    content = b'{"start":"%b","end":"%b","options":%b}' % (uri, uri, json.dumps(OPTIONS).encode())
    return Body(f"right {size}", JSON, content)


def small() -> Body:
    return Body("small", FORM, _pictures([_picture(64, 48)] * 2))


def _pictures(pictures: list[bytes]) -> bytes:
    options = _part(b"options", json.dumps(OPTIONS).encode())
    return _form([*(_part(b"keyframes", data, b"a") for data in pictures), options])


def _part(name: bytes, data: bytes, filename: bytes | None = None) -> bytes:
    told = HEADED % name + (b'; filename="%b"' % filename if filename else b"")
    return told + b"\r\n\r\n" + data


def _form(parts: list[bytes]) -> bytes:
    start = b"--" + BOUNDARY.encode()
    return b"".join(start + b"\r\n" + part + b"\r\n" for part in parts) + start + b"--\r\n"


@cache
def _picture(width: int, height: int, kind: str = "PNG") -> bytes:
    return _saved(Image.new("RGB", (width, height), "teal"), kind, **({"method": 0} if kind == "WEBP" else {}))


@cache
def _progressive(side: int) -> bytes:
    return _saved(Image.new("RGB", (side, side), "teal"), "JPEG", progressive=True, subsampling=0)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
