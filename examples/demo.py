"""What `make demo` runs: the whole service on this machine, two keyframes through it, a video at the end.

Starts the embedded service on a free port in a temporary folder, sends it two of `examples/keyframes/` with the client
`inbetween`, as any caller would, follows the job, and downloads the result to `demo/`. Stops everything it started.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from inbetween import Client, InbetweenError, Options
from inbetween.bar import Bar
from mpd import sprites
from server.up import CannotStart, Stack
from service.settings import ServiceSettings

ROOT = Path(__file__).resolve().parent.parent
KEYFRAMES = [ROOT / "examples" / "keyframes" / name for name in ("arrow-start.png", "arrow-end.png")]
OPTIONS: Options = {"method": "mpd", "fps": 7, "motion_bucket_id": 157, "seed": 1}


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
            with service(Path(scratch)) as stack, Client(stack.url) as client:
                make(client, asked.steps, asked.output)
        except (CannotStart, InbetweenError) as error:
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


def service(scratch: Path) -> Stack:
    """Run the embedded service, its logs and everything it keeps in the scratch folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ServiceSettings(_env_file=None, host="127.0.0.1", port=port, drain_grace=0)
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


def make(client: Client, steps: int, folder: Path) -> None:
    """Send the keyframes through the service, and bring the video and the contact sheet home."""
    options: Options = {**OPTIONS, "steps": steps}
    job = client.inbetween(*KEYFRAMES, **options)
    say(f"{job.id} submitted to {client.url}")
    bar = Bar(stream=sys.stdout)
    job.wait(bar.show, cancel_on_interrupt=False)
    bar.say("succeeded")
    job.save(folder / "inbetween.mp4")
    job.save_file("contact-sheet.jpg", folder / "contact-sheet.jpg")
    result = job.found()
    say(f"{result.frames} frames of {result.width}x{result.height}, {result.fps} per second")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
