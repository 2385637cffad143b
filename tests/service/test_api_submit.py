"""Asking for a video: both forms of the body, every way to name an image, and every refusal at the door."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
import structlog
from PIL import Image

from service.fleet import engines
from service.fleet.engines import Engine, EngineState
from service.jobs.options import Options, settings_of
from service.jobs.reconcile import erase_due
from service.jobs.record import State
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo
from trials.receiver import Receiver

ENGINE = Engine(
    id="e1",
    state=EngineState.ready,
    model="svd-xt",
    device="cuda",
    started_at=1.0,
    methods=("svd", "mpd-vibid"),
    native_frames=25,
    native_size=(1024, 576),
    size_multiple=64,
    max_frames=25,
    max_pixels=1024 * 576,
    seconds_per_call=0.01,
)


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def test_a_form_with_two_images_becomes_a_queued_job(api: Api) -> None:
    answer = api.post({"method": "flow", "frames": 9, "seed": 7, "formats": ["mp4", "gif"], "reference": "shot-1"})
    assert answer.status_code == 202
    view = answer.json()
    assert answer.headers["location"] == view["links"]["self"] == f"{api.url}/inbetween/{view['id']}"
    assert answer.headers["retry-after"] == "1"
    assert (view["state"], view["priority"], view["position"], view["attempt"]) == ("queued", "default", 0, 1)
    assert view["reference"] == "shot-1"
    assert view["options"]["seeds"] == [7]
    assert view["options"]["steps"] is None, "which is the model's own"
    job = api.jobs.get(view["id"])
    assert job is not None
    assert job.lane == "cpu"
    assert job.options["formats"] == ["mp4", "gif"]
    assert settings_of(job.options).frames == 9
    assert [api.storage.get(keyframe["key"]) for keyframe in job.keyframes] == [photo(), photo(colour="teal")]
    assert api.jobs.tickets.queue("cpu", "default").get_job_ids() == [job.ticket]


def test_a_form_with_a_timeline(api: Api) -> None:
    files = [("keyframes", (f"{i}.png", photo(colour=colour), "image/png")) for i, colour in enumerate(("red", "blue"))]
    data = {"at": ["0", "12"], "options": json.dumps({"method": "flow"})}
    answer = api.client.post("/inbetween", files=files, data=data)
    assert answer.status_code == 202, answer.text
    assert answer.json()["options"]["positions"] == [0, 12]
    assert [keyframe["frame"] for keyframe in answer.json()["keyframes"]] == [0, 12]


def test_json_with_data_uris_and_a_timeline_that_loops(api: Api) -> None:
    body = {
        "keyframes": [{"image": data_uri(photo()), "frame": 0}, {"image": data_uri(photo(32, 64)), "frame": 5}],
        "options": {"method": "flow", "loop": True, "loop_frame": 9},
    }
    answer = api.client.post("/inbetween", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["options"]["positions"] == [0, 5, 9]
    assert [(frame["width"], frame["height"]) for frame in answer.json()["keyframes"]] == [(64, 48), (32, 64)]


def test_json_with_urls(make_api: Make, receiver: Receiver) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1")
    receiver.answers = [(200, {"content-type": "image/png"}, photo())]
    url = f"{receiver.url}/a.png"
    answer = api.client.post("/inbetween", json={"start": url, "end": url, "options": {"method": "flow"}})
    assert answer.status_code == 202, answer.text
    assert len(receiver.received) == 2
    receiver.answers = [(404, {}, b"")]
    body = problem(api.client.post("/inbetween", json={"start": url, "end": url}), 422, "fetch-failed")
    assert body["field"] == "start"


@pytest.mark.parametrize("url", ["http://example.com/a.png", "https://127.0.0.1/a.png", "ftp://x/a", "a.png"])
def test_a_url_that_leads_inside_is_refused_by_its_field(api: Api, url: str) -> None:
    body = {"keyframes": [{"image": data_uri(photo())}, {"image": url}]}
    refused = problem(api.client.post("/inbetween", json=body), 422, "invalid-url")
    assert refused["field"] == "keyframes[1].image"


def test_an_upload_in_place_of_an_image(api: Api) -> None:
    data = photo()
    granted = api.client.post("/uploads", json={"content_type": "image/png", "size": len(data)})
    assert granted.status_code == 201, granted.text
    upload = granted.json()
    body = {"start": upload["image"], "end": data_uri(data), "options": {"method": "flow"}}
    assert problem(api.client.post("/inbetween", json=body), 422, "upload-not-found")["field"] == "start"
    short = api.client.request(upload["method"], upload["url"], headers=upload["headers"], content=data[:-1])
    problem(short, 422, "upload-mismatch")
    wrong = api.client.put(upload["url"], headers={"content-type": "text/plain"}, content=data)
    problem(wrong, 415, "unsupported-media-type")
    sent = api.client.request(upload["method"], upload["url"], headers=upload["headers"], content=data)
    assert sent.status_code == 200, sent.text
    assert api.client.post("/inbetween", json=body).status_code == 202
    problem(api.client.put(upload["url"] + "x", content=data), 403, "link-invalid")


def test_an_upload_that_streams_is_held_to_its_size(api: Api) -> None:
    upload = api.client.post("/uploads", json={"content_type": "image/png", "size": 10}).json()
    sent = 0

    def pieces(most: int, size: int) -> Iterator[bytes]:
        nonlocal sent
        for _ in range(most):
            sent += size
            yield b"x" * size

    for body in (pieces(1, 9), pieces(2, 8), pieces(5000, 10_000)):
        problem(api.client.put(upload["url"], headers=upload["headers"], content=body), 422, "upload-mismatch")
    assert sent < 50_000_000, "what comes after the size is not read"
    assert list(api.storage.list("uploads")) == []
    answer = api.client.put(upload["url"], headers=upload["headers"], content=pieces(2, 5))
    assert answer.status_code == 200


def test_an_upload_larger_than_an_image_may_be_is_refused(make_api: Make) -> None:
    api = make_api(max_image_bytes=2000)
    answer = api.client.post("/uploads", json={"content_type": "image/png", "size": 2001})
    assert problem(answer, 413, "image-too-large")["field"] == "size"


REFUSED_OPTIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"frames": 1}, "options.frames", "2 to 241"),
    ({"frames": "9"}, "options.frames", "whole number"),
    ({"frames": True}, "options.frames", "whole number"),
    ({"steps": 101}, "options.steps", "1 to 100"),
    ({"colour": "red"}, "options.colour", "Remove it"),
    ({"method": "magic"}, "options.method", "mpd-vibid"),
    ({"method": "vibid", "gamma": 0.5}, "options.gamma", "mpd-vibid"),
    ({"guidance": [1.0, 2.0]}, "options.guidance", "mpd-trf"),
    ({"seed": 1, "seeds": [1]}, "options.seed", "one of the two"),
    ({"seeds": [1, 1]}, "options.seeds", "once"),
    ({"seeds": [-1]}, "options.seeds[0]", "from 0"),
    ({"width": 64}, "options.height", "height"),
    ({"background": "red"}, "options.background", "#"),
    ({"formats": ["avi"]}, "options.formats[0]", "mp4"),
    ({"formats": []}, "options.formats", "at least 1"),
    ({"result_ttl": 1}, "options.result_ttl", "at least 60"),
    ({"webhook": {"url": "https://example.com", "secret": "x"}}, "options.webhook.secret", "url, events"),
    ({"webhook": {"url": "http://example.com"}}, "options.webhook.url", "https"),
    ({"reference": "x" * 201}, "options.reference", "200"),
    ({"loop_frame": 9}, "options.loop_frame", "loop"),
    ({"noise_aug_strength": 2}, "options.noise_aug_strength", "0 to 1"),
]


@pytest.mark.parametrize(("options", "field", "remedy"), REFUSED_OPTIONS, ids=[str(row[0]) for row in REFUSED_OPTIONS])
def test_an_option_that_cannot_be_used_is_refused_by_name(
    api: Api, options: dict[str, Any], field: str, remedy: str
) -> None:
    for answer in (
        api.post(options),
        api.client.post("/inbetween", json={"start": data_uri(photo()), "end": data_uri(photo()), "options": options}),
    ):
        assert answer.status_code == 422
        body = answer.json()
        assert body["field"] == field
        assert remedy in body["remedy"]
    assert api.jobs.queue_lengths()["gpu"]["default"] == 0


def test_every_faulty_field_is_listed(api: Api) -> None:
    body = problem(api.post({"frames": 0, "fps": 0, "x": 1}), 422, "invalid-request")
    assert [error["field"] for error in body["errors"]] == ["options.frames", "options.fps", "options.x"]
    assert all(error["remedy"] and error["detail"] for error in body["errors"])


def test_images_that_are_missing_or_named_twice(api: Api) -> None:
    image = data_uri(photo())
    for body, field in [
        ({}, "start"),
        ({"end": image}, "start"),
        ({"start": image}, "end"),
        ({"start": image, "keyframes": [{"image": image}]}, "keyframes"),
        ({"keyframes": []}, "keyframes"),
        ({"keyframes": [{"image": image, "frame": 0}, {"image": image}]}, "keyframes[1].frame"),
        ({"keyframes": [{"image": image, "frame": 3}, {"image": image, "frame": 3}]}, "keyframes"),
        ({"keyframes": [{"image": image, "at": 0}]}, "keyframes[0].at"),
        ({"start": image, "end": image, "finish": image}, "finish"),
        ({"start": 5, "end": image}, "start"),
    ]:
        assert problem(api.client.post("/inbetween", json=body), 422, "invalid-request")["field"] == field, body


def test_forms_that_cannot_be_used(api: Api) -> None:
    image = ("a.png", photo(), "image/png")
    cases: list[tuple[list[tuple[str, Any]], dict[str, Any], str]] = [
        ([("start", image), ("strat", image)], {}, "strat"),
        ([("start", image), ("start", image), ("end", image)], {}, "start"),
        ([("start", image), ("end", ("b.png", b"", "image/png"))], {}, "end"),
        ([("keyframes", image), ("keyframes", image)], {"at": ["0"]}, "at"),
        ([("keyframes", image), ("keyframes", image)], {"at": ["0", "x"]}, "at[1]"),
        ([("start", image), ("end", image)], {"options": ["{}", "{}"]}, "options"),
        ([("start", image), ("", image)], {}, "body"),
    ]
    for files, data, field in cases:
        answer = api.client.post("/inbetween", files=files, data=data)
        assert problem(answer, 422, "invalid-request")["field"] == field
    many = [("keyframes", image)] * 34
    assert problem(api.client.post("/inbetween", files=many), 422, "invalid-request")["field"] == "keyframes"
    problem(api.client.post("/inbetween", files=many * 2), 400, "malformed-body")


def test_bodies_that_cannot_be_read(api: Api) -> None:
    headers = {"content-type": "application/json"}
    for content in (b"", b"{", b"[1", b"\xff\xfe"):
        problem(api.client.post("/inbetween", content=content, headers=headers), 400, "malformed-body")
    answer = api.client.post("/inbetween", content=b'{"options": {"gamma": NaN}}', headers=headers)
    assert problem(answer, 422, "invalid-request")["field"] == "options.gamma"
    broken = {"content-type": "multipart/form-data"}
    problem(api.client.post("/inbetween", content=b"x", headers=broken), 400, "malformed-body")
    answer = api.client.post("/inbetween", files={"start": photo(), "end": photo()}, data={"options": "{frames}"})
    assert problem(answer, 400, "malformed-body")["field"] == "options"
    problem(api.client.post("/inbetween", content=b"a=b", headers={"content-type": "text/plain"}), 415, UNSUPPORTED)
    problem(api.client.post("/inbetween"), 415, UNSUPPORTED)


UNSUPPORTED = "unsupported-media-type"


@pytest.mark.parametrize("charset", ["utf-8", "undefined", "punycode", "rot13", "utf-16", "zlib", "no-such", "é", '"a'])
def test_a_form_is_utf_8_whatever_charset_it_names(api: Api, charset: str) -> None:
    """RFC 7578 knows no such parameter."""
    form = httpx.Request("POST", api.url, files={"start": photo(), "end": photo()}, data={"options": FLOW_SHOT})
    kind = form.headers["content-type"].encode() + b"; charset=" + charset.encode()
    answer = api.client.post("/inbetween", content=form.read(), headers={b"content-type": kind})
    assert answer.status_code == 202, answer.text
    assert answer.json()["reference"] == "Bäume"


FLOW_SHOT = json.dumps({"method": "flow", "reference": "Bäume"}, ensure_ascii=False)


@pytest.mark.parametrize("boundary", ["", "=", "=" + "b" * 71, '="a\\"b"', "*0=a"])
def test_a_boundary_that_is_none(api: Api, boundary: str) -> None:
    headers = {"content-type": f"multipart/form-data; boundary{boundary}"}
    problem(api.client.post("/inbetween", content=b"--b", headers=headers), 400, "malformed-body")


def test_a_long_text_of_a_form_is_ascii(api: Api) -> None:
    """Or one character would have Python hold four bytes for each."""
    files: dict[str, Any] = {"start": (None, "data:image/png;base64," + "A" * 70_000 + "😀"), "end": photo()}
    answer = api.client.post("/inbetween", files=files)
    assert "ASCII" in problem(answer, 400, "malformed-body")["detail"]


def test_pictures_that_lie_elsewhere_are_in_hand_one_at_a_time(
    make_api: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight of them take no more memory than one, and a refusal of the last leaves none of the first."""
    picture = photo() + bytes(900_000)
    receiver.answers = [(200, {"content-type": "image/png"}, picture)]
    api = make_api(fetch_allow_hosts=("127.0.0.1",), max_bodies_bytes=8_000_000)
    ledger, held = api.services.submission.pictures.ledger, []
    take = ledger.take

    def watched(owner: str, more: int) -> None:
        take(owner, more)
        held.append(ledger.held)

    monkeypatch.setattr(ledger, "take", watched)
    upload = api.client.post("/uploads", json={"content_type": "image/png", "size": len(picture)}).json()
    assert httpx.put(upload["url"], headers=upload["headers"], content=picture).status_code == 200
    images = [receiver.url, upload["image"]] * 3
    body = {"keyframes": [{"image": image} for image in images], "options": {"method": "flow"}}
    answer = api.client.post("/inbetween", json=body)
    assert answer.status_code == 202, answer.text
    again = [{"image": f"job:{answer.json()['id']}/0"}, {"image": data_uri(picture)}]
    assert api.client.post("/inbetween", json={**body, "keyframes": again}).status_code == 202
    assert len(picture) <= max(held) < len(picture) + 100
    assert ledger.held == 0
    job = api.jobs.get(answer.json()["id"])
    assert job is not None
    assert [api.storage.get(keyframe["key"]) for keyframe in job.keyframes] == [picture] * 6
    kept = len(list(api.storage.list("jobs")))
    broken = {**body, "keyframes": [*body["keyframes"], {"image": data_uri(b"none")}]}
    problem(api.client.post("/inbetween", json=broken), 422, "invalid-image")
    assert ledger.held == 0
    erase_due(api.jobs, api.storage)
    assert len(list(api.storage.list("jobs"))) == kept


