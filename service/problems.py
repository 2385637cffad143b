"""Everything that can be refused or go wrong, as problem+json (RFC 9457).

Whatever code finds a fault raises `Problem` with a slug of the table in `problem_types.py`;
`api/exception_handlers.py` turns it into a response. Knows nothing of the web framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.problem_types import PROBLEMS

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request, or a job, that ends here, with everything the caller should know about it.

    status: HTTP status. slug: a key of `PROBLEMS`; anything else is a programming error (`KeyError`).
    field: what in the request is at fault, such as `options.frames`, `keyframes[1].image` or a header's name.
    remedy: what to send instead. Where either is left out, what the table says of this type stands in.
    headers: for the response. extra: further members of the problem.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = PROBLEMS[slug].title
        self.detail = detail
        self.field = field or PROBLEMS[slug].field
        self.remedy = remedy or PROBLEMS[slug].remedy
        self.headers = dict(headers or {})
        self.extra = extra

    def to_dict(self) -> dict[str, Any]:
        """Write the problem+json body.

        Members of RFC 9457 and ours without a value are left out; `extra` may hold nulls.
        """
        body = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "field": self.field,
            "remedy": self.remedy,
        }
        return {name: value for name, value in body.items() if value is not None} | self.extra
