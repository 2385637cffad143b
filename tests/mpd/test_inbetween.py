"""Keyframes of any size to a finished take: `mpd.inbetween` from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

import mpd
from mpd.progress import Pictures, Progress, Take
from mpd.svd.model import Model


@pytest.fixture
def files(tmp_path: Path, pictures: list[Pictures]) -> list[Path]:
    """Two photographs of different sizes and formats."""
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    Image.fromarray(pictures[0]).resize((120, 60)).save(paths[0])
    Image.fromarray(pictures[1]).resize((90, 90)).save(paths[1])
    return paths


def take(model: Model | None, sources: list[Any], **settings: Any) -> Take:
    *steps, last = mpd.inbetween(model, sources, mpd.Settings(**settings))
    assert all(isinstance(step, Progress) for step in steps)
    assert isinstance(last, Take)
    return last


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, (3, 64, 64, 3)),
        ({"fit": "contain"}, (3, 32, 64, 3)),
        ({"fit": "contain", "width": 80, "height": 48}, (3, 40, 80, 3)),
        ({"width": 72, "height": 40}, (3, 40, 72, 3)),
    ],
)
def test_sizes(tiny_model: Model, files: list[Path], settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    frames = take(tiny_model, files, method="mpd", steps=1, frames=3, **settings).frames
    assert frames.shape == shape
    assert frames.dtype == np.uint8


def test_a_stretched_video_has_the_sources_aspect_again(tiny_model: Model, files: list[Path]) -> None:
    frames = take(tiny_model, files, method="mpd", steps=1, frames=2, fit="stretch").frames
    assert frames.shape[2] / frames.shape[1] == pytest.approx(2, abs=0.05)


def test_paths_bytes_images_and_arrays_are_the_same_keyframe(tiny_model: Model, files: list[Path]) -> None:
    image = Image.open(files[0]).convert("RGB")
    ways = [files[0], str(files[0]), files[0].read_bytes(), image, np.asarray(image)]
    videos = [take(tiny_model, [way, files[1]], method="mpd", steps=1, frames=2).frames for way in ways]
    for video in videos[1:]:
        assert np.array_equal(video, videos[0])


def test_flow_needs_no_model(files: list[Path]) -> None:
    frames = take(None, files, method="flow", frames=4).frames
    assert frames.shape == (4, 60, 120, 3)
    assert np.array_equal(frames[0], np.asarray(Image.open(files[0]).convert("RGB")))


def test_contained_keyframes_flow_without_their_bars() -> None:
    """A pan: no frame of it shows the background that only surrounded the keyframes."""
    coffee = Image.fromarray(data.coffee())
    pan = [coffee.crop((left, top, left + 240, top + 160)) for left, top in ((100, 100), (130, 130))]
    size = {"width": 160, "height": 160, "fit": "contain", "background": "#0000ff"}
    frames = take(None, pan, method="flow", frames=5, **size).frames
    assert frames.shape == (5, 106, 160, 3)
    bluest = (frames[..., 2].astype(int) - frames[..., 0]).max((1, 2))
    assert bluest.max() < bluest[[0, -1]].max() + 40


def test_a_method_that_needs_a_model_says_so(files: list[Path]) -> None:
    with pytest.raises(mpd.SettingsError, match="needs a model"):
        mpd.inbetween(None, files, mpd.Settings(method="mpd"))


def test_a_size_that_does_not_suit_the_model_is_refused_at_once(tiny_model: Model, files: list[Path]) -> None:
    with pytest.raises(mpd.SettingsError, match="multiple of 8"):
        mpd.inbetween(tiny_model, files, mpd.Settings(width=100, height=64))


def test_closing_stops_the_sampling(tiny_model: Model, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    monkeypatch.setattr(tiny_model, "decode", decoded.append)
    reports = mpd.inbetween(tiny_model, files, mpd.Settings(steps=2, frames=2))
    next(reports)
    reports.close()
    assert list(reports) == []
    assert decoded == []
