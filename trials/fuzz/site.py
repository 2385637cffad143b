"""The service to be tried: a real redis-server, a real API process, a real worker for the jobs it is stocked with.

Knows how to start them, who has which key, and which ids lead to something. Sends no odd request.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from service.auth import ApiKeys, Scope
from service.jobs.record import Job, NewJob, State
from service.jobs.store import Jobs
from service.problems import Problem
from service.settings import ServiceSettings
from service.storage import open_storage
from service.webhooks.deliveries import announce
from trials.fuzz.pictures import originals
from trials.processes import LONGEST_WAIT, Processes
from trials.servers import RedisProcess, free_port

UNLIMITED = dict.fromkeys(("RATE_LIMIT", "MAX_ACTIVE_JOBS", "GPU_SECONDS_PER_DAY", "MAX_QUEUE"), "0")
"""A refusal for having sent too much would hide what the service makes of the request."""
PERSONAS: dict[str, tuple[str, tuple[Scope, ...]]] = {
    "member": ("anna", (Scope.submit, Scope.read)),
    "operator": ("olga", (Scope.admin,)),
    "reader": ("anna", (Scope.read,)),
    "submitter": ("anna", (Scope.submit,)),
    "meter": ("mona", (Scope.metrics,)),
    "stranger": ("boris", (Scope.submit, Scope.read)),
}
"""Who asks: owner and scopes of the key. `nobody` has none."""


@dataclass
class Stock:
    """Ids and links that lead to something, and what an image may be given as."""

    #: By state; `foreign` ones are another owner's.
    jobs: dict[str, list[str]] = field(default_factory=dict)
    deliveries: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


class FuzzSite:
    """A context manager. variables: settings of the service beside the trial's own."""

    def __init__(self, area: Path, **variables: str) -> None:
        self.area = area
        area.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.redis_process = RedisProcess(area)
        variables = {
            "REDIS_URL": self.redis_process.url,
            "PORT": self.url.rpartition(":")[2],
            "STORAGE_URL": str(area / "storage"),
            "AUTH": "keys",
            "OMP_NUM_THREADS": "1",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "warning",
            "FETCH_ALLOW_HOSTS": "127.0.0.1",
            **UNLIMITED,
            # A name that a generated URL has by chance is asked for once, and not for long.
            "RES_OPTIONS": "timeout:1 attempts:1",
            **variables,
        }
        known: dict[str, Any] = {
            name.lower(): value for name, value in variables.items() if name.lower() in ServiceSettings.model_fields
        }
        self.settings = ServiceSettings(_env_file=None, **known)
        self.redis = redis.Redis.from_url(self.settings.redis_url)
        self.keys: dict[str, str] = {}
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.api: psutil.Popen
        self._processes = Processes(area, variables)
        self._open = ExitStack()

    def __enter__(self) -> FuzzSite:
        with ExitStack() as opened:
            self.redis_process.start()
            opened.callback(self.redis_process.kill)
            opened.callback(self.redis.close)
            opened.callback(self.client.close)
            self.jobs = Jobs(self.redis, self.settings)
            self.storage = open_storage(self.settings, self.redis)
            keys = ApiKeys(self.redis, self.settings)
            for name, (owner, scopes) in PERSONAS.items():
                self.keys[name] = keys.create(name, scopes, owner)[1]
            self.api = opened.enter_context(self._processes.running("api"))
            self._processes.until_ready(self.url, self.api)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def headers(self, persona: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[persona]}"} if persona in self.keys else {}

    def memory(self) -> int:
        """Read the resident bytes of the API process."""
        return int(self.api.memory_info().rss)

    def restarted(self) -> bool:
        """Tell whether the API process has ended; nothing starts it again."""
        return self.api.poll() is not None

    def errors(self) -> list[str]:
        """List lines of the API's log that say error, and tracebacks."""
        lines = (self.area / "api.log").read_text(errors="replace").splitlines()
        return [line[:600] for line in lines if '"level": "error"' in line or line.startswith("Traceback")]

    def document(self) -> dict[str, Any]:
        return dict(self.client.get("/openapi.json").raise_for_status().json())

    def stock(self, receiver: str) -> Stock:
        """Make jobs in every state, some with results that a real worker made, uploads, deliveries, links to files.

        receiver: URL of a server that answers with a picture and takes webhooks.
        """
        stock = Stock()
        self._add_jobs(stock, receiver)
        self._add_links(stock)
        stock.images = [
            *(f"upload:{upload}" for upload in stock.uploads),
            f"{receiver}/picture.png",
            "data:image/webp;base64," + _base64(originals()["webp-lossy"]),
        ]
        return stock

    def submit(self, persona: str, **options: Any) -> str:
        """Submit a job and give its id."""
        pictures = originals()
        files = {"start": pictures["jpeg"], "end": pictures["png"]}
        data = {"options": json.dumps({"method": "flow", "frames": 3, **options})}
        answer = self.client.post("/inbetween", headers=self.headers(persona), files=files, data=data)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def _add_jobs(self, stock: Stock, receiver: str) -> None:
        hook = {"webhook": {"url": f"{receiver}/hook"}}
        made = [self.submit("member", formats=["mp4", "gif", "png"], seeds=[1, 2]) for _ in range(2)]
        foreign = self.submit("stranger")
        with self._processes.running("worker", MODEL="", WORKERS_PER_ENGINE="1"):
            for job_id in (*made, foreign):
                self._await_end(job_id)
        stock.jobs = {"succeeded": made, "foreign": [foreign]}
        stock.jobs["queued"] = [self.submit("member", method="vibid", **hook) for _ in range(3)]
        running, failed, canceled = (self.submit("member", **hook) for _ in range(3))
        for job_id in (running, failed):
            self.jobs.start(job_id, self._job(job_id).attempt, "trial")
        self.jobs.fail(failed, 1, Problem(500, "generation-failed", "It was meant to.").to_dict(), retry=False)
        expired = self.jobs.submit(NewJob(PERSONAS["member"][0], {"method": "flow"}, [], "cpu", result_ttl=0)).id
        self.jobs.cancel(expired)
        self.jobs.expire(expired)
        self.jobs.cancel(canceled)
        stock.jobs |= {"running": [running], "failed": [failed], "expired": [expired], "canceled": [canceled]}
        delivery = announce(self.jobs, self.settings, self._job(canceled))
        assert delivery is not None
        stock.deliveries = [delivery]

    def _add_links(self, stock: Stock) -> None:
        headers = self.headers("member")
        view = self.client.get(f"/inbetween/{stock.jobs['succeeded'][0]}", headers=headers).json()
        urls = [file["url"] for file in view["result"]["files"][:3]] + [view["keyframes"][0]["url"]]
        picture = originals()["avif"]
        asked = {"content_type": "image/avif", "size": len(picture)}
        for _ in range(2):
            upload = self.client.post("/uploads", headers=headers, json=asked).raise_for_status().json()
            urls.append(upload["url"])
            stock.uploads.append(upload["id"])
            self.client.put(upload["url"], content=picture, headers=upload["headers"]).raise_for_status()
        stock.tokens = [url.rpartition("/")[2] for url in urls]

    def _job(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        assert job is not None
        return job

    def _await_end(self, job_id: str) -> None:
        deadline = time.monotonic() + LONGEST_WAIT
        while not (state := self._job(job_id).state).is_terminal:
            assert time.monotonic() < deadline, (self.area / "worker.log").read_text()
            time.sleep(0.05)
        assert state is State.succeeded, self._job(job_id).error


def _base64(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode()
