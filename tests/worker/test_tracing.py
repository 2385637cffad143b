"""One trace of a job from POST to webhook, and its log lines, of a real stack with a real collector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from service.jobs.reconcile import Watch, reclaim_dead
from service.jobs.record import Job, NewJob, State
from service.jobs.store import Jobs
from service.observe import tracing
from service.settings import ServiceSettings
from tests.worker.collector import Collector, Span, collector
from trials.pictures import photo
from trials.receiver import Receiver
from trials.servers import free_port
from trials.site import Site

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, CALLERS_SPAN = CALLER.split("-")[1:3]
STAGES = ["job.starting", "job.fetching", "job.waiting", "job.sampling", "job.encoding", "job.uploading"]


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as server:
        yield server


@pytest.fixture(scope="module")
def site(
    redis_server: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory, collected: Collector
) -> Iterator[Site]:
    """A whole service with an engine, its log in JSON."""
    variables = {
        "MODEL": str(tiny),
        "AUTH": "off",
        "PORT": str(free_port()),
        "FETCH_ALLOW_HOSTS": "127.0.0.1",
        "LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collected.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    site = Site(redis_server, tmp_path_factory.mktemp("site"), **variables)
    site.launcher = site.start("worker")
    for command in ("api", "keeper"):
        site.start(command)
    site.engine()
    yield site
    site.close()


def post(site: Site, hook: str, **options: Any) -> str:
    """The id of a job posted by HTTP by a caller who traces."""
    files = {"start": photo(), "end": photo(colour="teal")}
    wanted = {"formats": ["mp4"], "frames": 8, "width": 64, "height": 64, "webhook": {"url": hook}, **options}
    with httpx.Client(transport=httpx.HTTPTransport(retries=20), timeout=30) as client:
        url = f"http://127.0.0.1:{site.variables['PORT']}/inbetween"
        answer = client.post(url, files=files, data={"options": json.dumps(wanted)}, headers={"traceparent": CALLER})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def found(site: Site, job_id: str) -> Job:
    job = site.jobs.get(job_id)
    assert job is not None
    return job


def below(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent == parent.id]


def test_a_job_whose_work_horse_is_killed_is_one_whole_trace(
    site: Site, collected: Collector, receiver: Receiver
) -> None:
    job_id = post(site, f"{receiver.url}/hook", method="mpd-vibid", steps=12)
    job = found(site, job_id)
    site.stepping(job)
    psutil.Process(int((found(site, job_id).worker or "").rpartition("-")[2])).kill()
    done = site.ended(job)
    assert (done.state, done.attempt) == (State.succeeded, 2), done.error
    [hook] = receiver.wait_for(1)
    twice = ["job.queue", "job.attempt", "engine.generate"] * 2
    spans = collected.until(TRACE, "POST /inbetween", *twice, *STAGES, "job.commit", "webhook.deliver")

    assert len({span.id for span in spans}) == len(spans)
    assert {span.parent for span in spans} - {span.id for span in spans} == {CALLERS_SPAN}, "nothing hangs in the air"
    [request] = [span for span in spans if span.parent == CALLERS_SPAN]
    assert (request.name, request.service, request.attributes["job"]) == ("POST /inbetween", "inbetween-api", job_id)
    children = below(spans, request)
    assert [span.name for span in children if span.name != "webhook.deliver"] == ["job.queue", "job.attempt"] * 2
    attempts = [span for span in children if span.name == "job.attempt"]
    assert [(span.attributes["attempt"], span.failed) for span in attempts] == [(1, True), (2, False)]
    for span in children[:4]:
        assert (span.attributes["job"], span.attributes["method"]) == (job_id, "mpd-vibid")
    assert {span.service for span in attempts} == {"inbetween-worker"}
    for attempt in attempts:
        [sampled] = [span for span in below(spans, attempt) if span.name == "engine.generate"]
        assert (sampled.service, sampled.attributes["job"]) == ("inbetween-engine", job_id)
        steps = [span for span in below(spans, sampled) if span.name == "engine.step"]
        numbers = [span.attributes["step"] for span in steps]
        assert numbers == [*range(1, len(numbers) + 1)]
        assert all(before.ended <= after.began for before, after in pairwise(steps))
        assert sampled.failed == (attempt is attempts[0]), "an engine that nobody listens to stops"
        if attempt is attempts[1]:
            assert len(steps) == 12
            assert "engine.take" in {span.name for span in below(spans, sampled)}
    stages = [span.name for span in below(spans, attempts[1]) if span.name != "engine.generate"]
    assert [name for number, name in enumerate(stages) if name not in stages[:number]] == [*STAGES, "job.commit"]
    [told] = [span for span in children if span.name == "webhook.deliver"]
    assert (told.attributes["job"], told.attributes["attempt"], told.attributes["status"]) == (job_id, 2, 200)
    assert hook.headers["traceparent"] == f"00-{TRACE}-{told.id}-01"
    assert told.service == "inbetween-webhooks"


def test_every_transition_is_one_line_of_json_with_the_job_and_the_trace(site: Site, receiver: Receiver) -> None:
    job_id = post(site, f"{receiver.url}/hook", method="flow")
    assert site.ended(found(site, job_id)).state is State.succeeded
    receiver.wait_for(1)
    site.until_said("worker", f'"job": "{job_id}", "attempt": 1, "trace": "{TRACE}", "result": "delivered"')
    lines = [json.loads(line) for log in site.area.glob("*.log") for line in log.read_text().splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    of_job = [line for line in lines if line.get("job") == job_id]
    moved = sorted((line for line in of_job if "verb" in line), key=lambda line: line["timestamp"])
    assert [(line["before"], line["event"], line["attempt"]) for line in moved] == [
        (None, "job queued", 1),
        ("queued", "job running", 1),
        ("running", "job succeeded", 1),
    ]
    assert {line["trace"] for line in of_job} == {TRACE}
    assert moved[-1]["seconds"] > 0
    [request] = [line for line in lines if line.get("request") == moved[0]["request"] and line["event"] == "request"]
    assert (request["path"], request["trace"]) == ("/inbetween", TRACE)
    [told] = [line for line in of_job if line["event"] == "webhook"]
    assert (told["result"], told["attempt"]) == ("delivered", 1)


def test_an_attempt_whose_lease_ran_out_is_told_of_by_the_keeper(redis_url: str, collected: Collector) -> None:
    settings = ServiceSettings(_env_file=None, redis_url=redis_url, otel_exporter_otlp_endpoint=collected.url)
    parent = "00-5af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tracing.start(settings, "keeper")
    try:
        with redis.Redis.from_url(redis_url) as connection:
            jobs = Jobs(connection, settings)
            job = jobs.submit(NewJob("ann", {"method": "flow"}, [], "cpu", 600, traceparent=parent))
            jobs.start(job.id, 1, "another machine")
            watch = Watch(patience=0, stride=1)
            assert reclaim_dead(jobs, watch) == 1
    finally:
        tracing.stop()
    [span] = collected.until(parent.split("-")[1], "job.attempt")
    assert (span.parent, span.failed, span.service) == ("b7ad6b7169203331", True, "inbetween-keeper")
    assert (span.attributes["job"], span.attributes["attempt"]) == (job.id, 1)


def test_a_collector_that_is_away_holds_up_nothing_for_long() -> None:
    settings = ServiceSettings(_env_file=None, otel_exporter_otlp_endpoint=f"http://127.0.0.1:{free_port()}")
    tracing.start(settings, "test")
    with tracing.span("something"):
        assert tracing.current() is not None
    began = time.monotonic()
    tracing.stop()
    assert time.monotonic() - began < 2 * tracing.EXPORT_SECONDS
    assert tracing.current() is None


def test_off_it_imports_nothing_of_opentelemetry() -> None:
    # redis-py imports OpenTelemetry's metrics where it finds them.
    script = (
        "HEAVY = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.instrumentation')\n"
        "import sys, service.api.app, service.settings, worker.tasks, worker.listener, worker.engine.job_line\n"
        "service.api.app.create_app(service.settings.ServiceSettings(_env_file=None, auth='off'))\n"
        "print([name for name in sys.modules if name.startswith(HEAVY)])"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_asked_for_and_not_installed_it_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ImportError('no', name='opentelemetry')")
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "server.cli", "keeper"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert done.stderr == (
        "inbetween-server: OTEL_EXPORTER_OTLP_ENDPOINT is set, and opentelemetry is missing: "
        "pip install 'inbetween[tracing]'.\n"
    )
