"""LPIPS of a row, by `pip install lpips` (0.1.4), in an environment of its own.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018), version 0.1: the
mean over frames, at the frames' own size. Its linear layers come with the package; the network under them is
torchvision's, from the hub or from `hub/checkpoints` in $TORCH_HOME. The paper does not say which network it took, nor
at what size: VGG is the one that Framer, the best stated recipe of the field, names.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks.clips.paper.programs.folders import Picture, Windows, answer, parser, picture


def main() -> int:
    asked = parser(__doc__)
    asked.add_argument("--net", choices=("vgg", "alex", "squeeze"), default="vgg", help="(default: %(default)s)")
    return answer(measure, asked.parse_args())


def measure(asked: argparse.Namespace) -> dict[str, float]:
    import lpips
    import torch

    network = lpips.LPIPS(net=asked.net).to(asked.device).eval()

    def tensor(values: Picture) -> torch.Tensor:
        return torch.from_numpy(values.copy()).permute(2, 0, 1)[None].float().to(asked.device) / 127.5 - 1

    with torch.inference_mode():
        found = [
            float(network(tensor(picture(made)), tensor(picture(true))))
            for _, made, true in Windows(asked.made, asked.truth).pairs()
        ]
    return {"LPIPS": float(np.mean(found))}


if __name__ == "__main__":
    sys.exit(main())
