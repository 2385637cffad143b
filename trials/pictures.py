"""Pictures to send where it does not matter what they show."""

from __future__ import annotations

import io

from PIL import Image


def photo(width: int = 64, height: int = 48, colour: str = "navy", format: str = "PNG") -> bytes:
    """Make an image file of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format)
    return buffer.getvalue()
