"""FVD of a row, by `pip install cd-fvd` (0.1.1), in an environment of its own.

Unterthiner et al., "Towards Accurate Generative Models of Video" (2018), with the I3D logits of the package, as TATS
has them: its weights come from the network or from --weights, `i3d_pretrained_400.pt`. Over whole films from keyframe
to keyframe, of 16 frames or more, as I3D halves time. The paper does not tell how it cut its films.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from PIL import Image

from benchmarks.clips.paper.programs.folders import Film, Picture, Windows, answer, parser, picture


def main() -> int:
    asked = parser(__doc__)
    asked.add_argument("--weights", help="i3d_pretrained_400.pt (default: the package fetches it)")
    return answer(measure, asked.parse_args())


def measure(asked: argparse.Namespace) -> dict[str, float]:
    from cdfvd import fvd

    judge = fvd.cdfvd("i3d", n_real="full", n_fake="full", ckpt_path=asked.weights, device=asked.device)
    for _, made, true in Windows(asked.made, asked.truth).films():
        judge.add_fake_stats(_film(made))
        judge.add_real_stats(_film(true))
    return {"FVD": float(judge.compute_fvd_from_stats())}


def _film(paths: Film) -> Picture:
    """Read a film as the network sees it: (1, T, 224, 224, 3)."""
    frames = [Image.fromarray(picture(path)).resize((224, 224), Image.Resampling.BILINEAR) for path in paths]
    return np.stack([np.asarray(frame) for frame in frames])[None]


if __name__ == "__main__":
    sys.exit(main())
