"""People who use the service without a pause: submit with an Idempotency-Key, look, cancel, delete, and try again
whenever an answer fails to come.

They write down what they were promised. Know nothing of what is being broken meanwhile.
"""

from __future__ import annotations

import base64
import io
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
from PIL import Image, ImageDraw

from service.jobs.record import State

LOOK_SECONDS = 0.7
PAUSE_SECONDS = 0.3
"""Before a request is sent again."""
LEAVE_SECONDS = 20.0
"""How long somebody looks before the next order: while there is no engine, orders go on coming. The verdict looks at
every job again."""
ANSWER_SECONDS = 8.0
"""How long an answer is waited for."""
IN_FLIGHT_PATIENCE = 20.0
"""How long somebody repeats a request that is said to be still in flight (409), before a new one."""


class CustomerLedger:
    """What customers were told. Threads share it, under its lock.

    accepted: job id by Idempotency-Key, for each 202. deleted: ids somebody asked to delete. ended: the final state
    that somebody saw, by id. missing: ids that were accepted and, as somebody was told, are not there. sent: the
    keyframes' files, by Idempotency-Key. broken: promises seen broken on the spot. counts: requests of each kind, and
    repetitions.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.accepted: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.ended: dict[str, str] = {}
        self.missing: set[str] = set()
        self.sent: dict[str, tuple[bytes, ...]] = {}
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def breach(self, what: str) -> None:
        with self.lock:
            self.broken.append(what)


@dataclass(frozen=True)
class Account:
    """Whose customer a person is."""

    #: Of the API key.
    secret: str
    #: URLs, one of which most jobs name as webhook.
    receivers: Sequence[str]


class _TrialOver(Exception):
    """The customers are to go home."""


class Customers:
    """A context manager: inside it, people use the service at `url`.

    accounts: one for each of them. seed: decides what the n-th submission is and what becomes of it. least: submissions
    that they make in any case; they go on until `enough`.
    """

    def __init__(self, url: str, accounts: Sequence[Account], *, seed: int, least: int) -> None:
        self.ledger = CustomerLedger()
        self._url = url
        self._seed = seed
        self._least = least
        self._enough = threading.Event()
        self._next = 0
        self._served_at = time.monotonic()
        self._over = threading.Event()
        self._pictures = [picture(number) for number in range(6)]
        self._threads = [
            threading.Thread(target=self._person, args=[account], name=f"customer-{n}")
            for n, account in enumerate(accounts)
        ]

    def __enter__(self) -> Customers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def enough(self) -> None:
        """Make no more submissions than the least."""
        self._enough.set()

    def served(self) -> bool:
        """Tell whether all submissions have been made, and looked after."""
        return not any(thread.is_alive() for thread in self._threads)

    def quiet_seconds(self) -> float:
        """Give the seconds since somebody was done with an order."""
        return time.monotonic() - self._served_at

    def _person(self, account: Account) -> None:
        headers = {"Authorization": f"Bearer {account.secret}"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=ANSWER_SECONDS, trust_env=False) as client:
            try:
                while (number := self._take()) is not None:
                    self._one(client, number, account.receivers)
                    self._served_at = time.monotonic()
            except _TrialOver:
                return

    def _take(self) -> int | None:
        with self.ledger.lock:
            if self._next >= self._least and self._enough.is_set():
                return None
            self._next += 1
            return self._next

    def _one(self, client: httpx.Client, number: int, receivers: Sequence[str]) -> None:
        """See one job through, from the request to its end or its deletion."""
        random = Random(f"{self._seed}/{number}")
        key = f"order-{self._seed}-{number}"
        job = self._submit(client, key, self._request(random, key, receivers))
        if job is None:
            return
        wish = random.choices(["wait", "cancel", "delete"], [80, 12, 8])[0]
        if wish != "wait":
            self._sleep(random.uniform(0, 4))
        if wish == "cancel":
            self.ledger.count("cancels")
            if self._ask(client, "POST", f"/inbetween/{job}/cancel", 200, 404).status_code == 404:
                self._miss(job)
                return
        elif wish == "delete":
            self.ledger.count("deletes")
            with self.ledger.lock:
                self.ledger.deleted.add(job)
            self._ask(client, "DELETE", f"/inbetween/{job}", 204, 404)
            return
        self._watch(client, job)

    def _request(self, random: Random, key: str, receivers: Sequence[str]) -> dict[str, Any]:
        options: dict[str, Any] = {
            "reference": key,
            "frames": random.randint(2, 3),
            "seed": random.randrange(1000),
            "priority": random.choices(["default", "high", "low"], [8, 1, 1])[0],
        }
        if random.random() < 0.3:
            sampled = {"method": random.choice(["svd", "vibid", "mpd-vibid"]), "steps": random.randint(1, 3)}
            options |= {**sampled, "width": 64, "height": 64}
        else:
            options["method"] = "flow"
        if random.random() < 0.7:
            options["webhook"] = {"url": random.choice(receivers)}
        images = random.sample(self._pictures, 2)
        with self.ledger.lock:
            self.ledger.sent[key] = tuple(base64.b64decode(image.partition(",")[2]) for image in images)
        return {"keyframes": [{"image": image} for image in images], "options": options}

    def _submit(self, client: httpx.Client, key: str, body: dict[str, Any]) -> str | None:
        """Submit a job and give its id.

        None when the first try of the request died so that nobody can tell what became of it.
        """
        self.ledger.count("submissions")
        patience = IN_FLIGHT_PATIENCE
        while True:
            answer = self._ask(client, "POST", "/inbetween", 202, 409, json=body, headers={"Idempotency-Key": key})
            if answer.status_code == 202:
                job = str(answer.json()["id"])
                with self.ledger.lock:
                    if self.ledger.accepted.setdefault(key, job) != job:
                        self.ledger.broken.append(f"{key} was answered with {job} and another job")
                return job
            if patience <= 0:
                self.ledger.count("given up in flight")
                return None
            patience -= 1
            self._sleep(1)

    def _watch(self, client: httpx.Client, job: str) -> None:
        """Look at a job until it is over, for as long as anybody cares to."""
        until = time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < until:
            answer = self._ask(client, "GET", f"/inbetween/{job}", 200, 404)
            if answer.status_code == 404:
                self._miss(job)
                return
            state = State(answer.json()["state"])
            if state.is_terminal:
                with self.ledger.lock:
                    self.ledger.ended[job] = state
                return
            self._sleep(LOOK_SECONDS)

    def _miss(self, job: str) -> None:
        with self.ledger.lock:
            self.ledger.missing.add(job)

    def _ask(self, client: httpx.Client, method: str, path: str, *wanted: int, **content: Any) -> httpx.Response:
        """Ask until one of these answers comes; a failing server or connection is asked again."""
        while True:
            try:
                answer = client.request(method, path, **content)
            except httpx.TransportError:
                self.ledger.count("requests cut off")
            else:
                if answer.status_code in wanted:
                    return answer
                if answer.status_code < 500:
                    self.ledger.breach(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
                    raise _TrialOver
                self.ledger.count(f"answers {answer.status_code}")
            self._sleep(PAUSE_SECONDS)

    def _sleep(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise _TrialOver


def picture(number: int) -> str:
    """Draw a small keyframe as a data URI: a square that moves with `number`."""
    image = Image.new("RGB", (64, 64), (40, 60, 90))
    ImageDraw.Draw(image).rectangle((4 + 6 * number, 20, 24 + 6 * number, 40), fill=(230, 200, 60))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
