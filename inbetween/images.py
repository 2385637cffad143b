"""Keyframes in whatever form the caller has them, as parts of a form."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

REFERENCES = ("http://", "https://", "data:", "upload:", "job:")
"""A text that begins so is sent as it is; any other is a path."""

_TYPES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"RIFF", "image/webp"),
)


@runtime_checkable
class Readable(Protocol):
    """A file opened for reading bytes."""

    def read(self) -> bytes: ...


@runtime_checkable
class Picture(Protocol):
    """Such as a PIL image."""

    @property
    def size(self) -> tuple[int, int]: ...

    def save(self, fp: Any, format: str | None = None) -> None: ...


Image: TypeAlias = "str | os.PathLike[str] | bytes | Readable | Picture"
"""A path, a URL, the bytes of an image file, an open file, or a picture as PIL has it."""


class Keyframe(NamedTuple):
    """An image and the frame of the timeline at which it stands; a plain pair will do as well."""

    image: Image
    frame: int | None = None


@dataclass(frozen=True)
class Part:
    """One keyframe, ready to be sent any number of times."""

    name: str
    #: The file's bytes, or a reference to it.
    source: bytes | str
    frame: int | None = None

    @property
    def content_type(self) -> str:
        """By its first bytes. Only an upload must say; the server looks for itself."""
        head = self.source[:12] if isinstance(self.source, bytes) else b""
        if head[4:8] == b"ftyp":
            return "image/avif" if head[8:12] == b"avif" else "image/heic"
        return next((kind for start, kind in _TYPES if head.startswith(start)), "image/png")


def parts(keyframes: Sequence[Image | Keyframe | tuple[Image, int | None]]) -> list[Part]:
    """Make the parts that keyframes are sent as.

    Raises `OSError` for a file that cannot be read, `TypeError` for what is no image.
    """
    found = []
    for number, given in enumerate(keyframes):
        image, frame = given if isinstance(given, tuple) else (given, None)
        found.append(_part(image, frame, f"keyframe-{number}"))
    return found


def form(found: Sequence[Part]) -> list[tuple[str, Any]]:
    """List the fields of the form, in order: a file, or a text for a reference."""
    fields: list[tuple[str, Any]] = []
    for part in found:
        sent = (part.name, part.source) if isinstance(part.source, bytes) else (None, part.source)
        fields.append(("keyframes", sent))
    fields += [("at", (None, str(part.frame))) for part in found if part.frame is not None]
    return fields


def _part(image: object, frame: int | None, name: str) -> Part:
    if isinstance(image, str) and image.startswith(REFERENCES):
        return Part(name, image, frame)
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        return Part(path.name, path.read_bytes(), frame)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Part(name, bytes(image), frame)
    if isinstance(image, Readable):
        content = image.read()
        if isinstance(content, bytes):
            return Part(name, content, frame)
        raise TypeError("open the image file for reading bytes: open(path, 'rb')")
    if isinstance(image, Picture):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return Part(f"{name}.png", buffer.getvalue(), frame)
    raise TypeError(f"a keyframe is a path, a URL, bytes, an open file or a PIL image, not {type(image).__name__}")
