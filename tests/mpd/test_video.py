"""Files: they hold the frames that were given, play at the right speed and colour, and are whole or not there."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from mpd.output import stills, video
from mpd.output.clip import Clip
from mpd.output.formats import FORMATS

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """A photograph that glides: 9 frames of 192×128."""
    coffee = data.coffee()[::2, ::2]
    return np.stack([coffee[30 : 30 + 128, 20 + 2 * step : 20 + 2 * step + 192] for step in range(9)])


def patches() -> Frames:
    """12 flat colours, among them the corners of the cube and greys, in large squares."""
    colours = [(0, 0, 0), (64, 64, 64), (128, 128, 128), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    colours += [(255, 255, 0), (0, 255, 255), (255, 0, 255), (200, 120, 60), (40, 90, 160)]
    rows = np.array(colours, np.uint8).reshape(3, 4, 3).repeat(32, 0).repeat(32, 1)
    return np.stack([rows] * 4)


def decoded(path: Path) -> Frames:
    """RGB as a player shows it: by the tags in the file."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def error(one: Frames, other: Frames) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestFilms:
    @pytest.mark.parametrize(("format", "codec"), [("mp4", "h264"), ("webm", "vp9")])
    @pytest.mark.parametrize("fps", [1, 7, 60])
    def test_frames_speed_and_tags(self, frames: Frames, tmp_path: Path, format: str, codec: str, fps: int) -> None:
        path = tmp_path / "a"
        video.encode(Clip(frames, fps), format, path)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name.removeprefix("lib").startswith(codec)
            assert stream.average_rate == fps
            assert container.duration == pytest.approx(len(frames) / fps * 1e6, abs=2000)
            pictures = list(container.decode(video=0))
        assert len(pictures) == len(frames)
        assert [float(picture.time) for picture in pictures] == pytest.approx(
            [index / fps for index in range(len(frames))], abs=0.002
        )
        first = pictures[0]
        assert first.format.name == "yuv420p"
        assert (first.colorspace, first.color_range, first.color_primaries, first.color_trc) == (1, 1, 1, 1)

    @pytest.mark.parametrize("format", ["mp4", "webm"])
    def test_pictures_come_back(self, frames: Frames, tmp_path: Path, format: str) -> None:
        video.encode(Clip(frames, 7), format, tmp_path / "a")
        assert error(decoded(tmp_path / "a"), frames) < 4

    @pytest.mark.parametrize("format", ["mp4", "webm"])
    def test_colours_come_back(self, tmp_path: Path, format: str) -> None:
        video.encode(Clip(patches(), 7), format, tmp_path / "a")
        centres = (slice(None), slice(16, None, 32), slice(16, None, 32))
        found, given = decoded(tmp_path / "a")[centres].astype(int), patches()[centres]
        assert np.abs(found - given).max() <= 4
        greys = found[:, 0]
        assert (greys.max(-1) - greys.min(-1)).max() <= 1

    def test_an_mp4_starts_playing_before_it_is_there(self, frames: Frames, tmp_path: Path) -> None:
        video.encode(Clip(frames, 7), "mp4", tmp_path / "a.mp4")
        content = (tmp_path / "a.mp4").read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")

    @pytest.mark.parametrize("format", ["mp4", "webm"])
    def test_odd_sides_are_refused(self, frames: Frames, tmp_path: Path, format: str) -> None:
        with pytest.raises(ValueError, match="even sides, not 191x128"):
            video.encode(Clip(frames[:, :, :191], 7), format, tmp_path / "a")


class TestGif:
    @pytest.mark.parametrize(("fps", "seconds"), [(7, 9 / 7), (50, 9 / 50), (60, 9 / 50), (1, 9.0)])
    def test_speed(self, frames: Frames, tmp_path: Path, fps: int, seconds: float) -> None:
        video.encode(Clip(frames, fps), "gif", tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as image:
            durations = []
            for index in range(image.n_frames):  # type: ignore[attr-defined]
                image.seek(index)
                durations.append(image.info["duration"])
            assert image.info["loop"] == 0
        assert len(durations) == len(frames)
        assert sum(durations) == pytest.approx(seconds * 1000, abs=10)
        assert min(durations) >= 20

    def test_colours(self, frames: Frames, tmp_path: Path) -> None:
        video.encode(Clip(frames, 7), "gif", tmp_path / "a.gif")
        assert error(decoded(tmp_path / "a.gif"), frames) < 6
        video.encode(Clip(patches(), 7), "gif", tmp_path / "a.gif")
        assert np.abs(decoded(tmp_path / "a.gif").astype(int) - patches()).max() <= 3

    def test_still_and_odd_and_single(self, frames: Frames, tmp_path: Path) -> None:
        for given in (np.stack([frames[0]] * 5), frames[:, :77, :51], frames[:1]):
            video.encode(Clip(given, 7), "gif", tmp_path / "a.gif")
            assert decoded(tmp_path / "a.gif").shape == given.shape


def test_png_zip_is_exact(frames: Frames, tmp_path: Path) -> None:
    video.encode(Clip(frames[:, :77, :51], 7), "png", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"frame-{index:04d}.png" for index in range(1, 10)]
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]
    assert (np.stack(pictures) == frames[:, :77, :51]).all()


