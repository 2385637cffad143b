"""Input and output as values, so that what the client does is told once and done two ways.

An exchange is a generator: it yields what it wants done, and is sent what came of it, or has the transport's error
raised where it stands. `client.py` does the steps with `httpx.Client`, `async_client.py` with `httpx.AsyncClient`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A request that can be sent any number of times."""

    method: str
    #: Absolute, or a path below the server's.
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    json: Any = None
    files: Any = None
    content: bytes | None = None
    #: Seconds until silence is an error; None for the client's own.
    read: float | None = None
    #: Whether the API key goes along.
    with_key: bool = True


@dataclass(frozen=True)
class Send:
    """Answered with the response, its body read."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Answered with the response, its body yet to be read. Opening closes what was open before."""

    request: Request


@dataclass(frozen=True)
class Read:
    """The next bytes of what is open, as soon as there are any; empty at its end."""


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Emit:
    """A value for whoever listens, such as an event."""

    value: Any


Action = Send | Open | Read | Pause | Emit
Exchange = Generator[Action, Any, T]


class Driver(Generic[T]):
    """Where an exchange stands. step: what it wants done now; None at its end, when `result` is there."""

    result: T

    def __init__(self, exchange: Exchange[T]) -> None:
        self._exchange = exchange
        self.step: Action | None = None
        self._on(lambda: next(exchange))

    def reply(self, answer: Any = None) -> None:
        """Tell the exchange that its step was done."""
        self._on(lambda: self._exchange.send(answer))

    def fail(self, error: httpx.RequestError) -> None:
        """Tell the exchange that its step could not be done."""
        self._on(lambda: self._exchange.throw(error))

    def close(self) -> None:
        self._exchange.close()

    def _on(self, go: Callable[[], Action]) -> None:
        try:
            self.step = go()
        except StopIteration as end:
            self.step = None
            self.result = end.value