def test_an_image_that_is_none_is_refused_by_its_field(api: Api) -> None:
    answer = api.client.post("/inbetween", files={"start": photo(), "end": b"GIF89a, or so it says"})
    assert problem(answer, 422, "invalid-image")["field"] == "end"
    body = {"keyframes": [{"image": data_uri(photo())}, {"image": "data:image/png;base64,!!"}]}
    answer = api.client.post("/inbetween", json=body)
    assert problem(answer, 422, "invalid-image")["field"] == "keyframes[1].image"
    assert list(api.storage.list("jobs")) == []


def test_a_body_that_is_too_large_is_refused_while_it_streams(make_api: Make) -> None:
    api = make_api(max_body_bytes=20_000)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 10_000
            yield b" " * 10_000

    headers = {"content-type": "application/json"}
    answer = api.client.post("/inbetween", content=b" " * 20_001, headers=headers)
    assert problem(answer, 413, "body-too-large")["limit"] == 20_000
    problem(api.client.post("/inbetween", content=endless(), headers=headers), 413, "body-too-large")
    assert sent < 50_000_000


def test_the_live_engines_decide_what_is_taken(api: Api) -> None:
    assert api.post({"method": "trf"}).status_code == 202, "with no engine known, a job waits for one"
    engines.publish(api.services.redis, api.settings, ENGINE)
    body = problem(api.post({"method": "trf"}), 422, "method-unavailable")
    assert body["field"] == "options.method"
    assert body["available"] == ["flow", "svd", "mpd-vibid"]
    assert problem(api.post({"frames": 26}), 422, "beyond-capacity")["field"] == "options.frames"
    big = problem(api.post({"width": 2048, "height": 1024}), 422, "beyond-capacity")
    assert (big["field"], big["limit"]) == ("options.width", 1024 * 576)
    odd = problem(api.post({"width": 1000, "height": 576}), 422, "beyond-capacity")
    assert (odd["field"], odd["remedy"]) == ("options.width", "Send 960 or 1024.")
    assert api.post({"method": "flow", "frames": 200}).status_code == 202
    assert api.post({"width": 512, "height": 320}).status_code == 202


