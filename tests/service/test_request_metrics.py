"""Requests are counted by the template of their path, for all API processes together, and outlive each of them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.service.conftest import Api, Make
from trials.servers import RedisProcess


def samples(api: Api) -> dict[tuple[str, ...], float]:
    """By name, route, method and what else: status or bucket."""
    return {
        (
            sample.name.removeprefix("inbetween_http_"),
            *(sample.labels[label] for label in ("route", "method", "status", "le") if label in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(api.client.get("/metrics").text)
        for sample in family.samples
        if sample.name.startswith("inbetween_http_")
    }


def test_two_processes_count_as_one_and_one_that_ended_still_counts(
    make_api: Make, redis_process: RedisProcess
) -> None:
    # In a Redis of their own: what another test's server counted at its end would be added to theirs.
    first, second = (make_api(redis_url=redis_process.url) for _ in range(2))
    job = first.submit({"method": "flow"})["id"]
    for api in (first, second, second):
        api.client.get(f"/inbetween/{job}")
    first.client.get("/inbetween/job_0000000000000000000000000a")
    second.client.post("/inbetween", content=b"nonsense")
    # What the other process has counted it hands over by itself, every two seconds; here as it is asked.
    samples(second)
    counted = samples(first)
    assert counted["requests_total", "/inbetween/{job_id}", "GET", "200"] == 3
    assert counted["requests_total", "/inbetween/{job_id}", "GET", "404"] == 1
    assert counted["requests_total", "/inbetween", "POST", "202"] == 1
    assert counted["requests_total", "/inbetween", "POST", "415"] == 1
    assert counted["request_seconds_count", "/inbetween/{job_id}", "GET"] == 4
    assert counted["request_seconds_bucket", "/inbetween/{job_id}", "GET", "30"] == 4
    assert 0 < counted["request_seconds_sum", "/inbetween/{job_id}", "GET"] < 30
    second.client.head("/livez")
    second.stop()
    assert samples(first)["requests_total", "/livez", "HEAD", "200"] == 1, "counted as the process ended"


def test_what_strangers_make_up_adds_one_series(api: Api) -> None:
    for number in range(20):
        assert api.client.get(f"/made/up/{number}").status_code == 404
        api.client.request(f"ODD{number}", "/inbetween")
        api.client.get(f"/inbetween/job_{number}/video?take={number}")
    counted = samples(api)
    assert counted["requests_total", "none", "GET", "404"] == 20
    assert counted["request_seconds_count", "none", "GET"] == 20
    assert counted["request_seconds_count", "/inbetween/{job_id}/video", "GET"] == 20
    assert len({key[1:3] for key in counted}) <= 5, "routes and methods are few"
