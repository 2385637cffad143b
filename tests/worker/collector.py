"""A real collector of traces: OTLP over HTTP on a port, its protobuf decoded as the specification has it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from trials.servers import serving


@dataclass(frozen=True)
class Span:
    """One span as it arrived. Ids in hexadecimal; times in seconds; attributes without `inbetween.` before them."""

    trace: str
    id: str
    parent: str
    name: str
    service: str
    began: float
    ended: float
    failed: bool
    attributes: dict[str, Any]


class Collector(ThreadingHTTPServer):
    """Remembers every span that is sent to `url`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.spans: list[Span] = []
        self._arrived = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, body: bytes) -> None:
        with self._arrived:
            self.spans += _spans(ExportTraceServiceRequest.FromString(body))
            self._arrived.notify_all()

    def until(self, trace: str, *names: str, timeout: float = 60) -> list[Span]:
        """All spans of a trace by their beginning, once there is one of each of `names`, or as many as they are."""

        def found() -> list[Span]:
            return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.began)

        with self._arrived:
            there = self._arrived.wait_for(
                lambda: all([one.name for one in found()].count(name) >= names.count(name) for name in names), timeout
            )
            assert there, [span.name for span in found()]
            return found()


class _Receive(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces", self.path
        self.server.take(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def collector() -> Iterator[Collector]:
    with serving(Collector()) as server:
        yield server


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    about["service.name"],
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    {one.key.removeprefix("inbetween."): _value(one.value) for one in span.attributes},
                )


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind is not None else None