def test_frames_that_a_gpus_memory_does_not_hold_are_refused(api: Api) -> None:
    roomy = replace(ENGINE, max_frames=241, max_pixels=2048 * 2048, max_volume=25 * 1024 * 576)
    engines.publish(api.services.redis, api.settings, roomy, ttl=600)
    assert api.post({"frames": 25}).status_code == 202
    long = problem(api.post({"frames": 26}), 422, "beyond-capacity")
    assert (long["field"], long["limit"]) == ("options.frames", 25)
    assert long["remedy"] == "At this size, ask for at most 25 frames a segment, or choose a smaller size."
    assert api.post({"frames": 100, "width": 512, "height": 256}).status_code == 202
    files, data = [("keyframes", photo()) for _ in range(3)], {"at": ["0", "10", "36"]}
    timeline = problem(api.client.post("/inbetween", files=files, data=data), 422, "beyond-capacity")
    assert (timeline["field"], timeline["limit"]) == ("keyframes", 25)
    engines.publish(api.services.redis, api.settings, replace(roomy, max_volume=1024 * 576), ttl=600)
    large = problem(api.post({"frames": 2}), 422, "beyond-capacity")
    assert (large["field"], large["limit"]) == ("options.width", 512 * 576)
    engines.publish(api.services.redis, api.settings, replace(roomy, id="e2"), ttl=600)
    assert api.post({"frames": 25}).status_code == 202, "another engine holds it"
    shown = {engine["id"]: engine["max_volume"] for engine in api.client.get("/methods").json()["engines"]}
    assert shown == {"e1": 1024 * 576, "e2": 25 * 1024 * 576}


