"""`mpd calibrate`: measure how fast a model moves things by motion bucket and rate, once, from pictures of one's own.

Every picture is continued by `svd` at every motion bucket and rate; how far what moves has got from the first frame to
the last is measured as between keyframes (`mpd.displacement`). What comes of it lies beside the model's files, and says
what `motion_bucket_id: auto` is.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpd import calibration
from mpd.base import Base, ModelError
from mpd.calibration import Calibration
from mpd.methods import Settings
from mpd.progress import Pictures, Take

if TYPE_CHECKING:
    from collections.abc import Iterator

FPS = (5, 7, 9)
BUCKETS = (31, 63, 95, 127, 159, 191, 223, 255)
EXAMPLE = """\
example:
  mpd calibrate ./svd-xt photographs/*.jpg --device cuda
                                          twenty pictures of what is to move, 24 clips of each
"""


class CannotCalibrate(Exception):
    """The message is one line."""


def parser(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Make the parser of the arguments behind `mpd calibrate`."""
    made = kind(
        prog="mpd calibrate",
        description="Measure what motion bucket moves things how fast, so that motion_bucket_id can be auto.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", metavar="DIR", type=Path, help="the model's folder, where the calibration is kept")
    made.add_argument("pictures", metavar="PICTURE", nargs="+", help="what the model begins with; ten or more")
    made.add_argument("--fps", type=int, nargs="+", default=FPS, metavar="N", help="rates (default: 5 7 9)")
    made.add_argument(
        "--buckets",
        type=int,
        nargs="+",
        default=BUCKETS,
        metavar="N",
        help="motion buckets (default: eight, to 255)",
    )
    made.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    return made


def run(options: argparse.Namespace) -> None:
    """Calibrate a model and keep what was measured in its folder. Raises `CannotCalibrate`."""
    from mpd import keyframes, photographs
    from mpd.loader import load

    if not options.model.is_dir():
        raise CannotCalibrate(f"{options.model} is no folder: a calibration is kept beside a model's own files")
    images = [photographs.load(path) for path in options.pictures]
    try:
        model = load(options.model, device=options.device)
    except ModelError as error:
        raise CannotCalibrate(str(error)) from error
    pictures, _ = keyframes.prepare(
        images, Settings(method="svd"), native_size=model.native_size, size_multiple=model.size_multiple
    )
    print(calibrated(options.model, model, pictures, options.fps, options.buckets))


def calibrated(
    folder: Path, model: Base, pictures: Sequence[Pictures], fps: Sequence[int] = FPS, buckets: Sequence[int] = BUCKETS
) -> Path:
    """Calibrate a model, keep the table in its folder, and give the table's path. Raises `CannotCalibrate`."""
    return measure(model, pictures, sorted(set(fps)), sorted(set(buckets))).write(folder)


def measure(model: Base, pictures: Sequence[Pictures], fps: Sequence[int], buckets: Sequence[int]) -> Calibration:
    """Measure the displacement a frame at each rate and bucket: the median over pictures (H, W, 3).

    Raises `CannotCalibrate` where no motion is found in the clips of a rate and bucket.
    """
    from tqdm import tqdm

    cells = [(rate, bucket) for rate in fps for bucket in buckets]
    speeds: dict[tuple[int, int], float] = {}
    for rate, bucket in tqdm(cells, desc="rates and buckets", mininterval=5):
        found = list(_speeds(model, pictures, rate, bucket))
        if not found:
            raise CannotCalibrate(f"no motion found at {rate} fps and bucket {bucket}: use pictures of what can move")
        speeds[rate, bucket] = statistics.median(found)
    rows = tuple(tuple(round(speeds[rate, bucket], 6) for bucket in buckets) for rate in fps)
    return calibration.Calibration(tuple(fps), tuple(buckets), rows)


def _speeds(model: Base, pictures: Sequence[Pictures], fps: int, bucket: int) -> Iterator[float]:
    from mpd.displacement import displacement
    from mpd.segments import generate

    for seed, picture in enumerate(pictures):
        asked = Settings(method="svd", fps=fps, motion_bucket_id=bucket, seeds=(seed,))
        for report in generate(model, [picture], asked):
            if isinstance(report, Take):
                apart = displacement(report.frames[0], report.frames[-1])
                if apart is not None:
                    yield apart / (len(report.frames) - 1)
