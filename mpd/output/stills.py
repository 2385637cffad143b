"""Single pictures of a video: PNG of 8 and 16 bits, JPEG, a poster, a contact sheet.

The same frames give the same bytes. Knows nothing of films.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mpd.output.clip import eight_bits
from mpd.progress import Frames, Pictures

_SHEET_TILES = 40
_TILE_AREA = 240 * 135
_GAP, _CAPTION, _TITLE = 14, 16, 34
_PAPER, _INK, _FAINT_INK, _ACCENT = "#16181d", "#e8eaee", "#8b919d", "#f2a33a"
_AFTER_HEADER = 8 + 25
"""Bytes of a PNG before its second chunk."""


def poster(frames: Frames) -> bytes:
    """Write the middle frame, the one that neither keyframe shows, as JPEG."""
    return jpeg(frames[len(frames) // 2], quality=90)


def jpeg(picture: Frames, quality: int = 95) -> bytes:
    """Write one picture (H, W, 3) as JPEG, with full colour resolution from quality 90 on."""
    file = io.BytesIO()
    image = Image.fromarray(eight_bits(np.ascontiguousarray(picture)))
    image.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
    return file.getvalue()


def png(picture: Frames) -> bytes:
    """Write one picture (H, W, 3) or (H, W, 4) as PNG in its own number of bits, said to be sRGB."""
    if picture.dtype == np.uint8:
        file = io.BytesIO()
        Image.fromarray(picture.astype(np.uint8, copy=False)).save(file, "PNG", compress_level=4)
        data = file.getvalue()
    else:
        # Pillow writes no colour of 16 bits. OpenCV counts the channels from blue.
        order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
        _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, order), [cv2.IMWRITE_PNG_COMPRESSION, 4])
        data = encoded.tobytes()
    perceptual = b"sRGB\0"
    chunk = struct.pack(">I", 1) + perceptual + struct.pack(">I", zlib.crc32(perceptual))
    return data[:_AFTER_HEADER] + chunk + data[_AFTER_HEADER:]


def contact_sheet(frames: Frames, *, columns: int | None = None, label: str = "", format: str = "JPEG") -> bytes:
    """Lay all frames as numbered tiles on one picture, the two ends outlined.

    Of a long video it has 40, spread evenly over it.
    `label` is a line above them; `columns` is chosen for a landscape sheet when None; `format` is JPEG or PNG.
    """
    shown = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _SHEET_TILES)).round().astype(int))
    height, width = frames.shape[1:3]
    scale = (_TILE_AREA / (height * width)) ** 0.5
    tile = max(24, round(width * scale)), max(24, round(height * scale))
    columns = columns or min(len(shown), math.ceil((len(shown) * 1.6 * tile[1] / tile[0]) ** 0.5))
    rows = -(-len(shown) // columns)
    step = tile[0] + _GAP, tile[1] + _GAP + _CAPTION
    top = _GAP + (_TITLE if label else 0)
    sheet = Image.new("RGB", (_GAP + columns * step[0], top + rows * step[1]), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if label:
        draw.text((_GAP, _GAP), label.replace("×", "x"), _INK, _font(18))  # its font has no ×
    for place, index in enumerate(shown.tolist()):
        corner = _GAP + place % columns * step[0], top + place // columns * step[1]
        picture = eight_bits(np.ascontiguousarray(frames[index]))
        _draw_tile(sheet, draw, picture, tile, corner, index, index in (0, len(frames) - 1))
    file = io.BytesIO()
    sheet.save(file, format, **({"quality": 88, "optimize": True} if format == "JPEG" else {"compress_level": 6}))
    return file.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    frame: Pictures,
    tile: tuple[int, int],
    corner: Sequence[int],
    index: int,
    outlined: bool,
) -> None:
    (x, y), (width, height) = corner, tile
    # Shrunk in whole steps first, to no less than twice the tile: half the time for what hardly differs.
    sheet.paste(Image.fromarray(frame).resize(tile, Image.Resampling.LANCZOS, reducing_gap=2.0), (x, y))
    if outlined:
        draw.rectangle((x - 3, y - 3, x + width + 2, y + height + 2), outline=_ACCENT, width=3)
    ink = _ACCENT if outlined else _FAINT_INK
    draw.text((x, y + height + 4), str(index + 1), ink, _font(13))
