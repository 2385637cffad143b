"""Engines that hold the learned interpolator alone, at the door: what is taken, estimated and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mpd.methods import Settings
from service.fleet import engines
from service.fleet.engines import Engine, EngineState
from service.jobs import capacity
from service.problems import Problem
from service.settings import ServiceSettings
from tests.service.conftest import Api, Make, problem
from tests.service.test_api_estimate import ask
from tests.service.test_api_submit import ENGINE

INTERPOLATOR = Engine("i1", EngineState.ready, "", "cpu", 0.0, methods=("rife",))
BOTH = replace(ENGINE, id="b1", methods=("rife", *ENGINE.methods))
SERVICE = ServiceSettings(_env_file=None)
RIFE = Settings(method="rife")


def put(api: Api, *live: Engine) -> None:
    for engine in live:
        engines.publish(api.services.redis, api.settings, engine, ttl=600)


def test_where_no_live_engine_has_it_rife_is_refused(api: Api) -> None:
    put(api, ENGINE)
    refused = problem(api.post({"method": "rife"}), 422, "method-unavailable")
    assert (refused["field"], refused["available"]) == ("options.method", ["flow", "svd", "mpd-vibid"])
    put(api, INTERPOLATOR)
    assert api.post({"method": "rife"}).status_code == 202


@pytest.mark.parametrize("state", [EngineState.starting, EngineState.failed])
def test_where_none_is_ready_it_waits(api: Api, state: EngineState) -> None:
    put(api, replace(INTERPOLATOR, state=state))
    job = api.submit({"method": "rife"})
    assert job["state"] == "queued"
    record = api.jobs.get(job["id"])
    assert record is not None
    assert record.lane == "cpu"


def test_a_base_models_limits_are_not_its(api: Api) -> None:
    put(api, BOTH)
    wide = {"method": "rife", "width": 1026, "height": 770, "frames": 100}
    assert api.post(wide).status_code == 202
    problem(api.post({"frames": 26}), 422, "beyond-capacity")
    odd = problem(api.post({"method": "rife", "width": 64, "height": 33}), 422, "beyond-capacity")
    assert odd["field"] == "options.height"


def test_a_model_s_method_waits_where_interpolators_alone_are_ready(api: Api) -> None:
    put(api, INTERPOLATOR)
    assert api.post({"method": "mpd"}).status_code == 202
    shown = {one["name"]: one["available"] for one in api.client.get("/methods").json()["methods"]}
    assert (shown["flow"], shown["rife"], shown["mpd"]) == (True, True, None)
    queue = ask(api, {"method": "mpd"})["queue"]
    assert (queue["lane"], queue["engines"], queue["wait_seconds"]) == ("gpu", 0, None)


@pytest.mark.parametrize(
    ("live", "method"),
    [
        ([INTERPOLATOR], "mpd-vibid"),
        ([INTERPOLATOR, replace(ENGINE, default_method="flow")], "flow"),
        ([replace(INTERPOLATOR, default_method="rife"), ENGINE], "mpd-vibid"),
    ],
)
def test_it_has_no_word_in_the_default_method(live: Sequence[Engine], method: str) -> None:
    assert capacity.default_method(live) == method


def test_who_else_can_do_it(api: Api) -> None:
    fleet = [ENGINE, INTERPOLATOR, BOTH, replace(INTERPOLATOR, id="i2", state=EngineState.starting)]
    assert capacity.others(RIFE, 2, fleet, but=()) == [INTERPOLATOR, BOTH]
    assert capacity.others(RIFE, 2, fleet, but={"i1", "b1"}) == []
    assert capacity.others(Settings(method="svd"), 2, fleet, but={"e1"}) == [BOTH]
    with pytest.raises(Problem):
        capacity.check(RIFE, 2, [ENGINE], SERVICE)


def test_the_estimate_knows_its_frames_and_costs_no_gpu_seconds(api: Api) -> None:
    put(api, BOTH, INTERPOLATOR)
    estimate = ask(api, {"method": "rife", "seeds": [1, 2]})
    cost, queue = estimate["cost"], estimate["queue"]
    assert (cost["steps"], cost["denoiser_calls"], cost["frames"], cost["gpu_seconds"]) == (0, 0, 25, 0.0)
    assert cost["reason"] == "rife uses no base model: it costs no GPU-seconds."
    assert (estimate["accepted"], queue["lane"], queue["wait_seconds"]) == (True, "cpu", 0.0)


def test_the_wait_for_a_gpu_is_that_for_engines_of_a_model(api: Api) -> None:
    put(api, ENGINE)
    api.submit()
    alone = ask(api)["queue"]
    assert alone["wait_seconds"] > 0
    put(api, replace(INTERPOLATOR, id="a0"))  # before the other, by its name
    assert ask(api)["queue"] == alone


def test_engines_without_a_model_are_counted_apart(api: Api) -> None:
    put(api, ENGINE, replace(ENGINE, id="e2", busy_with="job_1-1"), INTERPOLATOR)
    put(api, replace(INTERPOLATOR, id="i2", state=EngineState.failed))
    families = text_string_to_metric_families(api.client.get("/metrics").text)
    counted = {
        family.name: {one.labels["state"]: one.value for one in family.samples}
        for family in families
        if family.name in ("inbetween_workers", "inbetween_interpolators")
    }
    assert counted == {
        "inbetween_workers": {"starting": 0, "idle": 1, "busy": 1, "failed": 0},
        "inbetween_interpolators": {"starting": 0, "idle": 1, "busy": 0, "failed": 1},
    }


@pytest.mark.parametrize(
    ("beside", "there"),
    [
        ([], False),
        ([INTERPOLATOR], False),
        ([replace(BOTH, state=EngineState.failed)], False),
        ([replace(BOTH, state=EngineState.starting)], True),
    ],
)
def test_an_interpolator_keeps_no_other_model_from_being_served(beside: Sequence[Engine], there: bool) -> None:
    assert engines.has_others([ENGINE, *beside], but=ENGINE.id) is there


def test_another_rate_of_sampled_frames_wants_an_interpolator_beside_the_model(api: Api) -> None:
    put(api, ENGINE)
    refused = problem(api.post({"method": "svd", "output_fps": 24}), 422, "beyond-capacity")
    assert refused["field"] == "options.output_fps"
    assert "Leave output_fps out" in refused["remedy"]
    assert api.post({"method": "svd", "output_fps": 7}).status_code == 202, "which is the rate that it has"
    assert api.post({"method": "flow", "output_fps": 24}).status_code == 202, "which makes its frames at any time"
    put(api, BOTH)
    assert api.post({"method": "svd", "output_fps": 24}).status_code == 202


def test_an_estimate_counts_the_finished_video_s_frames(api: Api) -> None:
    assert ask(api, {"method": "flow", "frames": 25, "output_fps": 24})["cost"]["frames"] == 83
    assert ask(api, {"method": "flow", "frames": 25})["cost"]["frames"] == 25


def test_a_rate_with_no_frame_for_a_keyframe_is_refused_at_its_field(api: Api) -> None:
    refused = problem(api.post({"method": "flow", "fps": 60, "output_fps": 1, "frames": 4}), 422, "invalid-request")
    assert refused["errors"][0]["field"] == "options.output_fps"
    assert "Ask for at least 20" in refused["errors"][0]["remedy"]


def test_a_video_too_long_at_its_rate_is_refused(make_api: Make) -> None:
    api = make_api(max_video_pixels=1_000_000)
    size = {"method": "flow", "width": 100, "height": 100, "frames": 61}
    assert api.post(size).status_code == 202
    refused = problem(api.post({**size, "output_fps": 60}), 422, "beyond-capacity")
    assert refused["limit"] == 100
