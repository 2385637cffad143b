"""What `make demo` runs: the whole service on this machine, two keyframes through it, a video at the end.

Starts the embedded service on a free port in a temporary folder, posts `examples/keyframes/` to it over HTTP as any
caller would, follows the event stream, and downloads the result to `demo/`. Stops everything it started.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from mpd import sprites
from service.settings import Settings
from worker.up import CannotStart, Stack

ROOT = Path(__file__).resolve().parent.parent
KEYFRAMES = [ROOT / "examples" / "keyframes" / name for name in ("arrow-start.png", "arrow-end.png")]
OPTIONS = {"method": "mpd", "fps": 7, "motion_bucket_id": 157, "seed": 1}
BAR = 30


def main() -> int:
    parser = argparse.ArgumentParser(description="Two keyframes through the whole service, on this machine.")
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="folder for the video (default: demo)")
    parser.add_argument("--steps", type=int, default=25, help="sampling steps (default: 25)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="inbetween-demo-") as scratch:
        try:
            say("Redis, API, keeper and worker start …")
            with service(Path(scratch)) as stack, _client(stack.url) as client:
                job = post(client, {**OPTIONS, "steps": asked.steps})
                job = follow(client, job)
                download(client, job, asked.output)
        except (CannotStart, Failed) as error:
            say(f"\n{error}")
            for log in sorted(Path(scratch).glob("*.log")):
                say(f"--- the end of {log.name}\n" + "".join(log.read_text().splitlines(keepends=True)[-10:]))
            return 1
        except KeyboardInterrupt:
            say("\nStopped; nothing is left running.")
            return 130
    folder = os.path.relpath(asked.output)
    say(f"\nLook at {folder}/inbetween.mp4 and {folder}/contact-sheet.jpg.")
    say(f"Everything that was started is stopped again ({time.monotonic() - began:.0f} s).")
    say(
        "The small model that ships has learnt one thing: an arrow flies where it points. The keyframes are the ends\n"
        "of a clip that it never saw. For photographs without a GPU, try `flow` after `make up`."
    )
    return 0


class Failed(Exception):
    """The service answered, but not with a video."""


def service(scratch: Path) -> Stack:
    """The embedded service, its logs and everything it keeps in the scratch folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(_env_file=None, host="127.0.0.1", port=port, drain_grace=0)
    area = scratch / "area"
    environment = {
        "AUTH": "off",
        "DEVICE": "cpu",
        "DRAIN_GRACE": "0",
        "MODEL": str(sprites.PATH),
        "PUBLIC_URL": "",
        "OMP_NUM_THREADS": "1",  # a model this small gains nothing from a second thread, and loses much on a busy CPU
        "STORAGE_URL": str(area / "storage"),
    }
    return Stack(settings, area, environment, logs=scratch)


def _client(url: str) -> httpx.Client:
    """Straight to this machine, whatever proxy its environment names for others."""
    return httpx.Client(base_url=url, timeout=60, trust_env=False)


def post(client: httpx.Client, options: dict[str, Any]) -> dict[str, Any]:
    """Submit the keyframes as a browser's form would. The answer is 202 and the job."""
    files = {name: (path.name, path.read_bytes()) for name, path in zip(("start", "end"), KEYFRAMES, strict=True)}
    answer = client.post("/inbetween", files=files, data={"options": json.dumps(options)})
    if answer.status_code != 202:
        raise Failed(f"the service refused the job: {answer.text}")
    job: dict[str, Any] = answer.json()
    say(f"POST {answer.request.url} → {answer.status_code}, {job['id']}")
    return job


def follow(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Show the job's progress until it is over."""
    for kind, data in events(client, job["links"]["events"]):
        if kind == "state":
            say(f"\r{data['state']:<{BAR + 40}}")
        elif kind == "progress":
            done = round(BAR * data.get("fraction", 0))
            step = f"step {data['step']}/{data['steps']}" if "step" in data else ""
            left = f", {data['eta']:.0f} s left" if data.get("eta") else ""
            sys.stdout.write(f"\r[{'#' * done}{'.' * (BAR - done)}] {data['stage']} {step}{left}".ljust(BAR + 40))
            sys.stdout.flush()
    job = client.get(job["links"]["self"]).json()
    if job["state"] != "succeeded":
        raise Failed(f"the job {job['state']}: {(job.get('error') or {}).get('detail')}")
    return job


def events(client: httpx.Client, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The server-sent events of a job: what kind, and the data."""
    with client.stream("GET", url) as stream:
        stream.raise_for_status()
        kind = ""
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)


def download(client: httpx.Client, job: dict[str, Any], folder: Path) -> None:
    """Bring the video and the contact sheet home; a file appears when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for link, name in (("video", "inbetween.mp4"), ("contact_sheet", "contact-sheet.jpg")):
        answer = client.get(job["links"][link], follow_redirects=True)
        answer.raise_for_status()
        part = folder / f".{name}.part"
        try:
            part.write_bytes(answer.content)
            part.replace(folder / name)
        finally:
            part.unlink(missing_ok=True)
    with Image.open(io.BytesIO(answer.content)) as sheet:
        sheet.verify()
    result = job["result"]
    say(f"{result['frames']} frames of {result['width']}x{result['height']}, {result['fps']} per second")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
