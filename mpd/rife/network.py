"""RIFE 4.0's network: intermediate flows from coarse to fine, and the refinement of what they give.

Z. Huang, T. Zhang, W. Heng, B. Shi and S. Zhou, "Real-Time Intermediate Flow Estimation for Video Frame Interpolation",
ECCV 2022; the layers are those that the weights of release 4.0 fit. Pictures are (N, 3, H, W) in 0…1, sides multiples
of 128; flows are (N, 4, H, W), pixels, x first: from the frame at t to picture 0, then to picture 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALES = (8, 4, 2, 1)
"""At one n-th of the pictures' size each block estimates, coarse to fine."""
LARGE = 32.0
"""Pixels that the second block adds both ways at which motion is too large for the scales."""
_PYRAMID = (16, 32, 64, 128)


@dataclass(frozen=True)
class Estimate:
    """What the network says of the frame at one t."""

    #: (N, 4, H, W): to picture 0, to picture 1.
    flows: Tensor
    #: (N, 1, H, W): the logit of picture 0's share.
    logit: Tensor
    #: (N, 3, H, W) each: the pictures as they are warped to the frame.
    warped: tuple[Tensor, Tensor]

    @property
    def frame(self) -> Tensor:
        share = self.logit.sigmoid()
        return self.warped[0] * share + self.warped[1] * (1 - share)


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """Sample `picture` (N, C, H, W) where `flow` (N, 2, H, W) points: bilinear, its edge going on beyond the edge."""
    height, width = picture.shape[2:]
    across = torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0].float()
    down = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1].float()
    places = torch.stack([across * (2 / (width - 1)) - 1, down * (2 / (height - 1)) - 1], -1)
    return functional.grid_sample(picture.float(), places, "bilinear", "border", align_corners=True)


def _sized(values: Tensor, factor: float) -> Tensor:
    return functional.interpolate(
        values, scale_factor=factor, mode="bilinear", align_corners=False, recompute_scale_factor=False
    )


def _in_full(layer: nn.Module, values: Tensor) -> Tensor:
    """Apply a layer in float32, whatever autocast does: 16 bits are too few for what it gives."""
    with torch.autocast(values.device.type, enabled=False):
        return layer(values.float())  # type: ignore[no-any-return]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


class FlowBlock(nn.Module):
    """What one scale adds to the flows and to the logit."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_convolution(inputs, channels // 2, 2), _convolution(channels // 2, channels, 2))
        self.convblock = nn.Sequential(*(_convolution(channels, channels) for _ in range(8)))
        self.lastconv = nn.ConvTranspose2d(channels, 5, 4, 2, 1)

    def forward(self, seen: Tensor, flows: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        seen = _sized(seen, 1 / scale)
        if flows is not None:
            seen = torch.cat([seen, _sized(flows, 1 / scale) / scale], 1)
        features = self.conv0(seen)
        added = _sized(_in_full(self.lastconv, self.convblock(features) + features), 2 * scale)
        return added[:, :4] * (2 * scale), added[:, 4:]


class _Pair(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 2)
        self.conv2 = _convolution(outputs, outputs)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv2(self.conv1(values))  # type: ignore[no-any-return]


class Context(nn.Module):
    """Features of one picture at 1/2, 1/4, 1/8 and 1/16 of its size, warped to the frame."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inputs, outputs) in enumerate(zip((3, *_PYRAMID), _PYRAMID, strict=False), 1):
            setattr(self, f"conv{number}", _Pair(inputs, outputs))

    def features(self, picture: Tensor) -> list[Tensor]:
        """Give the features before they are warped: for a picture once, whatever t."""
        found = []
        for number in range(1, 5):
            picture = getattr(self, f"conv{number}")(picture)
            found.append(picture)
        return found

    def forward(self, features: Sequence[Tensor], flow: Tensor) -> list[Tensor]:
        found = []
        for level in features:
            flow = _sized(flow, 0.5) * 0.5
            found.append(warp(level, flow))
        return found


