"""What can go wrong, one class for each thing that a caller would do something else about.

InbetweenError
├── Unreachable           no answer from the server, after all retries
├── ProblemError          the server answered with a problem (RFC 9457); decide by `slug`
│   ├── RequestRefused    400, 405, 408, 413, 415, 416, 422, 431: change the request
│   ├── NotAllowed        401, 403: another API key
│   ├── NotFound          404, 410: not there, or not any more
│   ├── Conflict          409: the job's state, or the idempotency key, does not allow it
│   ├── TooMuch           429: later; `retry_after` says when
│   └── ServerFault       5xx
├── JobFailed             the job failed; its `problem` says why
├── JobCanceled           somebody stopped it
├── WaitTimeout           it was not over in time (also a `TimeoutError`)
├── NoResult              the job has no such file, or none yet
├── DownloadFailed        a file did not arrive as the server described it
└── WebhookInvalid        a webhook that nobody with the secret sent, or an old one
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class InbetweenError(Exception):
    """Everything this package raises by itself."""


class Unreachable(InbetweenError):
    """No answer from the server."""


@dataclass(frozen=True)
class Fault:
    """One field at fault, of several."""

    field: str
    detail: str
    remedy: str


@dataclass(frozen=True)
class Problem:
    """A problem as the server tells it (RFC 9457)."""

    #: Stable, to decide by.
    type: str
    title: str
    status: int
    detail: str = ""
    field: str | None = None
    remedy: str | None = None
    errors: tuple[Fault, ...] = ()
    request_id: str | None = None
    #: Members of this type alone.
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The last part of `type`, such as `invalid-request`."""
        return self.type.rpartition("/")[2]

    def __str__(self) -> str:
        """Say what is wrong and what to do about it, on one line."""
        said = " ".join(
            f"{fault.field}: {fault.detail} {fault.remedy}".strip()
            for fault in self.errors or (Fault(self.field or "", self.detail, self.remedy or ""),)
        )
        return said.removeprefix(": ") or f"{self.status} {self.title}"


class ProblemError(InbetweenError):
    """The server answered with a problem. retry_after: seconds it asks us to wait, None when it does not say."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem, retry_after)
        self.problem = problem
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.problem)

    @property
    def type(self) -> str:
        return self.problem.type

    @property
    def slug(self) -> str:
        return self.problem.slug

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def field(self) -> str | None:
        return self.problem.field

    @property
    def remedy(self) -> str | None:
        return self.problem.remedy

    @property
    def request_id(self) -> str | None:
        return self.problem.request_id


class RequestRefused(ProblemError):
    """The request cannot be used as it is."""


class NotAllowed(ProblemError):
    """The API key is missing, unknown, or may not do this."""


class NotFound(ProblemError):
    """It is not there, or not any more."""


class Conflict(ProblemError):
    """The job's state does not allow this, or the idempotency key does not."""


class TooMuch(ProblemError):
    """More than the key may have now."""


class ServerFault(ProblemError):
    """The server could not do it."""


class JobFailed(InbetweenError):
    """The job failed. problem: why."""

    def __init__(self, job_id: str, problem: Problem) -> None:
        super().__init__(job_id, problem)
        self.job_id = job_id
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.job_id} failed: {self.problem}"


class JobCanceled(InbetweenError):
    """The job was canceled."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"{self.job_id} was canceled"


class WaitTimeout(InbetweenError, TimeoutError):
    """The job was not over in time. It goes on."""


class NoResult(InbetweenError):
    """The job has no such file, or none yet."""


class DownloadFailed(InbetweenError):
    """A file did not arrive as the server described it."""


class WebhookInvalid(InbetweenError, ValueError):
    """Not to be believed: no signature fits, or its time is too far from ours."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    429: TooMuch,
}


def problem_of(values: Mapping[str, Any]) -> Problem:
    """Read a problem from decoded JSON, as it stands in an answer or in a failed job."""
    known = {name: values[name] for name in ("field", "remedy", "request_id") if values.get(name) is not None}
    faults = tuple(
        Fault(fault.get("field", ""), fault.get("detail", ""), fault.get("remedy", ""))
        for fault in values.get("errors") or ()
    )
    return Problem(
        type=values.get("type") or "about:blank",
        title=values.get("title") or "",
        status=int(values.get("status") or 0),
        detail=values.get("detail") or "",
        errors=faults,
        extra={name: value for name, value in values.items() if name not in Problem.__dataclass_fields__},
        **known,
    )


def error_of(
    status: int, reason: str, content: bytes, request_id: str | None, retry_after: float | None
) -> ProblemError:
    """Make the error for an answer that is none of success.

    Whatever stands between us and the server may have sent it.
    """
    try:
        values = json.loads(content)
    except ValueError:
        values = None
    if not isinstance(values, dict) or "type" not in values:
        values = {
            "title": reason,
            "detail": f"The server answered {status} {reason} and said no more.".replace("  ", " "),
        }
    values = {**values, "status": status}
    if request_id is not None:
        values.setdefault("request_id", request_id)
    kind = _BY_STATUS.get(status, ServerFault if status >= 500 else RequestRefused)
    return kind(problem_of(values), retry_after)
