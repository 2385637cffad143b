"""The whole trial: generated requests, damaged pictures, odd options, costly bodies, in rounds, at a running service.

The first rounds are a warm-up: they count, but the memory is compared from their end on. Each round asks as another
caller and with another seed, so that the same few requests are not sent again and again.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as hypothesis_seed
from hypothesis import settings as hypothesis_settings

from trials.fuzz import bodies, contract, options
from trials.fuzz.bodies import Body
from trials.fuzz.contract import EVERY, RANDOM, Campaign
from trials.fuzz.cost import TIMES, LivenessProbe, RequestCosts, peak
from trials.fuzz.ledger import SORTS, AnswerLedger
from trials.fuzz.memory import SWING, TOLD, Memory
from trials.fuzz.pictures import damaged, originals
from trials.fuzz.site import FuzzSite, Stock
from trials.receiver import Receiver

ESTIMATE, CREATE = "POST /inbetween/estimate", "POST /inbetween"
PARTS = {
    "contract": "requests generated from the OpenAPI document",
    "pictures": "damaged pictures",
    "options": "generated options",
    "bodies": "costly bodies",
}
CROWD = 6
"""Large requests of one owner at once, in each round."""
OnProgress = Callable[[str, int], None]
"""Told of a part and of how many more of its requests were answered."""


@dataclass(frozen=True)
class FuzzPlan:
    """How much to send of each part in all."""

    requests: int = 20_000
    pictures: int = 5_000
    options: int = 3_000
    #: Decides everything.
    seed: int = 1
    bodies: int = 210
    #: Seconds that `/livez` may take.
    silence: float = 1.0
    #: Random requests for each operation and round.
    examples: int = 20
    #: Parts the whole is cut into.
    rounds: int = 8
    #: Rounds, the first ones, which the memory may settle in.
    warm_up: int = 2
    #: Who asks in each round, again and again.
    personas: tuple[str, ...] = ("member", "operator", "member", "reader", "submitter", "member", "meter", "nobody")


@dataclass
class FuzzReport:
    """What came of a trial."""

    plan: FuzzPlan
    ledger: AnswerLedger
    memory: Memory
    cost: RequestCosts
    counts: dict[str, int] = field(default_factory=dict)
    #: Lines of the API's log.
    errors: list[str] = field(default_factory=list)
    crashed: bool = False
    #: From the first request to the last answer.
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        return self.ledger.clean and self.memory.flat and self.cost.bounded and not self.errors and not self.crashed

    def to_dict(self) -> dict[str, Any]:
        statuses: dict[str, dict[str, int]] = {part: {} for part in PARTS}
        for (part, status), count in sorted(self.ledger.answers.items()):
            statuses[part][str(status)] = count
        return {
            "plan": vars(self.plan),
            "clean": self.clean,
            "counts": self.counts,
            "answers": statuses,
            "refusals": dict(self.ledger.refusals.most_common()),
            "breaches": {sort: self.ledger.breaches[sort] for sort in SORTS},
            "places": {sort: dict(places) for sort, places in self.ledger.places.items()},
            "crashed": self.crashed,
            "logged_errors": self.errors,
            "memory_mb": self.memory.to_dict(),
            "cost": self.cost.to_dict(),
            "seconds": round(self.seconds, 1),
            "requests_per_second": round(sum(self.ledger.sent.values()) / max(self.seconds, 1e-9), 1),
        }

    def table(self) -> str:
        """Write the report as Markdown."""
        found, memory = self.to_dict(), self.memory.to_dict()
        rows: list[tuple[str, object]] = [(PARTS[part], f"{count:,}") for part, count in self.counts.items()]
        rows += [("answers in all", f"{sum(self.ledger.sent.values()):,}")]
        rows += [(sort, self.ledger.breaches[sort]) for sort in SORTS]
        rows += [("crashes of the API", int(self.crashed)), ("errors in its log", len(self.errors))]
        if self.memory.after:
            ends = ", ".join(f"{name} {memory[name]}" for name in TOLD)
            rows.append(("memory of the API at rest, MB", f"{ends} (±{100 * memory['swing']:.1f} %)"))
        cost = self.cost.to_dict()
        rows += [
            ("memory above rest for one request, MB", cost["one_request_mb"]),
            (f"the same without its picture, in bodies (at most {TIMES})", cost["one_request_bodies"]),
            (f"for many at once, MB (at most {self.cost.most // 10**6})", cost["together_mb"]),
            (f"longest silence of /livez, s (at most {self.cost.silence:g})", cost["longest_silence_seconds"]),
            ("requests that took too much", len(self.cost.over)),
        ]
        rows += [("requests a second", found["requests_per_second"])]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])

    def told(self) -> str:
        """List what is wrong, for people."""
        lines = [self.ledger.told(), *(f"log: {line}" for line in self.errors[:10])]
        lines += ["the API process ended"] if self.crashed else []
        lines += [f"memory: {told}" for told in self.cost.over[:10]]
        late = self.cost.longest > self.cost.silence
        lines += [f"/livez took {self.cost.longest:.2f} s"] if late else []
        lines += [] if self.memory.flat else [f"the memory is not flat: {self.memory.to_dict()}"]
        return "\n".join(line for line in lines if line)


def run(area: Path, plan: FuzzPlan, progress: OnProgress = lambda part, count: None, **variables: str) -> FuzzReport:
    """Start the service, send everything, stop it. variables: settings of the service beside the trial's own."""
    with receiver() as url, FuzzSite(area, **variables) as site, LivenessProbe(site.url) as probe:
        stock = site.stock(url)
        cost = RequestCosts(site.settings.max_bodies_bytes, plan.silence)
        report = FuzzReport(plan, AnswerLedger(site.document()), Memory(), cost, counts=dict.fromkeys(PARTS, 0))
        trial = _Trial(site, stock, report, progress)
        began = time.monotonic()
        for number in range(plan.rounds):
            if trial.round(number):
                break
            if number + 1 == plan.warm_up:
                report.memory.settled = sum(report.ledger.sent.values())
        report.seconds = time.monotonic() - began
        cost.longest = probe.longest
        report.crashed = site.restarted()
        report.errors = site.errors()
    return report