def test_a_video_longer_than_a_worker_can_hold_is_refused(make_api: Make) -> None:
    api = make_api(max_video_pixels=1_000_000)
    body = problem(api.post({"method": "flow", "width": 1024, "height": 512, "frames": 9}), 422, "beyond-capacity")
    assert body["limit"] == 1


def test_a_flow_video_is_as_large_as_its_first_keyframe(make_api: Make) -> None:
    api = make_api(max_video_pixels=1_000_000)
    large = {"start": photo(200, 150), "end": photo()}
    data = {"options": json.dumps({"method": "flow", "frames": 40})}
    refused = problem(api.client.post("/inbetween", files=large, data=data), 422, "beyond-capacity")
    assert (refused["field"], refused["limit"]) == ("options.frames", 33)
    small = {"start": photo(), "end": photo(200, 150)}
    assert api.client.post("/inbetween", files=small, data=data).status_code == 202


@pytest.mark.parametrize("format", ["png16", "prores", "prores4444"])
def test_frames_of_16_bits_count_twice(make_api: Make, format: str) -> None:
    api = make_api(max_video_pixels=1_000_000)
    large = {"start": photo(200, 150), "end": photo()}
    for more, limit in (({"frames": 17}, 16), ({"frames": 9, "width": 512, "height": 256}, 3)):
        data = {"options": json.dumps({"method": "flow", "formats": ["mp4", format], **more})}
        refused = problem(api.client.post("/inbetween", files=large, data=data), 422, "beyond-capacity")
        assert refused["limit"] == limit
        assert "16 bits" in refused["detail"]
    data = {"options": json.dumps({"method": "flow", "formats": ["mp4", format], "frames": 16})}
    assert api.client.post("/inbetween", files=large, data=data).status_code == 202


