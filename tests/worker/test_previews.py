"""Previews are small enough for an event stream, whatever is in them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from worker.engine import previews


@pytest.mark.parametrize("size", [(8, 8), (72, 128), (576, 1024), (1, 2048)])
def test_even_noise_fits(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    data = previews.jpeg(noise)
    assert len(data) <= previews.MAX_BYTES
    uri = previews.data_uri(data)
    assert len(uri) < 24_000
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as image:
        assert image.format == "JPEG"
        assert max(image.size) <= max(previews.LARGEST)


def test_a_small_picture_keeps_its_size() -> None:
    with Image.open(io.BytesIO(previews.jpeg(np.zeros((72, 128, 3), np.uint8)))) as image:
        assert image.size == (128, 72)
