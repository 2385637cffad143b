"""FID of a row, by `pip install pytorch-fid` (0.3.0), in an environment of its own.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (NeurIPS 2017): the
pool features (2048) of the Inception network that the package loads from its release or from $TORCH_HOME, over all
frames between the keyframes against all true ones. With few frames it is large, and only comparable at their number;
the paper does not tell its own, nor its crop.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.clips.paper.programs.folders import Windows, answer, parser


def main() -> int:
    asked = parser(__doc__)
    asked.add_argument("--dims", type=int, default=2048, choices=(64, 192, 768, 2048), help="(default: %(default)s)")
    return answer(measure, asked.parse_args())


def measure(asked: argparse.Namespace) -> dict[str, float]:
    from pytorch_fid.fid_score import calculate_fid_given_paths

    windows = Windows(asked.made, asked.truth)
    with tempfile.TemporaryDirectory() as name:
        sides = [Path(name) / "made", Path(name) / "truth"]
        _linked(sides[0], (made for _, made, _ in windows.pairs()))
        _linked(sides[1], (true for _, _, true in windows.pairs()))
        value = calculate_fid_given_paths([str(side) for side in sides], 50, asked.device, asked.dims, num_workers=0)
    return {"FID": float(value)}


def _linked(folder: Path, frames: Iterable[Path]) -> None:
    """Lay frames of many folders into one, as the package wants them."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        (folder / f"{number:06d}.png").symlink_to(frame.resolve())


if __name__ == "__main__":
    sys.exit(main())
