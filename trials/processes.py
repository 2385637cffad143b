"""The one way in which tests and benchmarks start the service: its processes, each with a log of its own.

`Processes` starts them one by one, on whatever Redis and storage its variables name; `stack` starts all of them as
`make up` does. Knows nothing of jobs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from server.up import Stack
from service.settings import ServiceSettings
from trials.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
LONGEST_WAIT = 120.0
"""Seconds that nothing here should ever take; a test that waits this long has failed."""
LOOK_SECONDS = 0.02


class Processes:
    """Processes with one environment and one folder for their logs. A context manager, at whose end none is left.

    variables: beside this process's own. working: the folder they run in.
    """

    def __init__(self, area: Path, variables: Mapping[str, str], working: Path = ROOT) -> None:
        self.area = area
        self.variables = dict(variables)
        self.started: list[psutil.Popen] = []
        self._working = working

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, name: str, command: Sequence[str] | None = None, **variables: str) -> psutil.Popen:
        """Start `inbetween-server NAME`, or another command under that name."""
        with (self.area / f"{name}.log").open("ab") as log:
            process = psutil.Popen(
                command or [sys.executable, "-m", "server.cli", name],
                cwd=self._working,
                env={**os.environ, **self.variables, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    @contextmanager
    def running(self, name: str, **variables: str) -> Iterator[psutil.Popen]:
        """Run one process for as long as the context lasts, and let it end by itself."""
        process = self.start(name, **variables)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(LONGEST_WAIT)
            self.started.remove(process)

    def until_ready(self, url: str, process: psutil.Popen | None = None) -> None:
        """Wait until the API at `url` says that it is ready. process: whose end would be the end of waiting."""
        deadline = time.monotonic() + LONGEST_WAIT
        while not answers(f"{url}/readyz"):
            assert process is None or process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(LOOK_SECONDS)

    def until_said(self, name: str, words: str) -> None:
        """Wait until this stands in the log of a process."""
        deadline = time.monotonic() + LONGEST_WAIT
        while words not in (self.area / f"{name}.log").read_text():
            assert time.monotonic() < deadline, self.log()
            time.sleep(LOOK_SECONDS)

    def log(self) -> str:
        """Give what all of them have said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.area.glob("*.log")))

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.started:
            if process.is_running():
                process.kill()
            process.wait(10)
        self.started.clear()


@contextmanager
def stack(area: Path, **environment: str) -> Iterator[Stack]:
    """Start the whole service as `make up` does, without keys, on a port of its own and with few workers."""
    settings = ServiceSettings(_env_file=None, host="127.0.0.1", port=free_port(), drain_grace=0)
    given = {
        "AUTH": "off",
        "DRAIN_GRACE": "0",
        "MODEL": "",
        "RIFE": "off",
        "OMP_NUM_THREADS": "1",
        "WORKERS_PER_ENGINE": "1",
        "WEBHOOK_WORKERS": "1",
        "STORAGE_URL": str(area / "storage"),
        **environment,
    }
    with Stack(settings, area / "kept", given, logs=area) as running:
        yield running


def answers(url: str) -> bool:
    """Tell whether a GET is answered with success."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False