class Refinement(nn.Module):
    """What is added to the frame, in -1…1."""

    def __init__(self) -> None:
        super().__init__()
        self.down0 = _Pair(17, 32)
        self.down1 = _Pair(64, 64)
        self.down2 = _Pair(128, 128)
        self.down3 = _Pair(256, 256)
        for number, (inputs, outputs) in enumerate(((512, 128), (256, 64), (128, 32), (64, 16))):
            setattr(self, f"up{number}", nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.PReLU(outputs)))
        self.conv = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(
        self, pictures: Tensor, estimate: Estimate, first: Sequence[Tensor], second: Sequence[Tensor]
    ) -> Tensor:
        seen = torch.cat([pictures, *estimate.warped, estimate.logit, estimate.flows], 1)
        levels = [self.down0(seen)]
        for number in range(3):
            levels.append(getattr(self, f"down{number + 1}")(torch.cat([levels[-1], first[number], second[number]], 1)))
        values = torch.cat([levels.pop(), first[3], second[3]], 1)
        for number in range(3):
            values = torch.cat([getattr(self, f"up{number}")(values), levels.pop()], 1)
        return _in_full(self.conv, self.up3(values)).sigmoid() * 2 - 1  # type: ignore[operator]


class Rife(nn.Module):
    """The whole network. Parameters have the names that the published weights have."""

    def __init__(self) -> None:
        super().__init__()
        self.block0 = FlowBlock(7, 192)
        self.block1 = FlowBlock(12, 128)
        self.block2 = FlowBlock(12, 96)
        self.block3 = FlowBlock(12, 64)
        self.contextnet = Context()
        self.unet = Refinement()

    def estimate(self, pictures: Tensor, t: float, scales: Sequence[int] = SCALES) -> Estimate:
        """Estimate the frame at `t` (0…1) of two pictures (N, 6, H, W), one behind the other."""
        first, second = pictures[:, :3], pictures[:, 3:]
        moment = torch.full_like(pictures[:, :1], t)
        flows, logit = self.block0(torch.cat([pictures, moment], 1), None, scales[0])
        for block, scale in zip((self.block1, self.block2, self.block3), scales[1:], strict=True):
            seen = torch.cat([warp(first, flows[:, :2]), warp(second, flows[:, 2:]), moment, logit], 1)
            added, more = block(seen, flows, scale)
            flows, logit = flows + added, logit + more
        return Estimate(flows, logit, (warp(first, flows[:, :2]), warp(second, flows[:, 2:])))

    def scales(self, pictures: Tensor) -> tuple[int, ...]:
        """Choose the scales that a pair's motion needs: twice as coarse where the second block adds much both ways.

        Once for a pair, at t = 1/2: chosen for each frame it would change inside one film.
        """
        first, second = pictures[:, :3], pictures[:, 3:]
        moment = torch.full_like(pictures[:, :1], 0.5)
        flows, logit = self.block0(torch.cat([pictures, moment], 1), None, SCALES[0])
        seen = torch.cat([warp(first, flows[:, :2]), warp(second, flows[:, 2:]), moment, logit], 1)
        added, _ = self.block1(seen, flows, SCALES[1])
        both = min(added[:, :2].abs().max().item(), added[:, 2:].abs().max().item())
        return tuple(2 * scale for scale in SCALES) if both > LARGE else SCALES

    def features(self, pictures: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Give what `refined` wants of two pictures, whatever t."""
        return self.contextnet.features(pictures[:, :3]), self.contextnet.features(pictures[:, 3:])

    def refined(self, pictures: Tensor, estimate: Estimate, features: tuple[list[Tensor], list[Tensor]]) -> Tensor:
        """Give the frame (N, 3, H, W) with what the refinement adds to it."""
        first = self.contextnet(features[0], estimate.flows[:, :2])
        second = self.contextnet(features[1], estimate.flows[:, 2:])
        added: Tensor = self.unet(pictures, estimate, first, second)
        return (estimate.frame + added).clamp(0, 1)
