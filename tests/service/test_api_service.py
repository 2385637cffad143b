"""What the service says of itself: methods, metrics, pages, cross-origin answers; and what operators do."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mpd.methods import METHODS
from service.fleet import engines
from service.fleet.engines import Engine, EngineState
from service.jobs import metrics
from service.jobs.request_options import REQUEST_OPTIONS
from tests.service.conftest import Api, Make, problem
from tests.service.test_api_submit import ENGINE

GPU: dict[str, Any] = {"gpu_memory_used": 30_000_000_000, "gpu_memory_total": 80_000_000_000, "gpu_utilization": 0.75}


def test_methods_with_the_engines_at_work(api: Api) -> None:
    idle = api.client.get("/methods").json()
    assert [method["name"] for method in idle["methods"]] == list(METHODS)
    assert {method["name"]: method["available"] for method in idle["methods"]} == {
        name: True if name == "flow" else None for name in METHODS
    }
    assert idle["engines"] == []
    assert idle["limits"]["frames"]["maximum"] == 241
    assert idle["limits"]["frames"]["why"]
    assert {method["name"] for method in idle["methods"] if not method["uses_end"]} == {"svd"}
    of_their_own = {method["name"]: method["native_frames"] for method in idle["methods"]}
    assert of_their_own == {name: None if method.needs_model else 25 for name, method in METHODS.items()}
    assert idle["formats"]["mp4"] == "video/mp4"
    engines.publish(api.services.redis, api.settings, ENGINE)
    engines.publish(api.services.redis, api.settings, replace(ENGINE, id="e2", state=EngineState.starting))
    live = api.client.get("/methods").json()
    assert [method["name"] for method in live["methods"] if method["available"]] == ["flow", "svd", "mpd-vibid"]
    assert {method["name"]: method["available"] for method in live["methods"]}["rife"] is False
    assert live["engines"][0]["native_size"] == [1024, 576]
    assert live["engines"][1]["state"] == "starting"
    interpolates = Engine("e3", EngineState.ready, "", "cpu", 0.0, methods=("rife",))
    engines.publish(api.services.redis, api.settings, interpolates)
    live = api.client.get("/methods").json()
    assert [method["name"] for method in live["methods"] if method["available"]] == ["flow", "rife", "svd", "mpd-vibid"]
    knobs = next(method for method in live["methods"] if method["name"] == "mpd-vibid")
    assert knobs["defaults"]["gamma"] == 0.2
    assert knobs["denoiser_calls"] == 65


@pytest.mark.parametrize("name", REQUEST_OPTIONS)
def test_methods_tell_all_of_every_option(api: Api, name: str) -> None:
    one = REQUEST_OPTIONS[name]
    told = next(option for option in api.client.get("/methods").json()["options"] if option["name"] == name)
    for limit in ("limit", "size"):
        asked, given = getattr(one, limit), told.pop(limit)
        ends = None if given is None else (given["minimum"], given["maximum"], given["why"])
        assert ends == (None if asked is None else (asked.low, asked.high, asked.why))
    assert told.pop("methods") == [method.name for method in METHODS.values() if method.has(one.trait)]
    for fact, value in told.items():
        mine = getattr(one, fact)
        assert value == (list(mine) if isinstance(mine, tuple) else mine or None if fact == "unset" else mine)


def test_metrics_are_the_names_and_the_counts(api: Api) -> None:
    for _ in range(2):
        api.submit({"method": "flow"})
    api.succeed(api.submit({"method": "flow", "priority": "high"})["id"])
    engines.publish(api.services.redis, api.settings, ENGINE)
    engines.publish(api.services.redis, api.settings, replace(ENGINE, id="e2", busy_with="job_1-1", **GPU))
    for seconds in (0.3, 0.3, 3.0, 4000.0):
        api.jobs.count(metrics.observed("stage_seconds", seconds, stage="encoding"))
    api.jobs.count(metrics.counted("webhook_deliveries_total", result="delivered"))
    api.jobs.count(metrics.counted("gpu_seconds_total", 2.25))
    api.services.redis.hset(api.jobs.keys.counters, 'queue_wait_seconds_bucket{le="5"}', 7)
    answer = api.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name.removeprefix("inbetween_"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["queue_depth", ("lane", "cpu"), ("priority", "default")] == 2
    assert samples["queue_depth", ("lane", "gpu"), ("priority", "low")] == 0
    assert samples["jobs_total", ("method", "flow"), ("outcome", "succeeded")] == 1
    assert samples["jobs_total", ("method", "mpd"), ("outcome", "failed")] == 0, "there before the first one"
    ended = ("method", "flow"), ("outcome", "succeeded"), ("size", "small")
    assert samples["job_seconds_count", *ended] == 1
    assert samples[("jobs_submitted_total",)] == 3
    assert samples["queue_wait_seconds_count", ("lane", "cpu"), ("priority", "high")] == 1
    assert len([name for name, *_ in samples if name == "queue_wait_seconds_count"]) == 1, "old fields are left out"
    within = {bound: samples["stage_seconds_bucket", ("le", bound), ("stage", "encoding")] for bound in ("0.25", "0.5")}
    assert within == {"0.25": 0, "0.5": 2}
    assert samples["stage_seconds_bucket", ("le", "5"), ("stage", "encoding")] == 3
    assert samples["stage_seconds_bucket", ("le", "+Inf"), ("stage", "encoding")] == 4
    assert samples["stage_seconds_count", ("stage", "encoding")] == 4
    assert samples["stage_seconds_sum", ("stage", "encoding")] == pytest.approx(4003.6)
    assert samples["webhook_deliveries_total", ("result", "delivered")] == 1
    assert samples[("gpu_seconds_total",)] == 2.25
    assert samples["workers", ("state", "idle")] == samples["workers", ("state", "busy")] == 1
    assert samples["workers", ("state", "failed")] == 0
    shown = [samples[name, ("engine", "e2")] for name in ("gpu_memory_used_bytes", "gpu_memory_total_bytes")]
    assert (shown, samples["gpu_utilization_ratio", ("engine", "e2")]) == ([30e9, 80e9], 0.75)
    assert ("gpu_utilization_ratio", ("engine", ENGINE.id)) not in samples, "an engine without a GPU has none"
    assert (samples[("storage_up",)], samples[("keepers",)], samples[("dead_letters",)]) == (1, 0, 0)
    assert (samples[("webhooks_pending",)], samples[("webhooks_oldest_due_seconds",)]) == (0, 0)
    assert samples["jobs_running", ("lane", "gpu")] == 0
    assert samples[("oldest_queued_age_seconds",)] > 0


def test_what_was_taken_back_is_counted_by_its_cause(api: Api) -> None:
    for cause in ("lease", "engine", "engine"):
        job = api.start(api.submit({"method": "flow"})["id"])
        api.jobs.died(job.id, job.attempt, cause)
    lost = api.submit({"method": "flow"})["id"]
    api.jobs.requeue(lost, 1)
    lines = api.client.get("/metrics").text.splitlines()
    counted = dict(line.rsplit(" ", 1) for line in lines if line.startswith("inbetween_reclaims_total"))
    assert counted == {
        'inbetween_reclaims_total{cause="engine"}': "2.0",
        'inbetween_reclaims_total{cause="lease"}': "1.0",
        'inbetween_reclaims_total{cause="lost"}': "1.0",
        'inbetween_reclaims_total{cause="work-horse"}': "0.0",
    }


def test_health_is_asked_by_get_or_head(api: Api) -> None:
    for path in ("/livez", "/readyz"):
        asked, head = api.client.get(path), api.client.head(path)
        assert (asked.status_code, head.status_code, head.content) == (200, 200, b"")
        assert head.headers["content-type"] == asked.headers["content-type"]


def test_the_reference_loads_nothing_and_runs_nothing(api: Api) -> None:
    answer = api.client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert not re.search(r'(src|href)="(https?:)?//', answer.text)
    for link in re.findall(r'href="(/[^"]*)"', answer.text):
        assert api.client.get(link).status_code == 200, link


def test_the_reference_shows_every_operation(api: Api) -> None:
    page = api.client.get("/docs").text
    for path, item in api.client.get("/openapi.json").json()["paths"].items():
        for verb, operation in item.items():
            assert f"{verb.upper()} {path}" in page
            assert f'id="{operation["operationId"]}"' in page


def test_other_origins_are_let_in_by_name(make_api: Make) -> None:
    api = make_api(cors_origins="https://studio.example.com")
    asked = {"Origin": "https://studio.example.com", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,idempotency-key"
    answer = api.client.options("/inbetween", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://studio.example.com"
    answer = api.client.get("/livez", headers={"Origin": "https://studio.example.com"})
    assert "Location" in answer.headers["access-control-expose-headers"]
    answer = api.client.get("/livez", headers={"Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in answer.headers


def quarantined(api: Api) -> str:
    job = api.start(api.submit({"method": "flow"})["id"])
    while not job.state.is_terminal:
        job = api.jobs.died(job.id, job.attempt, "test")
        if not job.state.is_terminal:
            job = api.start(job.id)
    return job.id


def test_dead_letters_are_listed_and_redriven(api: Api) -> None:
    job_id = quarantined(api)
    letters = api.client.get("/dead-letters").json()
    assert [job["id"] for job in letters["jobs"]] == [job_id]
    assert letters["jobs"][0]["quarantined"]
    assert letters["jobs"][0]["error"]["type"] == "/problems/quarantined"
    again = api.client.post(f"/dead-letters/{job_id}/redrive")
    assert (again.status_code, again.json()["state"], again.json()["attempt"]) == (200, "queued", 4)
    assert api.client.get("/dead-letters").json()["jobs"] == []
    body = problem(api.client.post(f"/dead-letters/{job_id}/redrive"), 409, "job-conflict")
    assert body["state"] == "queued"
    problem(api.client.post(f"/dead-letters/job_{'0' * 26}/redrive"), 404, "job-not-found")
    ids = [quarantined(api) for _ in range(3)]
    page = api.client.get("/dead-letters?limit=2").json()
    rest = api.client.get(page["next"]).json()
    assert [job["id"] for job in (*page["jobs"], *rest["jobs"])] == ids[::-1]


def test_webhook_deliveries_are_listed_and_redriven(api: Api) -> None:
    for _ in range(3):
        job = api.succeed(api.submit({"method": "flow", "webhook": {"url": "https://example.com/hook"}})["id"])
        api.services.webhooks.announce(job)
    listed = api.client.get("/webhooks/deliveries").json()["deliveries"]
    assert len(listed) == 3
    newest = listed[0]
    assert (newest["job"], newest["event"]) == (job.id, "inbetween.succeeded")
    assert (newest["url"], newest["state"], newest["tries"]) == ("https://example.com/hook", "pending", 0)
    page = api.client.get("/webhooks/deliveries?limit=2").json()
    rest = api.client.get(page["next"]).json()
    assert [*page["deliveries"], *rest["deliveries"]] == listed
    again = api.client.post(f"/webhooks/deliveries/{newest['id']}/redrive")
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, newest["id"], "pending")
    problem(api.client.post("/webhooks/deliveries/msg_x/redrive"), 404, "delivery-not-found")
    problem(api.client.get("/webhooks/deliveries?cursor=x"), 422, "invalid-request")
