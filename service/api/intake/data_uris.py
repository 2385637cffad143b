"""Data URIs: images written as text, read a piece at a time, so that no more of them is held than the image itself."""

from __future__ import annotations

import binascii
import hashlib
import io
from collections.abc import Iterator
from typing import NoReturn

from service.api.intake.keyframe_check import check_size
from service.api.intake.quoted import PIECE, Quoted
from service.problems import Problem
from service.settings import ServiceSettings

_HEAD = 1024
"""Bytes within which the image's own have to begin."""
_REMEDY = "Write it as data:image/png;base64,… with the file's bytes in base64."
_SPACES = b" \t\n\r\v\f"
_PERCENT = {
    f"%{ord(character):02{form}}".encode(): character.encode() for character in "+/=\n\r\t " for form in ("x", "X")
}
"""What encoders for URLs make of base64; they leave letters and digits alone."""


def is_data_uri(text: str | Quoted) -> bool:
    if isinstance(text, str):
        return text[:5].lower() == "data:"
    try:
        return next(text.pieces(), b"")[:5].lower() == b"data:"
    except ValueError:
        return False


def decode(uri: str | Quoted, settings: ServiceSettings, *, field: str = "image") -> bytes:
    """Decode a base64 data URI into its bytes; its declared media type is ignored.

    Raises `Problem` (`invalid-image`, `image-too-large`) naming `field`.
    """
    found = io.BytesIO()
    for piece in _decoded(uri, settings, field):
        found.write(piece)
    return found.getvalue()


def digest(uri: str | Quoted, settings: ServiceSettings, *, field: str = "image") -> str:
    """Return the SHA-256 of what `decode` gives, of which no more than a piece is ever held. Raises as that does."""
    found = hashlib.sha256()
    for piece in _decoded(uri, settings, field):
        found.update(piece)
    return found.hexdigest()


def _decoded(uri: str | Quoted, settings: ServiceSettings, field: str) -> Iterator[bytes]:
    if isinstance(uri, str):
        check_size((len(uri) - uri[:_HEAD].find(",")) * 3 // 4 - 4, settings, field)
    size = 0
    try:
        for piece in _unquoted(_body(uri, field)):
            size += len(piece)
            check_size(size, settings, field)
            yield piece
    except (binascii.Error, ValueError):
        _refuse(field, "The data URI's base64 is damaged.")


def _body(uri: str | Quoted, field: str) -> Iterator[bytes]:
    """Give what follows the comma of a data URI, in pieces."""
    pieces = _of_text(uri) if isinstance(uri, str) else uri.pieces()
    head, comma, body = next(pieces, b"").partition(b",")
    head = head.lower()
    if not comma or not head.startswith(b"data:") or not head.endswith(b";base64"):
        _refuse(field, "This is not a base64 data URI.")
    yield body
    yield from pieces


def _of_text(text: str) -> Iterator[bytes]:
    for at in range(0, len(text), PIECE):
        yield text[at : at + PIECE].encode("ascii")


def _unquoted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode base64 in pieces. Raises `ValueError` for what is none."""
    rest, over = b"", False
    for piece in pieces:
        text = (rest + piece).translate(None, _SPACES)
        rest = b""
        if b"%" in text:
            broken = text.rfind(b"%", -2)
            if broken >= 0:
                text, rest = text[:broken], text[broken:]
            for code, character in _PERCENT.items():
                text = text.replace(code, character)
            text = text.translate(None, _SPACES)
        odd = len(text) % 4
        if odd:
            text, rest = text[:-odd], text[-odd:] + rest
        if text:
            if over:
                raise ValueError("something follows the end")
            over = text.endswith(b"=")
            yield binascii.a2b_base64(text, strict_mode=True)
    if rest:
        raise ValueError("the end is missing")


def _refuse(field: str, detail: str) -> NoReturn:
    raise Problem(422, "invalid-image", detail, field=field, remedy=_REMEDY)