def test_flow_takes_even_sizes_only(api: Api) -> None:
    refused = problem(api.post({"method": "flow", "width": 64, "height": 33}), 422, "beyond-capacity")
    assert (refused["field"], refused["remedy"]) == ("options.height", "Send 32 or 34.")


def test_a_null_is_as_good_as_nothing(api: Api) -> None:
    nulls = {name: None for name in Options.model_fields if name != "method"}
    assert api.submit({"method": "flow", **nulls})["options"] == api.submit({"method": "flow"})["options"]
    refused = problem(api.post({"metod": None}), 422, "invalid-request")
    assert refused["field"] == "options.metod"


def test_a_timeline_that_loops_must_say_when(api: Api) -> None:
    files = [("keyframes", photo()), ("keyframes", photo())]
    data = {"at": ["0", "4"], "options": json.dumps({"method": "flow", "loop": True})}
    refused = problem(api.client.post("/inbetween", files=files, data=data), 422, "invalid-request")
    assert refused["field"] == "options.loop_frame"


def test_a_data_uri_in_a_form_may_be_as_large_as_an_image(make_api: Make) -> None:
    api = make_api(max_image_bytes=3_000_000)
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    data = {"start": data_uri(buffer.getvalue()), "options": '{"method": "flow"}'}
    assert len(data["start"]) > 2 << 20
    files = {"end": photo()}
    assert api.client.post("/inbetween", files=files, data=data).status_code == 202
    data["start"] += "A" * 2_000_000
    refused = problem(api.client.post("/inbetween", files=files, data=data), 413, "body-too-large")
    assert refused["limit"] == 4_001_024


