"""What requests cost while they are answered: the API's memory above what it holds at rest, and how long it is silent.

Memory is the kernel's own record of the most that was resident (`VmHWM`), begun anew for each request. Silence is how
long `/livez` keeps a process of its own waiting, which asks all the time.
"""

from __future__ import annotations

import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMES = 4
"""The most that one request may take, in bodies of its own."""
SLACK = 8_000_000
"""Bytes that no request is charged with: what the process grows by on first use, and what it reads and answers by."""
PAUSE = 0.02
"""Seconds between two questions."""


@dataclass
class RequestCosts:
    """What requests took of the API's memory and time, and what they may."""

    #: Bytes that all requests at once may take.
    most: int
    #: Seconds that the API may keep a stranger waiting.
    silence: float
    #: The highest memory of one request above rest, less what its picture is decoded to, in bodies of its own.
    times: float = 0.0
    alone: int = 0
    together: int = 0
    longest: float = 0.0
    #: Requests that took more than they may.
    over: list[str] = field(default_factory=list)

    def one(self, told: str, body: int, decoded: int, taken: int) -> None:
        """Note that one request alone took `taken` bytes above rest."""
        self.alone = max(self.alone, taken)
        own = max(0, taken - decoded - SLACK)
        self.times = max(self.times, own / max(body, 1))
        if own > TIMES * body or taken > self.most:
            self.over.append(f"{taken / 1e6:.1f} MB for {body / 1e6:.1f} MB: {told}")

    def crowd(self, taken: int) -> None:
        """Note that many requests at once took `taken` bytes above rest."""
        self.together = max(self.together, taken)
        if taken > self.most:
            self.over.append(f"{taken / 1e6:.1f} MB for many requests at once")

    @property
    def bounded(self) -> bool:
        return not self.over and self.longest <= self.silence

    def to_dict(self) -> dict[str, Any]:
        return {
            "one_request_mb": round(self.alone / 1e6, 1),
            "one_request_bodies": round(self.times, 2),
            "together_mb": round(self.together / 1e6, 1),
            "longest_silence_seconds": round(self.longest, 3),
            "over": self.over,
        }


@contextmanager
def peak(pid: int) -> Iterator[list[int]]:
    """Measure by how many bytes the process' memory was above its beginning at the most.

    The number goes into the list at the end of the block.
    """
    taken: list[int] = []
    # 5 stands for: forget the most that was resident.
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _status(pid, "VmRSS")
    yield taken
    taken.append(max(0, _status(pid, "VmHWM") - before))


def _status(pid: int, name: str) -> int:
    """Read a figure of a process's status, in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


class LivenessProbe:
    """A context manager. `longest` is the longest that `/livez` took so far, in seconds."""

    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._longest = context.Value("d", 0.0)
        self._asked = context.Value("q", 0)
        self._over = context.Event()
        self._process = context.Process(target=_ask, args=(url, self._longest, self._asked, self._over), daemon=True)

    def __enter__(self) -> LivenessProbe:
        self._process.start()
        while not self.asked:
            assert self._process.is_alive()
            time.sleep(PAUSE)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._process.join()

    @property
    def longest(self) -> float:
        return float(self._longest.value)

    @property
    def asked(self) -> int:
        return int(self._asked.value)


def _ask(url: str, longest: Any, asked: Any, over: Any) -> None:
    address = urlsplit(url)
    while not over.wait(PAUSE):
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
            connection.request("GET", "/livez")
            connection.getresponse().read()
            connection.close()
        except OSError:
            # An API that has ended is told of elsewhere.
            continue
        longest.value = max(longest.value, time.monotonic() - began)
        asked.value += 1