@contextmanager
def receiver() -> Iterator[str]:
    """Give the URL of a server on loopback that answers everything with a picture."""
    with Receiver.running() as server:
        server.answers = [(200, {"content-type": "image/png"}, originals()["png"])]
        yield server.url


class _Trial:
    def __init__(self, site: FuzzSite, stock: Stock, report: FuzzReport, progress: OnProgress) -> None:
        self.site, self.stock, self.report, self.progress = site, stock, report, progress
        self.ledger, self.plan = report.ledger, report.plan
        self.client = site.client
        self.member = site.headers("member")
        self.good = originals()["png"]

    def round(self, number: int) -> bool:
        """Run one round of each part, and tell whether the service has died of it."""
        plan = self.plan
        self._pictures(_share(plan.pictures, number, plan.rounds))
        self._options(number, len(_share(plan.options, number, plan.rounds)))
        self._bodies(_share(plan.bodies, number, plan.rounds))
        self._contract(number)
        return self.site.restarted()

    def _contract(self, number: int) -> None:
        """Run one campaign, and more of them with other seeds until the round's share of requests is sent."""
        plan = self.plan
        due = plan.requests * (number + 1) // plan.rounds
        persona = plan.personas[number % len(plan.personas)]
        for more in itertools.count():
            if (more and self.report.counts["contract"] >= due) or self.site.restarted():
                return
            # The document's bounds are the same for every seed.
            new = not more and persona not in plan.personas[:number]
            seed = 1000 * plan.seed + 100 * more + number
            campaign = Campaign(seed, persona, plan.examples, EVERY if new else RANDOM)
            before = self.report.counts["contract"]
            contract.run(self.site, self.stock, campaign, self.ledger, lambda count: self._done("contract", count))
            if self.report.counts["contract"] == before:
                self.ledger.breach("no answer", "a whole campaign", str(campaign))
                return

    def _bodies(self, numbers: range) -> None:
        """Send each body alone, so that what it costs is its own.

        Then many of one owner at once, and small ones of another.
        """
        for number in numbers:
            body = bodies.hostile(self.plan.seed, number)
            with peak(self.site.api.pid) as taken:
                self._send_body(body, CREATE if number % 5 == 0 else ESTIMATE, self.member)
            self.report.cost.one(body.name, len(body.content), body.decoded, taken[0])
            self._count("bodies", 1)
        if numbers:
            self._crowd()

    def _crowd(self) -> None:
        body, stranger = bodies.large(14 * bodies.MB), self.site.headers("stranger")
        with peak(self.site.api.pid) as taken, ThreadPoolExecutor(CROWD) as threads:
            sent = [threads.submit(self._send_body, body, ESTIMATE, self.member, busy=True) for _ in range(CROWD)]
            small = 0
            while not all(one.done() for one in sent):
                self._send_body(bodies.small(), ESTIMATE, stranger)
                small += 1
            for one in sent:
                one.result()
        self._count("bodies", CROWD + small)
        self.report.cost.crowd(taken[0])

    def _send_body(self, body: Body, operation: str, headers: dict[str, str], busy: bool = False) -> None:
        """Send one body. busy: whether the service may have no room for it."""
        told = f"{body.name} as {body.content_type[:200]!r}"
        # Python's client would write a header as Latin-1 or not at all.
        sent = {name.encode(): value.encode() for name, value in headers.items()}
        sent[b"Content-Type"] = body.content_type.encode()
        try:
            answer = self.client.post(operation.partition(" ")[2], content=body.content, headers=sent)
        except httpx.TransportError as error:
            self.ledger.breach("no answer", operation, f"{error!r} {told}")
            return
        if busy and answer.status_code == 503 and answer.headers.get("retry-after"):
            self.ledger.answers["bodies", 503] += 1
            return
        self.ledger.hear("bodies", operation, answer.status_code, answer.headers, answer.content, told)

    def _pictures(self, numbers: range) -> None:
        for number in numbers:
            name, data = damaged(self.plan.seed, number)
            match number % 20:
                case 0:
                    self._upload(name, data)
                case 1 | 2:
                    self._send("pictures", CREATE, name, files={"start": self.good, "end": data}, data=FLOW)
                case 3:
                    self._send("pictures", ESTIMATE, name, json={"start": _uri(data), "end": _uri(self.good), **ASKED})
                case _:
                    self._send("pictures", ESTIMATE, name, files={"start": data, "end": self.good}, data=FLOW)
            self._done("pictures", 1)

    def _upload(self, name: str, data: bytes) -> None:
        """Send a picture ahead as an upload, then name it in a request."""
        asked = {"content_type": "image/jpeg", "size": max(1, len(data))}
        granted = self._send("pictures", "POST /uploads", name, json=asked)
        if granted is None or granted.status_code != 201:
            return
        upload = granted.json()
        url = upload["url"].removeprefix(self.site.url)
        self._send("pictures", "PUT /objects/{token}", name, url=url, content=data, headers=upload["headers"])
        image = upload["image"]
        self._send("pictures", CREATE, name, json={"start": image, "end": _uri(self.good), **ASKED})

    def _options(self, number: int, count: int) -> None:
        """Send options as a form and as JSON.

        Every tenth is asked for in earnest, and must be taken if the estimate said so.
        """
        if not count:
            return
        turn = itertools.count()

        @hypothesis_seed(100 * self.plan.seed + number)
        @hypothesis_settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(text=options.documents())
        def send(text: bytes) -> None:
            at = next(turn)
            body = _json_body(self.good, text) if at % 2 else _form_body(self.good, text)
            told = repr(text[:300])
            answer = self._send("options", ESTIMATE, told, **body)
            if at % 10 in (0, 1) and answer is not None:
                accepted = answer.status_code == 200 and answer.json()["accepted"]
                made = self._send("options", CREATE, told, **body)
                if made is not None and (made.status_code == 202) != accepted:
                    self.ledger.breach(
                        "broken promises", "estimate", f"{answer.text[:300]} then {made.text[:300]} for {told}"
                    )
            self._done("options", 1)

        send()

    def _send(self, part: str, operation: str, told: str, *, url: str = "", **request: Any) -> httpx.Response | None:
        verb, _, path = operation.partition(" ")
        request["headers"] = {**self.member, **request.get("headers", {})}
        try:
            answer = self.client.request(verb, url or path, **request)
        except httpx.TransportError as error:
            self.ledger.breach("no answer", operation, f"{error!r} {told}")
            return None
        self.ledger.hear(part, operation, answer.status_code, answer.headers, answer.content, told)
        if operation == ESTIMATE and answer.status_code == 200:
            self.ledger.hear_estimate(answer.content, told)
        return answer

    def _count(self, part: str, count: int) -> None:
        """Count answers without a look at the memory at rest.

        A large body that was just answered may still be on its way out.
        """
        self.report.counts[part] += count
        self.progress(part, count)

    def _done(self, part: str, count: int) -> None:
        before = self.report.counts[part]
        self._count(part, count)
        if before // READ_EVERY != (before + count) // READ_EVERY and not self.site.restarted():
            self.report.memory.read(sum(self.ledger.sent.values()), self._at_rest())

    def _at_rest(self) -> int:
        """Read the API's memory once what was just answered has been given back; what is not by then is held."""
        before = self.report.memory.after if self.report.memory.settled is not None else []
        enough = (1 + SWING / 2) * min(before, default=0)
        deadline = time.monotonic() + REST_SECONDS
        resident = self.site.memory()
        while before and resident > enough and time.monotonic() < deadline:
            time.sleep(0.05)
            resident = min(resident, self.site.memory())
        return resident


REST_SECONDS = 10.0
"""How long what was just answered may be on its way out."""
READ_EVERY = 100
"""Requests of a part between two readings of the memory."""
ASKED: dict[str, Any] = {"options": {"method": "flow", "frames": 3}}
FLOW = {"options": json.dumps(ASKED["options"])}


def _share(total: int, number: int, rounds: int) -> range:
    return range(total * number // rounds, total * (number + 1) // rounds)


def _uri(data: bytes) -> str:
    from base64 import b64encode

    return "data:;base64," + b64encode(data).decode()


def _json_body(picture: bytes, text: bytes) -> dict[str, Any]:
    head = json.dumps({"start": _uri(picture), "end": _uri(picture)}).encode()
    body = head[:-1] + b', "options": ' + text + b"}"
    return {"content": body, "headers": {"content-type": "application/json"}}


def _form_body(picture: bytes, text: bytes) -> dict[str, Any]:
    return {"files": {"start": picture, "end": picture, "options": (None, text, "application/json")}}
