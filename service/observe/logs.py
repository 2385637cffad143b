"""Log lines of every process: structlog for ours, and the standard library's (uvicorn, rq) through the same renderer.

Fields bound with `structlog.contextvars` (a request's id, a job's id) appear on every line within their context.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from service.observe.redaction import redacted
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from structlog.typing import Processor

_OF_SEVERAL_LINES = ("exception", "stack")


def configure(settings: ServiceSettings) -> None:
    """Send all logging to standard error, as `LOG_FORMAT` and `LOG_LEVEL` say.

    Call it once per process, at its start.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _without_colour_message,
        _on_one_line,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    render: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        # Plain tracebacks: the ornate ones print local variables, keys and images among them.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render, _without_secrets],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # The access log is ours: it carries the request's id and leaves out signed links' tokens.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("botocore", "boto3", "urllib3", "PIL", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _on_one_line(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Keep an entry on one line: whatever a caller sent, such as a path, begins none and tells a terminal nothing."""
    for name, value in line.items():
        if isinstance(value, str) and name not in _OF_SEVERAL_LINES and not value.isprintable():
            line[name] = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in value.rstrip())
    return line


def _without_secrets(_: object, __: str, line: structlog.typing.EventDict) -> str:
    """Leave the secrets out, as the last step: `line` is the rendered text, whatever the type says."""
    return redacted(str(line))


def _without_colour_message(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop the copy of its message with terminal colours that uvicorn attaches."""
    line.pop("color_message", None)
    return line
