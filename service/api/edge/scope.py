"""What the outermost layer and the routes leave for each other in a request's ASGI scope."""

from __future__ import annotations

ANSWERED = "inbetween.headers"
"""Where the request's scope has the headers that its answer will carry, whatever that is."""

TRACEPARENT = "inbetween.traceparent"
"""Where the request's scope has the trace that it belongs to, its own if the caller named none."""
