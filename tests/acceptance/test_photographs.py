"""Real photographs of different sizes and kinds through the running service, as its users would send them."""

from __future__ import annotations

import base64
import io
import json
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageOps

from mpd.methods import METHODS
from tests.acceptance.conftest import Caller, Files

BACKGROUND = "#20a060"
DIFFUSION = [name for name, method in METHODS.items() if method.needs_model]


@pytest.fixture(scope="module")
def rotated_jpeg() -> bytes:
    """A cup of coffee lying on its side in the file, upright by its EXIF orientation."""
    upright = Image.fromarray(skimage.data.coffee()).crop((0, 0, 300, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def transparent_png() -> bytes:
    """A cat, transparent in the left half of the picture."""
    cat = Image.fromarray(skimage.data.chelsea()).convert("RGBA")
    alpha = Image.new("L", cat.size, 255)
    alpha.paste(0, (0, 0, cat.width // 2, cat.height))
    cat.putalpha(alpha)
    buffer = io.BytesIO()
    cat.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photographs(rotated_jpeg: bytes, transparent_png: bytes) -> Files:
    return [("start", ("coffee.jpg", rotated_jpeg, "image/jpeg")), ("end", ("cat.png", transparent_png, "image/png"))]


def decoded(video: bytes) -> tuple[list[np.ndarray], Fraction | None]:
    """The frames of a video, (H, W, 3) uint8, and its rate."""
    with av.open(io.BytesIO(video)) as container:
        rate = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate


def difference(frame: np.ndarray, picture: Image.Image) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(frame.astype(float) - np.asarray(picture.convert("RGB"), dtype=float)).mean())


def test_flow_begins_and_ends_with_the_photographs(
    caller: Caller, photographs: Files, rotated_jpeg: bytes, transparent_png: bytes
) -> None:
    result, video = caller.video(photographs, method="flow", frames=9, fps=12, background=BACKGROUND)
    frames, rate = decoded(video)
    assert len(frames) == result["frames"] == 9
    assert rate == result["fps"] == 12
    start = ImageOps.exif_transpose(Image.open(io.BytesIO(rotated_jpeg)))
    cat = Image.open(io.BytesIO(transparent_png))
    end = Image.alpha_composite(Image.new("RGBA", cat.size, BACKGROUND), cat).convert("RGB")
    height, width = frames[0].shape[:2]
    assert (width, height) == start.size == (result["width"], result["height"])
    assert difference(frames[0], start) < 3
    assert difference(frames[-1], ImageOps.fit(end, (width, height), Image.Resampling.LANCZOS)) < 3
    assert difference(frames[0], ImageOps.fit(end, (width, height))) > 30, "the two photographs are told apart"


@pytest.mark.parametrize("method", DIFFUSION)
def test_each_diffusion_method_gives_the_frames_asked_for(caller: Caller, photographs: Files, method: str) -> None:
    result, video = caller.video(photographs, method=method, frames=7, steps=6, width=64, height=64, seed=3)
    frames, _ = decoded(video)
    assert len(frames) == result["frames"] == 7
    assert result["settings"]["method"] == method
    assert frames[0].shape == (64, 64, 3)


def test_three_keyframes_two_takes_every_format(caller: Caller, rotated_jpeg: bytes, transparent_png: bytes) -> None:
    files: Files = [("keyframes", ("k", data, "")) for data in (rotated_jpeg, transparent_png, rotated_jpeg)]
    job = caller.finished(
        caller.submit(
            files, method="mpd", frames=5, steps=4, seeds=[1, 2], loop=True, formats=["mp4", "webm", "gif", "png"]
        )
    )
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert result["frames"] == 3 * (5 - 1)
    names = {file["name"] for file in result["files"]}
    assert {f"take-{take}.{suffix}" for take in (1, 2) for suffix in ("mp4", "webm", "gif", "zip")} <= names
    for file in result["files"]:
        answer = caller.http.get(file["url"])
        assert (answer.status_code, len(answer.content)) == (200, file["size"]), file


def test_the_video_is_served_in_ranges(caller: Caller, photographs: Files) -> None:
    result, video = caller.video(photographs, method="flow", frames=3)
    url = next(file["url"] for file in result["files"] if file["name"] == "take-1.mp4")
    part = caller.http.get(url, headers={"range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, video[10:30])


def test_json_body_with_data_uris(caller: Caller, rotated_jpeg: bytes) -> None:
    uri = "data:image/jpeg;base64," + base64.b64encode(rotated_jpeg).decode()
    body: dict[str, Any] = {"start": uri, "end": uri, "options": {"method": "flow", "frames": 2}}
    answer = caller.http.post("/inbetween", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 202, answer.text
    assert caller.finished(answer.json())["state"] == "succeeded"
