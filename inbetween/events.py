"""Server-Sent Events, from bytes as they come (HTML Living Standard, 9.2). Knows nothing of connections."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator

from inbetween.records import Event


class Parser:
    """Fed with pieces of a stream, cut anywhere; gives whole events. What is cut off at the end is no event."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._type = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> Iterator[Event]:
        self._text += self._decoder.decode(piece)
        # A CR at the very end may be half of a CR LF.
        whole = len(self._text) - self._text.endswith("\r")
        lines = self._text[:whole].replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._text = lines.pop() + self._text[whole:]
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event

    def _line(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    self._type = value
                case "data":
                    self._data.append(value)
                case "id":
                    self._id = value
            return None
        kind, data = self._type, "\n".join(self._data)
        self._type, self._data = "", []
        if not data:
            return None
        try:
            values = json.loads(data)
        except ValueError:
            # Not ours: all of the server's events are JSON. The record is the truth anyway.
            return None
        return Event(kind or "message", values, self._id) if isinstance(values, dict) else None
