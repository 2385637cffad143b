"""VBench and VBench++ of a row, by `pip install vbench` (0.1.5), in an environment of its own.

Huang et al., "VBench" (CVPR 2024) and "VBench++" (2024). VBench is the mean of the quality dimensions that custom films
can be measured by; VBench++ that of image-to-video's subject and background, once with each keyframe as the image (for
the end, the film runs backwards) and averaged. Weights are those that the package fetches into ~/.cache/vbench. The
paper tells neither its dimensions nor how it weighs them: these are all that need no prompt, equally.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.clips.paper.programs.folders import Windows, answer, film_file, parser

QUALITY = (
    "subject_consistency", "background_consistency", "motion_smoothness", "dynamic_degree", "aesthetic_quality",
    "imaging_quality",
)  # fmt: skip


def main() -> int:
    asked = parser(__doc__)
    asked.add_argument("--dimensions", nargs="+", default=list(QUALITY), help="of VBench (default: %(default)s)")
    return answer(measure, asked.parse_args())


def measure(asked: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "films").mkdir()
        (folder / "backwards").mkdir()
        pairs = []
        for window, made, true in Windows(asked.made, asked.truth).films():
            film = film_file(made, folder / "films" / f"{window}.mp4")
            backwards = film_file(made[::-1], folder / "backwards" / f"{window}.mp4")
            pairs += [(str(true[0]), str(film)), (str(true[-1]), str(backwards))]
        return {"VBench": _quality(asked, folder), "VBench++": _likeness(asked, pairs)}


def _quality(asked: argparse.Namespace, folder: Path) -> float:
    from vbench import VBench

    judge = VBench(asked.device, None, str(folder))
    judge.evaluate(str(folder / "films"), "row", dimension_list=asked.dimensions, mode="custom_input")
    found = json.loads((folder / "row_eval_results.json").read_text())
    scores = {dimension: float(values[0]) for dimension, values in found.items()}
    # As VBench's own table brings it to 0…1.
    scores = {name: value / 100 if name == "imaging_quality" and value > 1 else value for name, value in scores.items()}
    return float(np.mean(list(scores.values())))


def _likeness(asked: argparse.Namespace, pairs: list[tuple[str, str]]) -> float:
    import torch
    from dreamsim import dreamsim
    from vbench2_beta_i2v.i2v_background import i2v_background
    from vbench2_beta_i2v.i2v_subject import i2v_subject

    dino = torch.hub.load("facebookresearch/dino:main", "dino_vitb16", source="github")  # type: ignore[no-untyped-call]
    dino = dino.to(asked.device)
    dream, _ = dreamsim(pretrained=True, device=asked.device)
    return float(np.mean([i2v_subject(dino, pairs, asked.device)[0], i2v_background(dream, pairs, asked.device)[0]]))


if __name__ == "__main__":
    sys.exit(main())