def test_the_same_request_with_an_idempotency_key_is_one_job(api: Api) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = api.post({"method": "flow"}, headers=headers)
    api.succeed(first.json()["id"])
    again = api.post({"method": "flow"}, headers=headers)
    assert first.status_code == again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(api.client.get("/inbetween").json()["jobs"]) == 1
    other = problem(api.post({"method": "flow", "seed": 1}, headers=headers), 422, "idempotency-key-reused")
    assert other["field"] == "Idempotency-Key"
    assert api.post({"method": "flow", "seed": 1}, headers={"Idempotency-Key": "d"}).status_code == 202


def test_the_same_images_in_another_form_are_the_same_request(api: Api) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = api.submit({"method": "flow"}, headers=headers)
    body = {"start": photo(), "end": photo(colour="teal")}
    files = {name: (f"other-{name}", data, "application/octet-stream") for name, data in body.items()}
    options = json.dumps({"seed": None, "method": "flow"})
    again = api.client.post("/inbetween", files=files, data={"options": options}, headers=headers)
    assert again.json()["id"] == first["id"]
    uris = {name: data_uri(data) for name, data in body.items()}
    again = api.client.post("/inbetween", json={**uris, "options": {"method": "flow"}}, headers=headers)
    assert again.json()["id"] == first["id"]


