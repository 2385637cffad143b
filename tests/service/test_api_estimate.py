"""Estimates: the same checks as a submission, with nothing queued, and figures only where something was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mpd import flow
from mpd.schedule import Schedule, early_level
from service.fleet import engines
from tests.service.conftest import Api, problem
from tests.service.test_api_submit import ENGINE
from trials.pictures import photo

CALLS = 65
"""Denoiser calls of mpd-vibid at its 25 steps."""


def ask(api: Api, options: dict[str, Any] | None = None, end: bytes | None = None) -> dict[str, Any]:
    files = {"start": photo(), "end": photo() if end is None else end}
    answer = api.client.post("/inbetween/estimate", files=files, data={"options": json.dumps(options or {})})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_without_an_engine_there_are_steps_and_no_seconds(api: Api) -> None:
    estimate = ask(api)
    assert estimate["accepted"]
    assert estimate["refusals"] == []
    cost, queue = estimate["cost"], estimate["queue"]
    assert (cost["steps"], cost["denoiser_calls"], cost["gpu_seconds"], cost["frames"]) == (25, CALLS, None, None)
    assert "No engine" in cost["reason"]
    assert (queue["ahead"], queue["engines"], queue["wait_seconds"]) == (0, 0, None)
    assert api.client.get("/inbetween").json()["jobs"] == []
    assert list(api.storage.list("jobs")) == []


def test_seconds_come_from_what_the_engine_measured(api: Api) -> None:
    engines.publish(api.services.redis, api.settings, ENGINE)
    cost = ask(api, {"seeds": [1, 2], "frames": 14})["cost"]
    seconds = 2 * CALLS * 0.01 * (1024 * 576 / 1e6) * 14
    assert (cost["steps"], cost["denoiser_calls"], cost["frames"]) == (50, 2 * CALLS, 14)
    assert cost["gpu_seconds"] == pytest.approx(seconds, abs=0.001)
    assert cost["reason"] is None
    small = ask(api, {"width": 512, "height": 256, "frames": 14})["cost"]
    assert small["gpu_seconds"] == pytest.approx(seconds / 2 * (512 * 256) / (1024 * 576), abs=0.001)
    engines.publish(api.services.redis, api.settings, replace(ENGINE, seconds_per_call=None))
    cost = ask(api)["cost"]
    assert cost["gpu_seconds"] is None
    assert "measured" in cost["reason"]


def test_flow_says_how_many_frames_it_makes(api: Api) -> None:
    assert ask(api, {"method": "flow"})["cost"]["frames"] == flow.FLOW_FRAMES
    assert ask(api, {"method": "flow", "loop": True, "frames": 5})["cost"]["frames"] == 8


def test_a_timeline_is_counted_by_its_segments(api: Api) -> None:
    engines.publish(api.services.redis, api.settings, ENGINE)
    files = [("keyframes", photo()) for _ in range(3)]
    data = {"at": ["0", "10", "30"], "options": '{"method": "svd"}'}
    engines.publish(api.services.redis, api.settings, replace(ENGINE, max_frames=None))
    cost = api.client.post("/inbetween/estimate", files=files, data=data).json()["cost"]
    assert (cost["steps"], cost["denoiser_calls"], cost["frames"]) == (50, 50, 31)
    assert cost["gpu_seconds"] == pytest.approx(25 * 0.01 * (1024 * 576 / 1e6) * (11 + 21), abs=0.001)


def test_keyframes_that_are_sampled_as_one_cost_one(api: Api) -> None:
    engine = replace(ENGINE, methods=(*ENGINE.methods, "mpd"))
    engines.publish(api.services.redis, api.settings, engine)

    def cost(**options: Any) -> Any:
        files = [("keyframes", photo()) for _ in range(4)]
        data = {"options": json.dumps({"method": "mpd", **options})}
        return api.client.post("/inbetween/estimate", files=files, data=data).raise_for_status().json()["cost"]

    per_frame = 25 * 0.01 * (1024 * 576 / 1e6)
    joint, alone = cost(), cost(segments="alone", frames=9)
    assert (joint["groups"], joint["frames"], joint["denoiser_calls"]) == ([[0, 1, 2, 3]], 25, 25)
    assert joint["gpu_seconds"] == pytest.approx(per_frame * 25, abs=0.001)
    assert (alone["groups"], alone["frames"], alone["denoiser_calls"]) == ([[0, 1], [1, 2], [2, 3]], 25, 75)
    assert alone["gpu_seconds"] == pytest.approx(per_frame * 27, abs=0.001)
    engines.publish(
        api.services.redis,
        api.settings,
        replace(ENGINE, methods=(*ENGINE.methods, "mpd"), max_volume=20 * 1024 * 576),
    )
    assert cost(frames=9)["groups"] == [[0, 1, 2], [2, 3]], "what the memory holds"


def test_steps_that_are_left_open_are_the_models_own_and_early_ones_by_its_noise(api: Api) -> None:
    schedule = Schedule(0.002, 700.0, own_steps=15, own_sigma_max=40.0)
    small = replace(ENGINE, schedule=schedule, latent_share=4 / 64, native_size=(64, 64), native_frames=12)
    engines.publish(api.services.redis, api.settings, small)
    cost = ask(api)["cost"]
    assert (cost["steps"], cost["denoiser_calls"]) == (15, 2 * 15 + 3 * 3)
    assert ask(api, {"steps": 25})["cost"]["denoiser_calls"] == CALLS
    numbers = 12 * 4 * 8 * 8
    early = sum(sigma > early_level(0.2, numbers) for sigma in schedule.sigmas(25)[:-1])
    assert early > 5
    assert ask(api, {"steps": 25, "gamma_in": "noise"})["cost"]["denoiser_calls"] == 50 + 3 * early
    engines.publish(api.services.redis, api.settings, replace(small, schedule=None, latent_share=None))
    assert ask(api, {"gamma_in": "noise"})["cost"]["denoiser_calls"] == CALLS, "as SVD-XT, where it does not say"


def test_auto_is_refused_where_no_model_is_calibrated(api: Api) -> None:
    for calibrated, accepted in ((False, False), (True, True), (None, True)):
        engines.publish(api.services.redis, api.settings, replace(ENGINE, calibrated=calibrated))
        estimate = ask(api, {"motion_bucket_id": "auto"})
        assert estimate["accepted"] == accepted
        if not accepted:
            [refusal] = estimate["refusals"]
            assert (refusal["field"], refusal["type"]) == ("options.motion_bucket_id", "/problems/beyond-capacity")
            assert "127" in refusal["remedy"]
        assert ask(api)["accepted"]


def test_the_wait_is_the_work_ahead(api: Api) -> None:
    engines.publish(api.services.redis, api.settings, ENGINE)
    one = ask(api)["cost"]["gpu_seconds"]
    first = api.submit()
    api.submit({"priority": "high"})
    api.submit({"priority": "low"})
    queue = ask(api)["queue"]
    assert (queue["lane"], queue["ahead"], queue["engines"]) == ("gpu", 2, 1)
    assert queue["wait_seconds"] == pytest.approx(2 * one, abs=0.1)
    assert ask(api, {"priority": "high"})["queue"]["ahead"] == 1
    assert ask(api, {"priority": "low"})["queue"]["ahead"] == 3
    job = api.start(first["id"])
    api.jobs.progress(job.id, job.attempt, {"fraction": 0.75})
    queue = ask(api)["queue"]
    assert (queue["ahead"], queue["running"]) == (1, 1)
    api.start(api.submit({"method": "flow"})["id"])
    assert ask(api)["queue"]["running"] == 1, "the CPU's jobs run elsewhere"
    assert queue["wait_seconds"] == pytest.approx(1.25 * one, abs=0.1)
    engines.publish(api.services.redis, api.settings, replace(ENGINE, id="e2"))
    assert ask(api)["queue"]["wait_seconds"] == pytest.approx(1.25 / 2 * one, abs=0.1)


def test_flow_costs_no_gpu(api: Api) -> None:
    estimate = ask(api, {"method": "flow", "frames": 9})
    assert (estimate["cost"]["gpu_seconds"], estimate["cost"]["frames"]) == (0.0, 9)
    assert (estimate["queue"]["lane"], estimate["queue"]["wait_seconds"]) == ("cpu", 0.0)
    api.submit({"method": "flow"})
    assert ask(api, {"method": "flow"})["queue"]["wait_seconds"] is None


def test_everything_that_would_be_refused_is_listed(api: Api) -> None:
    engines.publish(api.services.redis, api.settings, ENGINE)
    options = {"method": "trf", "webhook": {"url": "http://example.com"}}
    estimate = ask(api, options, end=b"no image")
    assert not estimate["accepted"]
    assert [refusal["type"].rpartition("/")[2] for refusal in estimate["refusals"]] == [
        "invalid-url",
        "method-unavailable",
        "invalid-image",
    ]
    assert [refusal["field"] for refusal in estimate["refusals"]] == ["options.webhook.url", "options.method", "end"]
    assert estimate["cost"]["denoiser_calls"] == 50
    unreadable = ask(api, {"frames": 0, "x": 1})
    assert (unreadable["accepted"], unreadable["cost"], unreadable["queue"]) == (False, None, None)
    assert [error["field"] for error in unreadable["refusals"][0]["errors"]] == ["options.frames", "options.x"]


def test_a_body_that_is_none_is_an_error_here_too(api: Api) -> None:
    headers = {"content-type": "application/json"}
    problem(api.client.post("/inbetween/estimate", content=b"{", headers=headers), 400, "malformed-body")
    problem(api.client.post("/inbetween/estimate"), 415, "unsupported-media-type")
