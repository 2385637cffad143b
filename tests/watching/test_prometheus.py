"""A real Prometheus reads a running service as docker/prometheus has it; what the dashboard asks it has answers."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.auth import CALLER, ApiKeys, Scope
from service.fleet import engines
from service.fleet.engines import Engine, EngineState
from trials.pictures import photo
from trials.receiver import Receiver
from trials.servers import free_port
from trials.site import Site

pytestmark = pytest.mark.needs("prometheus")

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "inbetween.json").read_text())
QUERIES = {
    f"{panel['title']}: {target['legendFormat']}": target["expr"].replace("$__rate_interval", "1m")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}
_SCALING = yaml.safe_load((DOCKER / "kubernetes" / "overlays" / "gpu" / "scaling.yaml").read_text())
SCALED_BY = _SCALING["spec"]["triggers"][0]["metadata"]["query"]
PATIENCE = 60.0


class Prometheus:
    """The one that `client` reaches."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **query: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, expression: str) -> list[float]:
        """Of all series that an expression gives now, but for those that are not a number."""
        found = self.get("query", query=expression)["result"]
        return [value for one in found if not math.isnan(value := float(one["value"][1]))]

    def until(self, expression: str, least: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while not any(value >= least for value in self.values(expression)):
            assert time.monotonic() < deadline, (expression, self.get("targets")["activeTargets"])
            time.sleep(0.2)


@contextmanager
def prometheus(folder: Path, target: str, key: str) -> Iterator[Prometheus]:
    """With the configuration that ships, but for addresses, paths and how often it looks."""
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(DOCKER / "prometheus" / name) for name in config["rule_files"]]
    ours = config["scrape_configs"][0]
    ours["static_configs"][0]["targets"] = [target]
    ours["authorization"]["credentials_file"] = str(folder / "key")
    config["scrape_configs"] = [ours]
    (folder / "key").write_text(key + "\n")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": address,
    }
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        transport = httpx.HTTPTransport(retries=30)
        with httpx.Client(base_url=f"http://{address}", transport=transport, timeout=10) as client:
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(20)


def job(client: httpx.Client, **options: Any) -> None:
    files = {"start": photo(), "end": photo(colour="teal")}
    answer = client.post("/inbetween", files=files, data={"options": json.dumps({"method": "flow", **options})})
    assert answer.status_code == 202, answer.text


def test_every_question_of_the_dashboard_has_an_answer(redis_server: str, tmp_path: Path, receiver: Receiver) -> None:
    port = free_port()
    site = Site(redis_server, tmp_path, AUTH="keys", PORT=str(port), FETCH_ALLOW_HOSTS="127.0.0.1")
    try:
        watch(site, port, receiver, tmp_path)
    finally:
        site.close()


def watch(site: Site, port: int, receiver: Receiver, folder: Path) -> None:
    keys = ApiKeys(site.redis, site.settings)
    _, secret = keys.create("somebody", CALLER)
    _, watcher = keys.create("prometheus", [Scope.metrics])
    for command in ("worker", "keeper", "api"):
        site.start(command)
    # There is no GPU here: what an engine with one says of itself.
    gpu = {"gpu_memory_used": 30 << 30, "gpu_memory_total": 80 << 30, "gpu_utilization": 0.9}
    engine = Engine("gpu-1", EngineState.ready, "svd", "cuda", time.time(), **gpu)  # type: ignore[arg-type]
    engines.publish(site.redis, site.settings, engine, ttl=600)
    transport = httpx.HTTPTransport(retries=60)
    own = {"Authorization": f"Bearer {secret}"}
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=own, transport=transport, timeout=30) as client,
        prometheus(folder, f"127.0.0.1:{port}", watcher) as seen,
    ):
        hook = {"url": f"{receiver.url}/hook"}
        job(client, webhook=hook)
        receiver.wait_for(1)
        seen.until("inbetween_job_seconds_count", 1)
        # A series is seen to grow from its second value on.
        job(client, webhook=hook)
        receiver.wait_for(2)
        seen.until("sum(inbetween_job_seconds_count)", 2)
        seen.until('inbetween_webhook_deliveries_total{result="delivered"}', 2)
        seen.until('inbetween_http_request_seconds_count{route="/inbetween"}', 2)
        answers = {name: seen.values(expression) for name, expression in QUERIES.items()}
        assert len(answers) == len(QUERIES) > 35
        assert [name for name, values in answers.items() if not values] == []
        assert max(answers["Jobs ended a minute: {{outcome}}"]) > 0
        assert answers["GPU utilization: {{engine}}"] == [0.9]
        assert answers["Keeper: "] == answers["Storage: "] == [1]
        rules = [rule for group in seen.get("rules")["groups"] for rule in group["rules"]]
        assert {(rule["health"], rule["state"]) for rule in rules} == {("ok", "inactive")}, rules
        # What KEDA scales GPUs by: jobs that wait and jobs that run, of this lane alone.
        assert seen.values(SCALED_BY) == [0]
        waiting = [site.submit("svd") for _ in range(3)]
        seen.until(SCALED_BY, 3)
        site.jobs.start(waiting[0].id, waiting[0].attempt, "horse")
        seen.until('inbetween_jobs_running{lane="gpu"}', 1)
        assert seen.values(SCALED_BY) == [3]
