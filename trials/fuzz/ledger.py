"""What the service answered to everything that was sent, and whatever of it must never happen.

Judges an answer by the service's own OpenAPI document and its table of problems. Knows nothing of who sends what.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from service.problem_types import PROBLEMS
from service.problems import MEDIA_TYPE

SORTS = ("server errors", "undocumented answers", "incomplete refusals", "broken promises", "no answer")
"""What must not happen, not even once: a 5xx; an answer the document does not list; a refusal that does not name its
type, field and remedy; a check of Schemathesis that fails, or an estimate that says something else than what follows;
a connection that ends without an answer.
"""

KEPT = 2
"""Examples that are told in full, of one sort at one place."""


class AnswerLedger:
    """What the service answered, and where an answer broke what it has promised.

    document: the service's OpenAPI document, whose operations `hear` knows by method and path template.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        """By part of the trial and status."""
        self.refusals: Counter[str] = Counter()
        """By type of problem."""
        self.breaches: Counter[str] = Counter()
        """By sort."""
        self.places: dict[str, Counter[str]] = defaultdict(Counter)
        """By sort, where: an operation, and the check that failed."""
        self.examples: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._documented = {
            f"{verb.upper()} {path}": {int(status) for status in operation["responses"]}
            for path, item in document["paths"].items()
            for verb, operation in item.items()
        }

    @property
    def clean(self) -> bool:
        return not self.breaches

    @property
    def sent(self) -> Counter[str]:
        """Requests by part of the trial."""
        found: Counter[str] = Counter()
        for (part, _), count in self.answers.items():
            found[part] += count
        return found

    def hear(
        self, part: str, operation: str, status: int, headers: Mapping[str, str], body: bytes, told: str = ""
    ) -> None:
        """Note one answer. operation: such as `GET /inbetween/{job_id}`. told: how to send that request again."""
        self.answers[part, status] += 1
        if status >= 500:
            self.breach("server errors", operation, f"{status} {body[:300]!r} {told}")
        if operation in self._documented and status not in self._documented[operation]:
            self.breach("undocumented answers", operation, f"{status} {body[:300]!r} {told}")
        if status >= 400 and not operation.startswith("HEAD "):
            self._judge_refusal(operation, status, headers.get("content-type", ""), body, told)

    def hear_estimate(self, body: bytes, told: str) -> bool:
        """Note an estimate's 200 answer, and tell whether it would accept."""
        estimate = json.loads(body)
        for refusal in estimate["refusals"]:
            self._judge_problem("a refusal in an estimate", refusal["status"], refusal, told)
        if estimate["accepted"] == bool(estimate["refusals"]):
            self.breach("broken promises", "an estimate that accepts and refuses", f"{body[:300]!r} {told}")
        return bool(estimate["accepted"])

    def breach(self, sort: str, where: str, told: str) -> None:
        self.breaches[sort] += 1
        self.places[sort][where] += 1
        if len(self.examples[sort, where]) < KEPT:
            self.examples[sort, where].append(told)

    def told(self) -> str:
        """List the breaches, for people."""
        lines = []
        for sort in SORTS:
            lines += [f"{sort}: {self.breaches[sort]}"] if self.breaches[sort] else []
            for where, count in self.places[sort].most_common():
                lines.append(f"  {where}: {count}")
                lines += [textwrap.indent(example, "    ") for example in self.examples[sort, where]]
        return "\n".join(lines)

    def _judge_refusal(self, operation: str, status: int, content_type: str, body: bytes, told: str) -> None:
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if content_type != MEDIA_TYPE or not isinstance(found, dict):
            self.breach("incomplete refusals", operation, f"{status} is {content_type} {body[:300]!r} {told}")
            return
        self._judge_problem(operation, status, found, told)

    def _judge_problem(self, operation: str, status: int, found: dict[str, Any], told: str) -> None:
        slug = str(found.get("type", "")).removeprefix("/problems/")
        self.refusals[slug] += 1
        needed = ["title", "detail", "remedy"] + (["field"] if status < 500 else [])
        missing = [name for name in needed if not found.get(name)]
        missing += [f"errors[{i}]" for i, fault in enumerate(found.get("errors") or []) if not all(fault.values())]
        if slug not in PROBLEMS or found.get("status") != status or missing or _leaks(found):
            self.breach("incomplete refusals", operation, f"{status} {json.dumps(found)[:400]} {told}")


_INSIDE = re.compile(r"Traceback|File \"/|site-packages|0x[0-9a-f]{8,}|redis://|<.* object at|pydantic")


def _leaks(found: dict[str, Any]) -> bool:
    """Tell whether a problem tells what is only ours to know."""
    return bool(_INSIDE.search(f"{found.get('detail')} {found.get('remedy')}"))
