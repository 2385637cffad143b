"""Answers of a storage that refuses everybody, or is none: what an HTTP client gets instead of the server behind.

None of them is about an object, so none is anybody's fault who stores one. One answer for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """An answer to any request."""

    status: int
    body: bytes
    #: Of the body, which a HEAD is not sent.
    content_type: str = "application/xml"


def _error(status: int, code: str) -> Refusal:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>not now</Message></Error>'
    return Refusal(status, body.encode())


REFUSALS = (
    _error(400, "ExpiredToken"),
    _error(403, "ExpiredToken"),
    _error(400, "InvalidToken"),
    _error(403, "AccessDenied"),
    _error(403, "InvalidAccessKeyId"),
    _error(404, "NoSuchBucket"),
    _error(429, "SlowDown"),
    _error(507, "XMinioStorageFull"),
    Refusal(200, b"<html><body>Please log in to this network.</body></html>", "text/html"),
)
"""A storage that is full for some seconds is among them: jobs wait longer than that for room."""


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
    """Read one request and answer it so. A client that breaks off is left alone."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if "expect" not in fields:
            await reader.readexactly(int(fields.get("content-length", 0)))
        told = [
            f"HTTP/1.1 {refusal.status} Told",
            f"Content-Type: {refusal.content_type}",
            f"Content-Length: {len(refusal.body)}",
            "Connection: close",
        ]
        writer.write("\r\n".join([*told, "", ""]).encode())
        if not head.startswith("HEAD "):
            writer.write(refusal.body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
