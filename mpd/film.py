"""Inbetweens by any learned interpolator in a TorchScript file, `f(x0, x1, t)`, such as FILM's published export.

F. Reda, J. Kontkanen, E. Tabellion, D. Sun, C. Pantofaru and B. Curless, "FILM: Frame Interpolation for Large Motion",
ECCV 2022. Such networks are best half-way, so the frame nearest the middle of two is made first, and then is an end.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpd import hub, interpolation
from mpd.between import Tell
from mpd.methods import Settings
from mpd.progress import Frames, Pictures, Progress, Take
from mpd.rife.weights import Weights, WeightsError

_MULTIPLE = 64
"""Of the padded pictures' sides: FILM halves them six times."""


class Film:
    """A TorchScript module on a device. It takes pictures (1, 3, H, W) in 0…1 and t (1, 1), and gives the frame."""

    dtype = torch.float32

    def __init__(self, path: str | Path, device: str | torch.device = "auto") -> None:
        """Load the module and try it on a small pair. device: `auto` is CUDA if there is one. Raises `WeightsError`."""
        file = Path(path).expanduser()
        if not file.is_file():
            raise WeightsError(f"{path}: there is no such file")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.facts = Weights(file).facts()
        try:
            with warnings.catch_warnings(action="ignore"):  # of TorchScript's age
                self._module = torch.jit.load(str(file), map_location=self.device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"{path}: is no TorchScript: {hub.first_line(error)}") from error
        small = torch.zeros(1, 3, _MULTIPLE, _MULTIPLE, device=self.device)
        try:
            shape = self(small, small, 0.5).shape
        except (RuntimeError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path}: is no f(x0, x1, t) of pictures: {hub.first_line(error)}") from error
        if shape != small.shape:
            raise WeightsError(f"{path}: gives {tuple(shape)} for pictures of {tuple(small.shape)}")

    def __call__(self, first: Tensor, second: Tensor, time: float) -> Tensor:
        """Make the frame at `time` (0…1) between two pictures (1, 3, H, W)."""
        height, width = first.shape[2:]
        edge = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        ends = [functional.pad(picture, edge, mode="replicate") for picture in (first, second)]
        with torch.inference_mode():
            frame: Tensor = self._module(*ends, first.new_full((1, 1), time))
        return frame[..., :height, :width].clamp(0, 1)


def generate(film: Film, pictures: Sequence[Pictures], settings: Settings, bits: int = 8) -> Iterator[Progress | Take]:
    """Make all segments between the pictures (H, W, 3 or 4), as `mpd.rife.generate` does."""
    return interpolation.generate(pictures, settings, bits, Maker(film))


class Maker:
    """Makes frames as `mpd.between.Between`; a matte as a grey picture. It tells of no motion."""

    def __init__(self, film: Film) -> None:
        self._film = film

    def __call__(
        self, start: Pictures, end: Pictures, times: Sequence[float], tell: Tell, /
    ) -> Generator[Frames, None, None]:
        for tensors in self._between((0.0, self._tensors(start)), (1.0, self._tensors(end)), times):
            colours, *matte = (np.asarray(one[0].permute(1, 2, 0).float().cpu()) * np.float32(255) for one in tensors)
            yield np.dstack([colours, *(grey.mean(-1) for grey in matte)])

    def _between(
        self, first: tuple[float, list[Tensor]], last: tuple[float, list[Tensor]], times: Sequence[float]
    ) -> Generator[list[Tensor], None, None]:
        """Give the frames between two pictures in order; the one nearest the middle is made first."""
        if not times:
            return
        (begins, start), (ends, end) = first, last
        at = min(range(len(times)), key=lambda index: round(abs(times[index] - (begins + ends) / 2), 9))
        share = (times[at] - begins) / (ends - begins)
        made = [self._film(one, other, share) for one, other in zip(start, end, strict=True)]
        yield from self._between(first, (times[at], made), times[:at])
        yield made
        yield from self._between((times[at], made), last, times[at + 1 :])

    def _tensors(self, picture: Pictures) -> list[Tensor]:
        layers = [picture[..., :3], *([np.repeat(picture[..., 3:], 3, -1)] if picture.shape[2] == 4 else [])]
        samples = [torch.from_numpy(np.ascontiguousarray(one)).to(self._film.device) for one in layers]
        return [one.permute(2, 0, 1)[None].float() / 255 for one in samples]
