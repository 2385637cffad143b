"""Fill every gap of a storyboard: a folder of pictures in, the video between each two neighbours out.

    python examples/storyboard.py boards --method mpd-vibid
    python examples/storyboard.py boards --method flow --frames 25 --once

Pictures stand in the order of their names: boards/01.png, boards/02.png and so on give boards/gaps/01-02.mp4 and so on.
The folder is watched until Ctrl-C: draw a new picture, change one, slip one in between, and the gaps beside it are
filled again. The server is INBETWEEN_URL, its key INBETWEEN_API_KEY.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inbetween import Client, InbetweenError, JobCanceled, JobFailed, Options, RequestRefused

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic"}
SETTLED = 1.0
"""Seconds after a picture's last change; until then somebody may still be writing it."""


def gaps(folder: Path, settled: float) -> Iterator[tuple[Path, Path, Path, float]]:
    """Yield each gap whose video is missing, or older than a picture.

    A gap is (picture, the next picture, where their video belongs, when a picture last changed). settled: seconds that
    no picture may have changed for.
    """
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    for a, b in itertools.pairwise(pictures):
        video = folder / "gaps" / f"{a.stem}-{b.stem}.mp4"
        changed = max(a.stat().st_mtime, b.stat().st_mtime)
        if time.time() - changed >= settled and not (video.exists() and video.stat().st_mtime >= changed):
            yield a, b, video, changed


def fill(client: Client, folder: Path, options: Options, settled: float, faults: dict[Path, float]) -> None:
    """Fill the gaps that there are now. All are asked for first, so that the server can work on several.

    faults: gaps that came to nothing, with the change of a picture that they belong to; left alone until the next one.
    """
    began = time.time()
    jobs = {}
    for a, b, video, changed in gaps(folder, settled):
        if faults.get(video) != changed:
            faults[video] = changed
            with telling(video):
                jobs[video] = client.inbetween(a, b, **options)
    for video, job in jobs.items():
        with telling(video):
            job.wait().save(video)
            # As old as the pictures it was made of: one that was changed meanwhile is newer.
            os.utime(video, (began, began))
            del faults[video]
            print(f"{video}: {job.id}", flush=True)


@contextmanager
def telling(video: Path) -> Iterator[None]:
    """Tell of a gap that cannot be filled, and let the others go on; where the server is at fault, end all."""
    try:
        yield
    except (RequestRefused, JobFailed, JobCanceled) as error:
        print(f"{video}: {error}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="mpd-vibid", help="default: mpd-vibid")
    parser.add_argument("--frames", type=int, help="of each gap, both pictures included (default: the model's own)")
    parser.add_argument("--once", action="store_true", help="end when every gap is filled")
    asked = parser.parse_args()
    options: Options = {"method": asked.method, "frames": asked.frames}
    try:
        with Client() as client:
            faults: dict[Path, float] = {}
            fill(client, asked.folder, options, 0.0 if asked.once else SETTLED, faults)
            while not asked.once:
                time.sleep(1.0)
                fill(client, asked.folder, options, SETTLED, faults)
    except (InbetweenError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
