"""What a caller does, run inside the API's container with the client that is in its image.

caller.py START END OPTIONS      makes a job, waits, checks its video; prints the job's story as JSON
caller.py --started START END OPTIONS    makes a job and prints its id once it samples
caller.py --wait ID              waits for it
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

from inbetween import Client


def main(arguments: list[str]) -> None:
    client = Client("http://127.0.0.1:8000")
    if arguments[0] == "--wait":
        return told(client, arguments[1], time.monotonic())
    only_started = arguments[0] == "--started"
    start, end, options = arguments[-3:]
    began = time.monotonic()
    job = client.inbetween(start, end, **json.loads(options))
    if not only_started:
        return told(client, job.id, began)
    for event in job.events():
        if event.type == "progress":
            print(job.id)
            return None
    raise SystemExit("the job ended before it was seen to sample")


def told(client: Client, job_id: str, began: float) -> None:
    job = client.job(job_id)
    job.wait()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        job.save(path)
        content = path.read_bytes()
    story = {
        "state": job.state,
        "attempt": job.data["attempt"],
        "seconds": round(time.monotonic() - began, 1),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest()[:12],
    }
    print(json.dumps(story))


if __name__ == "__main__":
    main(sys.argv[1:])