def test_a_refused_request_frees_its_idempotency_key(api: Api) -> None:
    headers = {"Idempotency-Key": "abc"}
    bad = api.client.post("/inbetween", files={"start": photo(), "end": b"nothing"}, headers=headers)
    problem(bad, 422, "invalid-image")
    assert api.post({"method": "flow"}, headers=headers).status_code == 202
    problem(api.post(headers={"Idempotency-Key": "x" * 256}), 422, "invalid-request")


def test_a_repeat_while_the_first_is_being_answered(make_api: Make, receiver: Receiver) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1")
    receiver.answers = [(200, {"content-type": "image/png"}, photo())]
    entered, leave = threading.Event(), threading.Event()
    take = receiver.take

    def slow(request: Any) -> Any:
        entered.set()
        assert leave.wait(30)
        return take(request)

    receiver.take = slow  # type: ignore[method-assign]
    body = {"start": receiver.url, "end": receiver.url, "options": {"method": "flow"}}
    headers = {"Idempotency-Key": "abc"}
    answers = []
    first = threading.Thread(target=lambda: answers.append(api.client.post("/inbetween", json=body, headers=headers)))
    first.start()
    assert entered.wait(30)
    again = api.client.post("/inbetween", json=body, headers=headers)
    assert problem(again, 409, "idempotency-in-flight")
    assert again.headers["retry-after"] == "1"
    leave.set()
    first.join(30)
    assert answers[0].status_code == 202
    assert api.client.post("/inbetween", json=body, headers=headers).json() == answers[0].json()


def test_many_at_once_with_one_idempotency_key_make_one_job(make_api: Make) -> None:
    """Sent to two API processes' worth of parts, all at the same moment."""
    apis = [make_api(), make_api()]
    for one in apis:
        # An app makes its routes at the first request, under a filter of warnings that all threads share.
        assert one.client.get("/inbetween").status_code == 200
    ready = threading.Barrier(8)
    answers: list[Any] = []

    def send(number: int) -> None:
        ready.wait(30)
        answers.append(apis[number % 2].post({"method": "flow"}, headers={"Idempotency-Key": "abc"}))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {answer.status_code for answer in answers} <= {202, 409}
    [made] = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert [job["id"] for job in apis[0].client.get("/inbetween").json()["jobs"]] == [made]


def test_an_answer_lost_in_a_crash_is_found_again_by_its_job(api: Api) -> None:
    """The process died between accepting the job and remembering its answer."""
    headers = {"Idempotency-Key": "abc"}
    first = api.submit({"method": "flow"}, headers=headers)
    [name] = api.services.redis.keys("*:idempotency:*")
    answer: Any = api.services.redis.get(name)
    record = json.loads(answer)
    del record["answer"]
    api.services.redis.set(name, json.dumps(record))
    assert api.submit({"method": "flow"}, headers=headers)["id"] == first["id"]
    api.jobs.delete(first["id"])
    assert api.submit({"method": "flow"}, headers=headers)["id"] != first["id"]


