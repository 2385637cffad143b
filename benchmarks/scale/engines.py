"""Engines that only sleep, each behind a real socket of its own.

python -m benchmarks.scale.engines FOLDER COUNT SECONDS
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpd.methods import Settings
from mpd.progress import Pictures, Progress, Take
from worker.engine import protocol
from worker.engine.job_line import JobServer

STEPS = 25
SIDE, FRAMES = 64, 8


def sleep(folder: Path, count: int, seconds: float) -> None:
    """Run so many engines in one process: they only sleep, each behind a socket of its own."""
    frames = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)

    def generate(pictures: list[Pictures], options: Settings, bits: int) -> Iterator[Progress | Take]:
        for step in range(STEPS):
            time.sleep(seconds / STEPS)
            yield Progress(0, 1, 0, 1, step + 1, STEPS, (step + 1) / STEPS, None, lambda: None)
        yield Take(0, options.seeds[0], frames, options.fps)

    threads = []
    for number in range(count):
        (folder / str(number)).mkdir(mode=0o700)
        server = JobServer(protocol.socket_path(folder / str(number)))
        facts = {"revision": None, "license": None, "device": "cpu", "native_frames": FRAMES, "size_multiple": 8}
        server.model = {**facts, "name": "sleep", "dtype": "float32", "native_size": (SIDE, SIDE)}
        threads.append(threading.Thread(target=server.run, args=(generate,)))
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    sleep(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
