"""RIFE's network at work on a device: a pair of pictures once, then the frame at any time between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mpd import hub
from mpd.progress import Pictures
from mpd.rife.network import Rife
from mpd.rife.weights import Weights, WeightsError
from mpd.vector_fields import Field

_MULTIPLE = 128
"""Of the padded pictures' sides: four times the coarsest scale, and twice that for pairs that move far."""


@dataclass(frozen=True)
class Rendered:
    """What the network makes of one moment."""

    #: (H, W, 3) float32 in 0…255.
    frame: NDArray[np.float32]
    #: (H, W, 2) each: from the frame to the start picture, and to the end picture.
    to_start: Field
    to_end: Field
    #: (H, W): how much of the frame is the start picture's.
    share: NDArray[np.float32]


class Interpolator:
    """The network with its weights. Frames may be asked for by several threads at once."""

    def __init__(self, weights: Weights, device: str | torch.device = "auto", dtype: torch.dtype | None = None) -> None:
        """Load the network.

        device: `auto` is CUDA if there is one. dtype: None is the fastest that changes nothing that is seen. Raises
        `WeightsError`.
        """
        self.facts = weights.facts()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.dtype = dtype if dtype is not None else _dtype(self.device)
        network = Rife()
        try:
            network.load_state_dict(weights.read())
        except RuntimeError as error:
            raise WeightsError(f"{weights.path}: does not fit RIFE 4.0: {hub.first_line(error)}") from error
        self._network = network.eval().requires_grad_(False).to(self.device)

    def pair(self, start: Pictures, end: Pictures, refined: bool = True) -> Pair:
        """Look at two pictures (H, W, 3) of one size, whatever will be asked about them."""
        return Pair(self, start, end, refined)


class Pair:
    """Two pictures as the network sees them."""

    def __init__(self, interpolator: Interpolator, start: Pictures, end: Pictures, refined: bool) -> None:
        self._size = start.shape[:2]
        self._network = interpolator._network
        self._autocast = torch.autocast(
            interpolator.device.type, interpolator.dtype, enabled=interpolator.dtype is not torch.float32
        )
        height, width = self._size
        pictures = torch.cat([_tensor(picture, interpolator.device) for picture in (start, end)], 1)
        self._pictures = functional.pad(pictures, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
        with torch.inference_mode(), self._autocast:
            self._scales = self._network.scales(self._pictures)
            self._features = self._network.features(self._pictures) if refined else None

    def at(self, time: float, refined: bool = True) -> Rendered:
        """Make the frame at `time` (0…1); without the refinement where only its motion is asked for."""
        height, width = self._size
        with torch.inference_mode(), self._autocast:
            estimate = self._network.estimate(self._pictures, time, self._scales)
            frame = (
                estimate.frame
                if self._features is None or not refined
                else self._network.refined(self._pictures, estimate, self._features)
            )
            share = estimate.logit.sigmoid()
        return Rendered(
            _array(frame[..., :height, :width]) * np.float32(255),
            _array(estimate.flows[:, :2, :height, :width]),
            _array(estimate.flows[:, 2:, :height, :width]),
            _array(share[..., :height, :width])[..., 0],
        )


def _dtype(device: torch.device) -> torch.dtype:
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return torch.float16


def _tensor(picture: Pictures, device: torch.device) -> Tensor:
    samples = torch.from_numpy(np.array(picture)).to(device)
    return samples.permute(2, 0, 1)[None].float() / 255


def _array(values: Tensor) -> NDArray[np.float32]:
    """Give (1, C, H, W) as (H, W, C) float32."""
    return np.ascontiguousarray(values[0].permute(1, 2, 0).float().cpu().numpy())