def test_images_of_a_request_whose_process_dies_are_found_by_the_keeper(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kills it, the files are written down for erasure before the first one is kept."""
    put, due = api.storage.put, []

    def watched(*arguments: Any) -> None:
        members: Any = api.services.redis.zrange(api.jobs.keys.erasures, 0, -1)
        due.append({member.decode() for member in members})
        put(*arguments)

    monkeypatch.setattr(api.storage, "put", watched)
    job = api.submit({"method": "flow"})
    assert due == [{job["id"]}] * 2
    assert api.services.redis.zcard(api.jobs.keys.erasures) == 0, "a job's files stay"


def test_a_trace_goes_with_the_job(api: Api) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job = api.jobs.get(api.submit({"method": "flow"}, headers={"traceparent": trace})["id"])
    assert job is not None
    assert job.traceparent == trace
    job = api.jobs.get(api.submit({"method": "flow"}, headers={"traceparent": "nonsense"})["id"])
    assert job is not None
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", job.traceparent or ""), "one of our own, recorded nowhere"


def test_the_log_names_the_job_and_the_request(api: Api) -> None:
    async def post() -> httpx.Response:
        # In this process, the answer comes back only after the last line is logged.
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://localhost") as client:
            files = {"start": photo(), "end": photo()}
            headers = {"X-Request-ID": "r-1"}
            return await client.post("/inbetween", files=files, data={"options": '{"method":"flow"}'}, headers=headers)

    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = anyio.run(post)
    assert answer.headers["x-request-id"] == "r-1"
    [submitted] = [line for line in lines if line["event"] == "job queued"]
    assert submitted["job"] == answer.json()["id"]
    assert submitted["request"] == "r-1"
    assert (submitted["verb"], submitted["attempt"], submitted["method"]) == ("submit", 1, "flow")
    [request] = [line for line in lines if line["event"] == "request"]
    assert (request["method"], request["path"], request["status"]) == ("POST", "/inbetween", 202)
    assert request["trace"] == submitted["trace"]
    assert re.fullmatch("[0-9a-f]{32}", request["trace"])


def test_the_default_is_the_default_everywhere(api: Api) -> None:
    job = api.jobs.get(api.submit()["id"])
    assert job is not None
    assert job.options["method"] == "mpd-vibid"
    assert (job.lane, job.priority, job.state) == ("gpu", "default", State.queued)
    assert job.result_ttl == api.settings.result_ttl


SUITS = {
    "a base model": ([ENGINE], "mpd-vibid"),
    "the model that ships": ([replace(ENGINE, default_method="flow")], "flow"),
    "the model that ships, starting": (
        [replace(ENGINE, state=EngineState.starting, default_method="flow")],
        "flow",
    ),
    "both": ([ENGINE, replace(ENGINE, id="e2", default_method="flow")], "mpd-vibid"),
    "a card of another version": ([replace(ENGINE, default_method="dreams")], "mpd-vibid"),
    "none": ([], "mpd-vibid"),
}


@pytest.mark.parametrize("models", SUITS)
def test_a_request_that_names_no_method_gets_what_suits_the_models(api: Api, models: str) -> None:
    live, method = SUITS[models]
    for engine in live:
        engines.publish(api.services.redis, api.settings, engine)
    assert api.client.get("/methods").json()["default"] == method
    assert api.submit()["options"]["method"] == method
    assert api.submit({"method": None})["options"]["method"] == method
    assert api.submit({"method": "svd"})["options"]["method"] == "svd", "who names one has it"
    video = api.client.post("/v1/videos", json={"input_reference": data_uri(photo()), "end": data_uri(photo())})
    assert video.json()["model"] == method
    estimated = api.client.post("/inbetween/estimate", files={"start": photo(), "end": photo()}).json()
    assert (estimated["cost"]["gpu_seconds"] == 0) is (method == "flow")


def test_a_request_repeated_after_the_models_have_changed_is_the_same(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.post(headers=headers).json()
    engines.publish(api.services.redis, api.settings, replace(ENGINE, default_method="flow"))
    again = api.post(headers=headers)
    assert (again.status_code, again.json()["id"], again.headers["idempotent-replayed"]) == (202, first["id"], "true")


def test_an_option_that_the_default_does_not_have_is_refused(api: Api) -> None:
    engines.publish(api.services.redis, api.settings, replace(ENGINE, default_method="flow"))
    assert problem(api.post({"gamma": 0.5}), 422, "invalid-request")["field"] == "options.gamma"
    estimated = api.client.post(
        "/inbetween/estimate", files={"start": photo(), "end": photo()}, data={"options": '{"gamma": 0.5}'}
    ).json()
    assert [refusal["field"] for refusal in estimated["refusals"]] == ["options.gamma"]
