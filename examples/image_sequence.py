"""In-betweens for an image sequence, as Blender, Nuke and other tools number them.

    python examples/image_sequence.py shot.####.png --method mpd-vibid

Of shot.0001.png, shot.0013.png and shot.0025.png it makes shot.0002.png to shot.0012.png and shot.0014.png to
shot.0024.png: the numbers say where the keyframes stand. The keyframes themselves are left as they are; frames that
are there already are keyframes, so remove those that you want made anew. The server is INBETWEEN_URL, its key
INBETWEEN_API_KEY.

`flow` keeps the size of pictures up to 1280 pixels across; a model has its own, which --size may change.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import zipfile
from pathlib import Path

from inbetween import Client, InbetweenError, Job, Options


def keyframes(pattern: Path) -> dict[int, Path]:
    """Find the pictures that are there, by their numbers. `#` stands for a digit, as in shot.####.png."""
    hashes = re.search("#+", pattern.name)
    if hashes is None:
        raise ValueError(f"{pattern.name} has no # where the frame's number stands")
    before, after = map(re.escape, (pattern.name[: hashes.start()], pattern.name[hashes.end() :]))
    named = re.compile(rf"{before}(\d{{{len(hashes[0])},}}){after}")
    found = {int(match[1]): path for path in pattern.parent.iterdir() if (match := named.fullmatch(path.name))}
    if len(found) < 2:
        raise ValueError(f"{len(found)} pictures are named like {pattern}; two or more are needed")
    return dict(sorted(found.items()))


def numbered(pattern: Path, number: int) -> Path:
    return pattern.with_name(re.sub("#+", lambda hashes: f"{number:0{len(hashes[0])}d}", pattern.name, count=1))


def write(job: Job, pattern: Path, numbers: list[int]) -> list[Path]:
    """Put the frames between the keyframes into the sequence, and say where they went."""
    written = []
    with zipfile.ZipFile(io.BytesIO(job.read("take-1.zip"))) as frames:
        for number, name in enumerate(sorted(frames.namelist()), start=numbers[0]):
            if number not in numbers:
                path = numbered(pattern, number)
                part = path.with_name(f".{path.name}.part")
                part.write_bytes(frames.read(name))
                written.append(part.replace(path))
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", type=Path, help="such as render/shot.####.png")
    parser.add_argument("--method", default="mpd-vibid", help="default: mpd-vibid")
    parser.add_argument("--size", metavar="WxH", help="of the frames that are made")
    asked = parser.parse_args()
    options: Options = {"method": asked.method, "formats": ["png"]}
    try:
        if asked.size:
            options["width"], options["height"] = map(int, asked.size.split("x"))
        found = keyframes(asked.pattern)
        first = min(found)
        with Client() as client:
            job = client.inbetween(*((path, number - first) for number, path in found.items()), **options)
            written = write(job.wait(), asked.pattern, list(found))
    except (InbetweenError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{len(written)} frames between {len(found)} keyframes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
