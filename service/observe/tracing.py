"""Traces by OpenTelemetry, off unless `OTEL_EXPORTER_OTLP_ENDPOINT` says where to: then nothing of it is even imported.

A trace goes from process to process as a W3C `traceparent`: in the request, on the job's record, in what is said to the
engine, on a delivery. A process that forks starts this in its child, and stops it before it ends by `os._exit`.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from service.observe.redaction import redacted
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

SpanRole = Literal["internal", "client", "server", "producer", "consumer"]
Value = str | int | float | bool

EXPORT_SECONDS = 3.0
"""Longest time for one batch, retries and all: a work-horse that is done waits for its last one."""
UNTRACED = r"/livez,/readyz,/metrics,/objects/"
"""Paths without spans: probes, and signed links, which are secrets."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NEXT_ID: ContextVar[int | None] = ContextVar("next span id", default=None)

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


class CannotTrace(Exception):
    """Traces are asked for and OpenTelemetry is not installed. The message is one line for people."""


def load(settings: ServiceSettings) -> None:
    """Import what `start` needs, where it is asked for: before a fork, so that the children need not."""
    if settings.otel_exporter_otlp_endpoint is None:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.instrumentation.fastapi
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError as error:
        line = f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and {error.name} is missing: pip install 'inbetween[tracing]'."
        raise CannotTrace(line) from error


def start(settings: ServiceSettings, part: str) -> None:
    """Trace this process from now on, if the settings say so; once more changes nothing. Raises `CannotTrace`.

    part: which of the service's processes it is. `OTEL_SERVICE_NAME` and the SDK's other variables count too.
    """
    global _provider, _tracer
    if settings.otel_exporter_otlp_endpoint is None or _provider is not None:
        return
    load(settings)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_span_id(self) -> int:
            given = _NEXT_ID.get()
            return super().generate_span_id() if given is None else given

    named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": f"inbetween-{part}"}
    about = {
        **named,
        "service.version": version("inbetween"),
        "service.namespace": settings.namespace,
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
    _provider = TracerProvider(resource=Resource.create(about), id_generator=Ids(), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)))
    _tracer = _provider.get_tracer("inbetween")


def stop() -> None:
    """Send what has not been sent yet, and trace no more. Takes `EXPORT_SECONDS` for each batch at most."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


def instrument(app: FastAPI) -> None:
    """Make a span for each request to `app`, but for `UNTRACED`. Call it after `start`."""
    if _provider is None:
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=_provider,
        excluded_urls=UNTRACED,
        exclude_spans=["receive", "send"],
        server_request_hook=_without_secrets,
    )


@contextmanager
def span(
    name: str,
    about: Mapping[str, Value] = MappingProxyType({}),
    within: str | None = None,
    *,
    kind: SpanRole = "internal",
    span_id: int | None = None,
) -> Iterator[None]:
    """Make a span around what is done here; an exception that passes through makes it an error.

    about: attributes, each named `inbetween.NAME`. within: a traceparent; without one the current span is the parent.
    span_id: instead of a random one.
    """
    if _tracer is None:
        yield
        return
    given = _NEXT_ID.set(span_id)
    try:
        made = _tracer.start_span(name, _context(within), _kind(kind), attributes=_prefixed(about))
    finally:
        _NEXT_ID.reset(given)
    from opentelemetry import trace

    with trace.use_span(made, end_on_exit=True):
        yield


def record(
    name: str,
    began: float,
    ended: float,
    about: Mapping[str, Value] = MappingProxyType({}),
    within: str | None = None,
    *,
    kind: SpanRole = "internal",
    span_id: int | None = None,
    error: str | None = None,
) -> None:
    """Make a span of what is over. began, ended: epoch seconds. The rest as of `span`; error: why it failed."""
    if _tracer is None:
        return
    from opentelemetry.trace import Status, StatusCode

    given = _NEXT_ID.set(span_id)
    try:
        started = int(began * 1e9)
        made = _tracer.start_span(name, _context(within), _kind(kind), _prefixed(about), start_time=started)
    finally:
        _NEXT_ID.reset(given)
    if error is not None:
        made.set_status(Status(StatusCode.ERROR, error))
    made.end(int(max(began, ended) * 1e9))


def note(**attributes: Value) -> None:
    """Add to the current span what has become known."""
    if _tracer is not None:
        from opentelemetry import trace

        trace.get_current_span().set_attributes(_prefixed(attributes))


def now() -> float:
    """Return the epoch seconds for `record`."""
    return time.time()


def current() -> str | None:
    """Return the current span as a traceparent; None without one."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags) & 1:02x}"


def given(header: str | None) -> str | None:
    """Return a caller's `traceparent`, if it is one."""
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None


def fresh() -> str:
    """Make a traceparent for what nobody records: its id finds the log lines all the same."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_id(traceparent: str | None) -> str | None:
    """Return the id of a trace that log lines carry."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    return match[1] if match is not None else None


def _context(within: str | None) -> Context | None:
    if within is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": within})


def _kind(kind: SpanRole) -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind[kind.upper()]


def _prefixed(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {f"inbetween.{name}": value for name, value in attributes.items()}


def _without_secrets(found: Span, scope: dict[str, Any]) -> None:
    """Show what a caller wrote into a path or a query as in a log line."""
    for name, value in (getattr(found, "attributes", None) or {}).items():
        if isinstance(value, str) and (shown := redacted(value)) != value:
            found.set_attribute(name, shown)
