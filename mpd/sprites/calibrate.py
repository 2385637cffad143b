"""Calibrate a model of the sprite world on first frames of training clips: `python -m mpd.sprites.calibrate`."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from mpd import calibrate
from mpd.sprites import PATH, world
from mpd.svd.model import load

FAST = 3.2
"""Pixels a frame, from which a clip's first frame leaves room for any speed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mpd.sprites.calibrate", description=__doc__)
    parser.add_argument("--model", type=Path, default=PATH, help="model folder (default: the one that ships)")
    parser.add_argument("--clips", type=int, default=16, help="how many pictures (default: 16)")
    arguments = parser.parse_args()
    scenes = (world.scene(seed) for seed in world.seeds("train", world.SPLIT_SEEDS))
    # From where a slow arrow starts, a fast one would leave the picture, and none in training does.
    far = itertools.islice((scene for scene in scenes if scene.speed > FAST), arguments.clips)
    pictures = [world.render(scene, count=1)[0] for scene in far]
    print(calibrate.calibrated(arguments.model, load(arguments.model), pictures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
