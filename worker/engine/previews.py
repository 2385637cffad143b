"""Small pictures of a video that is being made, for an event stream."""

from __future__ import annotations

import base64
import io

from PIL import Image

from mpd.progress import Pictures

SECONDS_BETWEEN = 1.0
LARGEST = (320, 320)
MAX_BYTES = 16_000
"""A data URI of at most 24 kB, with room for the event around it."""


def jpeg(picture: Pictures) -> bytes:
    """Encode a picture (h, w, 3) uint8 as a JPEG of at most `MAX_BYTES` bytes, scaled down as far as that takes."""
    image = Image.fromarray(picture)
    image.thumbnail(LARGEST)
    while True:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)))


def data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
