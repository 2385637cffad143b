"""Requests that Schemathesis makes from the service's own OpenAPI document, with every check it has.

One `campaign` is one seed and one caller. Its four phases: the document's examples, each bound of each schema
(`coverage`), random requests right and wrong (`fuzzing`), and chains of requests along the document's links
(`stateful`), in which a job that was made must be found and one that was erased must not. For the last one the
document's bodies are narrowed to such as are accepted, or few chains would have a beginning.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.config._checks import NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES
from schemathesis.engine import Status, events, from_schema

from trials.fuzz.ledger import AnswerLedger
from trials.fuzz.site import FuzzSite, Stock

BY_CHECK = {
    "not_a_server_error": "server errors",
    "status_code_conformance": "undocumented answers",
    "content_type_conformance": "undocumented answers",
    "response_schema_conformance": "undocumented answers",
    "response_headers_conformance": "undocumented answers",
}
"""Which breach a failed check is; `broken promises` for all others."""

EVERY = ("examples", "coverage", "fuzzing", "stateful")
"""Phases of Schemathesis."""
RANDOM = ("fuzzing", "stateful")
"""Those that another seed makes different."""


@dataclass(frozen=True)
class Campaign:
    """One run of generated requests against the contract."""

    #: Decides every request.
    seed: int
    #: Whose key the requests are sent with.
    persona: str
    #: Random requests of each operation.
    examples: int
    phases: tuple[str, ...] = EVERY


def run(site: FuzzSite, stock: Stock, campaign: Campaign, ledger: AnswerLedger, done: Callable[[int], None]) -> None:
    """Send all requests of a campaign. done: told how many answers came, again and again."""
    document = site.document()
    chains = tuple(phase for phase in campaign.phases if phase == "stateful")
    others = tuple(phase for phase in campaign.phases if phase != "stateful")
    for phases, described in ((others, document), (chains, _accepted(document, stock))):
        if phases:
            config = SchemathesisConfig.from_dict(_config(site, stock, campaign, phases))
            _run(schemathesis.openapi.from_dict(described, config=config), campaign, ledger, done)


def _run(schema: Any, campaign: Campaign, ledger: AnswerLedger, done: Callable[[int], None]) -> None:
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            done(_heard(event, campaign, ledger))
        elif isinstance(event, events.NonFatalError):
            ledger.breach("no answer", event.label, f"{event.info.title} {event.info.message} {campaign}")
        elif isinstance(event, events.FatalError):
            raise event.exception


def _heard(event: events.ScenarioFinished, campaign: Campaign, ledger: AnswerLedger) -> int:
    recorder = event.recorder
    for case_id, interaction in recorder.interactions.items():
        response = interaction.response
        if response is None:
            continue
        # Which answers the document lists, and for which of its methods, Schemathesis' own checks know best.
        label = f"{interaction.request.method} ({recorder.cases[case_id].value.operation.label})"
        headers = {name.lower(): values[0] for name, values in response.headers.items()}
        told = f"{interaction.request.method} {interaction.request.uri}"
        ledger.hear("contract", label, response.status_code, headers, response.content or b"", told)
    for case_id, name, failure in _failures(event):
        sort = BY_CHECK.get(name, "broken promises")
        lines = [f"{failure.failure.title}. {failure.failure.message}", failure.code_sample]
        answered = recorder.interactions.get(failure.failure.case_id or case_id)
        if answered is not None and answered.response is not None:
            sent = {name: values for name, values in answered.request.headers.items() if name != "Authorization"}
            lines.append(f"{answered.response.status_code} to {answered.request.method} {answered.request.uri} {sent}")
        ledger.breach(sort, f"{name} {failure.failure.operation}", "\n".join(line[:1500] for line in lines))
    return sum(interaction.response is not None for interaction in recorder.interactions.values())


def _failures(event: events.ScenarioFinished) -> Iterator[tuple[str, str, Any]]:
    """List failed checks: of which request, by which name."""
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.status is not Status.SUCCESS and check.failure_info is not None:
                yield case_id, check.name, check.failure_info


def _accepted(document: dict[str, Any], stock: Stock) -> dict[str, Any]:
    """Give the document with bodies of which each is taken: images that are there, and options that fit together."""
    made = copy.deepcopy(document)
    image = {"enum": stock.images}
    options = {"method": {"const": "flow"}, "frames": {"type": "integer", "minimum": 2, "maximum": 9}}
    wanted = {"start": image, "end": image, "options": _exactly(options)}
    file = {"content_type": {"const": "image/png"}, "size": {"type": "integer", "minimum": 1, "maximum": 99}}
    for path, body in (("/inbetween", wanted), ("/inbetween/estimate", wanted), ("/uploads", file)):
        operation = made["paths"][path]["post"]
        operation["requestBody"]["content"] = {"application/json": {"schema": _exactly(body)}}
        # A replay is the first answer, whatever has become of its job since.
        operation["parameters"] = [one for one in operation.get("parameters", []) if one["in"] != "header"]
    return made


def _exactly(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _config(site: FuzzSite, stock: Stock, campaign: Campaign, phases: tuple[str, ...]) -> dict[str, Any]:
    """Make a campaign's configuration, as `schemathesis.toml` has it."""
    everything = [job_id for ids in stock.jobs.values() for job_id in ids]
    files = ["take-1.mp4", "take-2.gif", "poster.jpg", "contact-sheet.jpg", "metadata.json", "take-1.zip"]
    words = {
        "jobs": everything,
        "expendable": stock.jobs["queued"],
        "files": files,
        "deliveries": stock.deliveries,
        "tokens": stock.tokens,
        "images": stock.images,
        "slugs": ["invalid-request", "job-expired"],
        "event-ids": ["0-0", "1767607200000-0", "0-0,0-0"],
        "idempotency-keys": ["a", "b"],
    }
    likely = {
        "path.job_id": "jobs",
        "query.ids": "jobs",
        "path.name": "files",
        "path.delivery_id": "deliveries",
        "path.token": "tokens",
        "path.slug": "slugs",
        "header.last-event-id": "event-ids",
        "header.idempotency-key": "idempotency-keys",
        "body.start": "images",
        "body.end": "images",
        "body.keyframes[*].image": "images",
    }
    return {
        "seed": campaign.seed,
        "base-url": site.url,
        "headers": site.headers(campaign.persona),
        "workers": 1,
        "continue-on-failure": True,
        "request-timeout": 30,
        "max-stream-events": 1,
        "dictionaries": {name: {"values": values} for name, values in words.items()},
        "parameters": {name: {"dictionary": words, "probability": 0.6} for name, words in likely.items()},
        "generation": {"max-examples": campaign.examples, "database": "none", "no-shrink": True},
        "phases": {phase: {"enabled": phase in phases} for phase in EVERY},
        "checks": {
            "positive_data_acceptance": {"expected-statuses": FITS},
            "negative_data_rejection": {"expected-statuses": REFUSALS},
        },
        "operations": _exceptions(),
    }


