"""Bridge two clips: the last frames of one and the first of the other are keyframes, so the motion of both goes on.

    python examples/bridge.py before.mp4 after.mp4 bridge.mp4 --gap 19 --seen 3

bridge.mp4 begins with the last 3 frames of before.mp4 and ends with the first 3 of after.mp4, as they are; between them
are 19 new ones. Where all of them fit the model's own length, as 3 + 19 + 3 do with SVD-XT's 25, they are sampled as
one, and the answer's `groups` say so. The server is INBETWEEN_URL, its key INBETWEEN_API_KEY. Needs PyAV (`av`).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import deque
from itertools import islice
from pathlib import Path

import av

from inbetween import Client, InbetweenError


def stills(clip: Path, count: int, last: bool) -> list[bytes]:
    """Read the first or the last frames of a clip as PNG files."""
    with av.open(str(clip)) as film:
        frames = film.decode(video=0)
        seen = list(deque(frames, count) if last else islice(frames, count))
    if len(seen) < count:
        raise ValueError(f"{clip} has {len(seen)} frames, and {count} are asked for")
    return [_png(frame) for frame in seen]


def _png(frame: av.VideoFrame) -> bytes:
    file = io.BytesIO()
    frame.to_image().save(file, "PNG")
    return file.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--gap", type=int, default=19, help="new frames between the clips (default: 19)")
    parser.add_argument("--seen", type=int, default=3, help="frames of each clip that the model sees (default: 3)")
    parser.add_argument("--method", default="mpd", help="default: mpd, which alone samples them as one")
    parser.add_argument("--fps", type=int, default=7, help="frames per second, as the model is told (default: 7)")
    asked = parser.parse_args()
    try:
        ends = stills(asked.before, asked.seen, last=True), stills(asked.after, asked.seen, last=False)
        places = *range(asked.seen), *range(asked.seen + asked.gap, 2 * asked.seen + asked.gap)
        keyframes = zip([*ends[0], *ends[1]], places, strict=True)
        with Client() as client:
            job = client.inbetween(*keyframes, method=asked.method, fps=asked.fps, exact_keyframes=True)
            job.wait().save(asked.output)
            groups = job.result.groups if job.result else []
    except (InbetweenError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    how = {0: "interpolated", 1: "sampled as one"}.get(len(groups), f"sampled in {len(groups)} parts")
    print(f"{asked.output}: {asked.gap} new frames, {how}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
