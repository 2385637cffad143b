"""Many videos from a table: a CSV with a row for each, some at a time, taken up again where it was stopped.

    python examples/batch.py shots.csv --at-once 4

The columns `start` and `end` name the keyframes and `output` the video, as paths beside the CSV; any other column is
an option of the job, such as `method`, `frames` or `seed`, and an empty cell leaves it out:

    start,end,output,method,frames
    01a.png,01b.png,01.mp4,mpd-vibid,25
    02a.png,02b.png,02.mp4,flow,

A row whose output is there is done. A row that was under way when this was stopped is the same job still, for a day:
the server knows it by its idempotency key. The server is INBETWEEN_URL, its key INBETWEEN_API_KEY.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from inbetween import AsyncClient, InbetweenError

OUR_COLUMNS = ("start", "end", "output")


def options_of(row: dict[str, str]) -> dict[str, Any]:
    """Read the other columns: numbers and lists as JSON has them, anything else as text."""
    options = {}
    for name, cell in row.items():
        if name not in OUR_COLUMNS and cell:
            try:
                options[name] = json.loads(cell)
            except ValueError:
                options[name] = cell
    return options


def key_of(row: dict[str, str], *keyframes: Path) -> str:
    """Make an idempotency key, the same for the same row with the same pictures."""
    digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
    for keyframe in keyframes:
        digest.update(keyframe.read_bytes())
    return f"batch-{digest.hexdigest()}"


async def make(client: AsyncClient, folder: Path, row: dict[str, str]) -> None:
    start, end, output = (folder / row[name] for name in OUR_COLUMNS)
    job = await client.inbetween(start, end, idempotency_key=key_of(row, start, end), **options_of(row))
    # Stopped, this leaves the job running: the next run will find it.
    await job.wait(cancel_on_interrupt=False)
    await job.save(output)


async def batch(table: Path, at_once: int) -> int:
    """Make every row's video, and count how many could not be made."""
    with table.open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if not (table.parent / row["output"]).exists()]
    free = asyncio.Semaphore(at_once)
    failed = 0

    async def one(row: dict[str, str]) -> None:
        nonlocal failed
        async with free:
            try:
                await make(client, table.parent, row)
                print(f"{row['output']}: done", flush=True)
            except (InbetweenError, OSError) as error:
                failed += 1
                print(f"{row['output']}: {error}", file=sys.stderr, flush=True)

    async with AsyncClient() as client:
        await asyncio.gather(*(one(row) for row in rows))
    print(f"{len(rows) - failed} made, {failed} not")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="CSV")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="jobs under way (default: 4)")
    asked = parser.parse_args()
    try:
        return 1 if asyncio.run(batch(asked.table, asked.at_once)) else 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