FITS = ["2xx", "3xx", "401", "403", "404", "409", "410", "429"]
"""What may come of a request that fits its schema: whom and what it is about is no matter of the schema."""

REFUSALS = [*NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES, "410", "413"]
"""What may come of one that does not."""


def _exceptions() -> list[dict[str, Any]]:
    """List where a check asks for more than a schema can say, and why. Every other check stays."""

    def may(operation: str, *statuses: str, **checks: Any) -> dict[str, Any]:
        fits = {"positive_data_acceptance": {"expected-statuses": [*FITS, *statuses]}}
        return {"include-operation-id": operation, "checks": fits | checks}

    as_text = {"response_schema_conformance": {"enabled": False}}
    return [
        # Text can name an image that is none or is nowhere; options that fit one by one may not fit together.
        may("createInbetween", "413", "422"),
        may("createVideo", "413", "422"),
        may("createVideo", "413", "422"),
        # It answers 200 and lists what would be refused; the trial's own `options` hold that to its word.
        may("estimateInbetween", "413", negative_data_rejection={"expected-statuses": [*REFUSALS, "2xx"]}),
        # A size is bounded by the server's settings, and a body by the link it is sent to.
        may("createUpload", "413"),
        may("putObject", "413", "415", "422"),
        # OpenAPI 3.1 knows a stream as one text, where Schemathesis looks at each event.
        may("streamInbetween", **as_text),
        # As many positions as ids are asked for.
        may("streamInbetweens", "422", **as_text),
    ]