@pytest.mark.parametrize("format", list(FORMATS))
class TestEvery:
    def test_the_same_frames_give_the_same_bytes(self, frames: Frames, tmp_path: Path, format: str) -> None:
        for name in ("a", "b"):
            video.encode(Clip(frames, 7), format, tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_one_frame(self, frames: Frames, tmp_path: Path, format: str) -> None:
        video.encode(Clip(frames[:1], 7), format, tmp_path / "a")
        assert left_over(tmp_path) == ["a"]

    def test_frames_are_counted(self, frames: Frames, tmp_path: Path, format: str) -> None:
        counted: list[int] = []
        video.encode(Clip(frames, 7), format, tmp_path / "a", counted.append)
        assert counted == list(range(1, len(frames) + 1))

    @pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
    def test_an_interruption_leaves_what_was_there(
        self, frames: Frames, tmp_path: Path, format: str, reason: type[BaseException]
    ) -> None:
        def stop(done: int) -> None:
            if done == 70:
                # The one being written lies beside it; WebP's encoder writes everything at the end.
                assert len(left_over(tmp_path)) == 1 + (format != "webp")
                raise reason

        (tmp_path / "a").write_bytes(b"an earlier video")
        with pytest.raises(reason):
            video.encode(Clip(np.tile(frames, (8, 1, 1, 1)), 7), format, tmp_path / "a", stop)
        assert left_over(tmp_path) == ["a"]
        assert (tmp_path / "a").read_bytes() == b"an earlier video"

    def test_no_folder(self, frames: Frames, tmp_path: Path, format: str) -> None:
        with pytest.raises(OSError, match="No such file or directory"):
            video.encode(Clip(frames, 7), format, tmp_path / "none" / "a")


def test_what_cannot_be_written_is_refused(frames: Frames, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown format 'avi'"):
        video.encode(Clip(frames, 7), "avi", tmp_path / "a")
    for wrong in (frames[0], frames.astype(float), frames[:0], frames[..., :2]):
        with pytest.raises(ValueError, match="frames are"):
            video.encode(Clip(wrong, 7), "mp4", tmp_path / "a")
    assert left_over(tmp_path) == []


class TestPictures:
    def test_the_poster_is_the_middle_frame(self, frames: Frames) -> None:
        poster = Image.open(io.BytesIO(stills.poster(frames)))
        assert poster.format == "JPEG"
        assert error(np.asarray(poster), frames[4]) < 4

    @pytest.mark.parametrize("format", ["PNG", "JPEG"])
    def test_a_contact_sheet(self, frames: Frames, format: str) -> None:
        sheet = Image.open(io.BytesIO(stills.contact_sheet(frames, label="nine", format=format)))
        assert sheet.format == format
        assert sheet.width > sheet.height

    def test_tiles_show_the_frames_and_the_ends_are_outlined(self) -> None:
        levels = np.arange(0, 240, 20, dtype=np.uint8)
        flat = np.ones((12, 60, 80, 3), np.uint8) * levels[:, None, None, None]
        sheet = np.asarray(Image.open(io.BytesIO(stills.contact_sheet(flat, columns=4, format="PNG")))).astype(int)
        step_y, step_x = (sheet.shape[0] - 14) // 3, (sheet.shape[1] - 14) // 4
        for index, level in enumerate(levels):
            y, x = 14 + index // 4 * step_y, 14 + index % 4 * step_x
            assert (sheet[y + 30, x + 50] == level).all()
            outlined = (sheet[y - 2, x + 50] == (0xF2, 0xA3, 0x3A)).all()
            assert outlined == (index in (0, 11))

    def test_a_long_video_is_thinned_out(self, frames: Frames) -> None:
        long = np.tile(frames, (30, 1, 1, 1))
        sheet = Image.open(io.BytesIO(stills.contact_sheet(long, columns=8, format="PNG")))
        assert sheet.height < 5 * 220

    def test_a_single_frame(self, frames: Frames) -> None:
        assert Image.open(io.BytesIO(stills.contact_sheet(frames[:1], label="one ×"))).size[0] > 0
