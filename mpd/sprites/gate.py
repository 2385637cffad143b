"""Whether a model of the sprite world is good enough to draw conclusions from: `python -m mpd.sprites.gate`.

Three figures on held-out clips. *Round trip*: PSNR of a clip through the VAE and back. *First frame*: PSNR of the
first frame that `svd` makes from a keyframe, against that keyframe, beside the round trip of the same picture.
*Forward*: share of `svd`'s clips in which the arrow, found by tracking, moves along its heading.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mpd.methods import Settings
from mpd.progress import Take
from mpd.segments import generate
from mpd.sprites import PATH, track, world
from mpd.svd.model import Model, load

ROUND_TRIP = 30.0  # dB, at least
FIRST_FRAME = 1.5  # dB below the round trip, at most
FORWARD = 0.95  # of the clips, at least


@dataclass(frozen=True)
class Gate:
    """How good a model of the sprite world is. All PSNR in dB, mean over clips."""

    clips: int
    steps: int
    #: PSNR of whole clips through the VAE and back.
    round_trip: float
    #: PSNR of their first frames.
    first_round_trip: float
    #: PSNR of `svd`'s first frame against the keyframe.
    first_frame: float
    #: Share of clips that `track.moves_forward` accepts.
    forward: float
    #: Share of clips that `track.plays_reversed` finds.
    reverse: float
    #: Share of frames with exactly one connected coloured blob.
    one_sprite: float
    #: Median of made over true mean speed.
    speed: float

    @property
    def passed(self) -> bool:
        good = self.round_trip >= ROUND_TRIP and self.forward >= FORWARD
        return good and self.first_round_trip - self.first_frame <= FIRST_FRAME


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Measure the PSNR in dB between two uint8 arrays of any one shape."""
    squared = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / max(squared, 1e-6)))


def round_trip(model: Model, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take a clip through the VAE and back, decoded as samples are."""
    return model.decode(torch.stack([model.keyframe(frame).z for frame in frames]))


def continued(model: Model, scene: world.Scene, start: NDArray[np.uint8], seed: int, steps: int) -> NDArray[np.uint8]:
    """Continue a start frame with `svd`, told the scene's own fps and motion bucket."""
    settings = Settings(
        method="svd", steps=steps, seeds=(seed,), fps=scene.fps, motion_bucket_id=scene.motion_bucket_id
    )
    takes = [report for report in generate(model, [start], settings) if isinstance(report, Take)]
    return takes[0].frames


def measure(model: Model, seeds: Sequence[int], steps: int = 25) -> Gate:
    rows = []
    for seed in tqdm(seeds, desc="clips", mininterval=5):
        scene = world.scene(seed)
        truth = world.render(scene)
        back, made = round_trip(model, truth), continued(model, scene, truth[0], seed % (1 << 32), steps)
        found = track.track(made, scene.hue)
        moved = track.along_heading(found.places)
        rows.append(
            (
                np.mean([psnr(a, b) for a, b in zip(back, truth, strict=True)]),
                psnr(back[0], truth[0]),
                psnr(made[0], truth[0]),
                track.moves_forward(found.places),
                track.plays_reversed(found.places),
                (found.sprites == 1).mean(),
                np.nanmean(moved) / scene.speed if np.isfinite(moved).any() else 0.0,
            )
        )
    columns = np.array(rows, dtype=np.float64).T
    names = ("round_trip", "first_round_trip", "first_frame", "forward", "reverse", "one_sprite")
    means = {name: float(column.mean()) for name, column in zip(names, columns[:-1], strict=True)}
    return Gate(clips=len(rows), steps=steps, speed=float(np.median(columns[-1])), **means)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mpd.sprites.gate", description=__doc__)
    parser.add_argument("--model", type=Path, default=PATH, help="model folder (default: the one that ships)")
    parser.add_argument("--split", default="held-out", choices=list(world.SPLITS), help="default: held-out")
    parser.add_argument("--clips", type=int, default=100, help="how many clips (default: 100)")
    parser.add_argument("--steps", type=int, default=25, help="denoising steps (default: 25)")
    arguments = parser.parse_args()
    gate = measure(load(arguments.model), world.seeds(arguments.split, arguments.clips), arguments.steps)
    print(json.dumps({key: round(value, 3) for key, value in asdict(gate).items()}, indent=1))
    print("passed" if gate.passed else "NOT passed")
    return 0 if gate.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
