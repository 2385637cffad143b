"""What every server of the comparison does for one request: decode two JPEGs, hold the GPU for a while, encode an MP4.

It runs in our processes and in the peers' own environments, so it needs `mpd` without torch and nothing of the service.
Pictures are brought to the model's size, and frames become a file, by the code that the service uses. The GPU is a file
lock and a sleep: whoever holds it keeps all others waiting, and writes down when it was taken and given back. The
frames are the same every time, so the same bytes must come out everywhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mpd import keyframes, photographs
from mpd.methods import Settings
from mpd.output import video
from mpd.output.clip import Clip
from mpd.progress import Frames, Pictures

ROOT = Path(__file__).resolve().parents[2]
FOLDER, SHAPE = "SERVING_FOLDER", "SERVING_SHAPE"
"""Environment variables: the folder of the lock, and `FRAMESxWIDTHxHEIGHT` of what comes out."""

FPS = 7
SENT = (1024, 576)
"""Size of the JPEGs that are sent."""


class JobInputs:
    """One server's hands. folder: shared by all processes of the server; shape: (frames, width, height)."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self.folder = folder
        self.count, *size = shape
        self.size = size[0], size[1]
        start, end = (
            np.asarray(picture(name).resize(self.size, Image.Resampling.LANCZOS)) for name in ("start", "end")
        )
        share = np.linspace(0, 1, self.count, dtype=np.float32)[:, None, None, None]
        self.frames: Frames = (start * (1 - share) + end * share).astype(np.uint8)

    @classmethod
    def here(cls) -> JobInputs:
        """Set up the work as the environment says."""
        count, width, height = map(int, os.environ[SHAPE].split("x"))
        return cls(Path(os.environ[FOLDER]), (count, width, height))

    def decode(self, files: list[bytes]) -> list[Pictures]:
        """Decode the JPEGs to pictures (height, width, 3) of the model's size."""
        images = [photographs.load(file) for file in files]
        return keyframes.prepare(images, Settings(), native_size=self.size, size_multiple=8)[0]

    def generate(self, pictures: list[Pictures]) -> Frames:
        """Make the frames (count, height, width, 3), after the fixed time with the GPU to itself."""
        assert [picture.shape for picture in pictures] == [(self.size[1], self.size[0], 3)] * 2
        with (self.folder / "gpu").open("ab") as gpu:
            fcntl.flock(gpu, fcntl.LOCK_EX)
            began = time.monotonic()
            time.sleep(float((self.folder / "seconds").read_text()))
            os.write(gpu.fileno(), f"{began} {time.monotonic()}\n".encode())
        return self.frames

    def encode(self, frames: Frames) -> bytes:
        """Encode the frames as MP4."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            video.encode(Clip(frames, FPS), "mp4", path)
            return path.read_bytes()

    def digest(self) -> str:
        """Compute the SHA-256 of what must come out."""
        return hashlib.sha256(self.encode(self.frames)).hexdigest()

    def take(self, seconds: float) -> None:
        """Set how long a generation takes from now on, in seconds."""
        unfinished = self.folder / "seconds.new"
        unfinished.write_text(str(seconds))
        unfinished.replace(self.folder / "seconds")

    def held(self) -> list[tuple[float, float]]:
        """List when the GPU was taken and given back, in monotonic seconds, since the last call."""
        path = self.folder / "gpu"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        os.truncate(path, 0)
        return [(float(line.split()[0]), float(line.split()[1])) for line in lines]


def picture(name: str) -> Image.Image:
    """Open a photograph of the examples in the size that is sent."""
    with Image.open(ROOT / "examples" / "keyframes" / f"{name}.jpg") as image:
        return image.convert("RGB").resize(SENT, Image.Resampling.LANCZOS)


def jpeg(name: str) -> bytes:
    """Encode a photograph of the examples, in the size that is sent, as a JPEG file."""
    file = io.BytesIO()
    picture(name).save(file, "JPEG", quality=95)
    return file.getvalue()
