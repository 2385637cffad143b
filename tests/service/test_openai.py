"""`/v1/videos`: what a tool that speaks OpenAI's API sends and gets, and that it is the same job underneath."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from service.auth import Scope
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo

KEYS = {
    "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt", "seconds",
    "size", "remixed_from_video_id", "error",
}  # fmt: skip


def uri(**about: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(photo(**about)).decode()


def create(api: Api, files: list[tuple[str, Any]] | None = None, **fields: str) -> httpx.Response:
    both = [("input_reference", ("a.png", photo(), "image/png")), ("end", ("b.png", photo(colour="teal"), "image/png"))]
    return api.client.post("/v1/videos", data={"model": "flow", **fields}, files=both if files is None else files)


def test_a_form_as_their_client_sends_it_becomes_a_job(api: Api) -> None:
    made = create(api, prompt="a cat turns round", seconds="4", size="640x360").json()
    assert set(made) == KEYS
    assert (made["object"], made["status"], made["progress"], made["model"]) == ("video", "queued", 0, "flow")
    assert (made["prompt"], made["size"], made["error"]) == ("a cat turns round", "640x360", None)
    job = api.jobs.get(made["id"])
    assert job is not None
    options = job.options
    assert (options["method"], options["width"], options["height"]) == ("flow", 640, 360)
    assert (options["positions"], options["fps"], options["formats"]) == ([0, 27], 7, ["mp4"])
    assert options["reference"] == "a cat turns round"
    assert api.storage.get(job.keyframes[0]["key"]) == photo()
    assert api.storage.get(job.keyframes[1]["key"]) == photo(colour="teal")
    assert made["created_at"] == int(job.created_at)


def test_several_references_are_keyframes_spread_over_the_time(api: Api) -> None:
    files = [("input_reference[]", (f"{n}.png", photo(colour=colour), "image/png")) for n, colour in enumerate(
        ("navy", "teal", "olive"))]  # fmt: skip
    made = create(api, files, seconds="2", fps="10", seed="5").json()
    job = api.jobs.get(made["id"])
    assert job is not None
    assert (job.options["positions"], job.options["seeds"], job.options["fps"]) == ([0, 10, 19], [5], 10)


@pytest.mark.parametrize(
    "images",
    [
        {"input_reference": uri(), "end": uri(colour="teal")},
        {"input_reference": {"image_url": uri()}, "end": {"image_url": uri(colour="teal")}},
        {"input_reference": [uri(), {"image_url": uri(colour="teal")}]},
    ],
)
def test_json(api: Api, images: dict[str, Any]) -> None:
    answer = api.client.post("/v1/videos", json={"prompt": "p", "model": "flow", "seconds": "1", **images})
    assert answer.status_code == 200, answer.text
    job = api.jobs.get(answer.json()["id"])
    assert job is not None
    assert [api.storage.get(keyframe["key"]) for keyframe in job.keyframes] == [photo(), photo(colour="teal")]
    assert job.options["positions"] == [0, 6]


def test_an_upload_is_a_file_id(api: Api) -> None:
    upload = api.client.post("/uploads", json={"content_type": "image/png", "size": len(photo())}).json()
    api.client.put(upload["url"], headers=upload["headers"], content=photo()).raise_for_status()
    body = {"model": "flow", "input_reference": [{"file_id": upload["image"]}, {"file_id": upload["image"]}]}
    assert api.client.post("/v1/videos", json=body).json()["status"] == "queued"


def test_a_method_that_needs_one_keyframe_takes_one(api: Api) -> None:
    made = api.client.post("/v1/videos", json={"model": "svd", "seconds": 2, "input_reference": uri()}).json()
    job = api.jobs.get(made["id"])
    assert job is not None
    assert (job.options["frames"], "positions" in job.options) == (14, False)


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"model": "sora-2"}, "model"),
    ({"size": "big"}, "size"),
    ({"size": "16x16"}, "size"),
    ({"size": "641x360"}, "options.width"),  # found later, by what every job is checked by
    ({"seconds": "soon"}, "seconds"),
    ({"seconds": "0"}, "seconds"),
    ({"seconds": "300"}, "seconds"),
    ({"fps": "x"}, "fps"),
    ({"fps": "600"}, "fps"),
    ({"seed": "-1"}, "seed"),
    ({"quality": "high"}, "quality"),
    ({"": "nameless"}, "body"),
]


@pytest.mark.parametrize(("fields", "field"), REFUSED)
def test_what_cannot_be_is_refused_by_the_name_it_was_sent_under(api: Api, fields: dict[str, Any], field: str) -> None:
    answer = create(api, **fields)
    assert answer.status_code == 422, answer.text
    body = answer.json()
    assert body["field"] == field
    assert body["remedy"]
    code = body["type"].removeprefix("/problems/")
    error = {"message": body["detail"], "type": "invalid_request_error", "param": field, "code": code}
    assert body["error"] == error


def test_images_that_are_missing_or_too_few(api: Api) -> None:
    only_end = [("end", ("b.png", photo(), "image/png"))]
    for files in (only_end, [("input_reference", ("a.png", b"", "image/png"))]):
        assert problem(create(api, files), 422, "invalid-request")["field"] == "input_reference"
    one = [("input_reference", ("a.png", photo(), "image/png"))]
    assert problem(create(api, one), 422, "invalid-request")["field"] == "input_reference"
    wrong: list[dict[str, Any]] = [{}, {"input_reference": {}}, {"input_reference": []}, {"input_reference": 5}]
    for images in wrong:
        answer = api.client.post("/v1/videos", json={"model": "flow", **images})
        assert problem(answer, 422, "invalid-request")["field"].startswith("input_reference")
    broken = api.client.post("/v1/videos", content=b"{", headers={"content-type": "application/json"})
    assert problem(broken, 400, "malformed-body")["error"]["code"] == "malformed-body"
    problem(api.client.post("/v1/videos", content=b"x"), 415, "unsupported-media-type")


def test_from_queued_to_completed_and_its_content(api: Api) -> None:
    made = create(api).json()
    path = f"/v1/videos/{made['id']}"
    assert (
        problem(api.client.get(f"{path}/content"), 409, "job-not-finished")["error"]["type"] == "invalid_request_error"
    )
    job = api.start(made["id"])
    api.jobs.progress(job.id, job.attempt, {"stage": "sampling", "fraction": 0.427})
    assert api.client.get(path).json().items() >= {"status": "in_progress", "progress": 42}.items()
    done = api.jobs.succeed(job.id, job.attempt, api.store(job))
    video = api.client.get(path).json()
    assert (video["status"], video["progress"], video["size"], video["seconds"]) == (
        "completed", 100, "64x48", f"{3 / 7:g}")  # fmt: skip
    assert done.finished_at is not None
    assert (video["completed_at"], video["expires_at"]) == (int(done.finished_at), int(done.expires_at or 0))
    found = {}
    for variant in ("video", "thumbnail", "spritesheet"):
        answer = api.client.get(f"{path}/content", params={"variant": variant}, follow_redirects=True)
        found[variant] = (answer.status_code, answer.headers["content-type"], answer.content)
    assert found["video"] == (200, "video/mp4", bytes(range(256)) * 8)
    assert found["thumbnail"] == found["spritesheet"] == (200, "image/jpeg", photo(format="JPEG"))


def test_the_ends_they_do_not_know_are_failures(api: Api) -> None:
    canceled, failed = create(api).json()["id"], create(api).json()["id"]
    api.client.post(f"/inbetween/{canceled}/cancel")
    job = api.start(failed)
    api.jobs.fail(
        job.id, job.attempt, {"type": "/problems/invalid-image", "title": "t", "status": 422, "detail": "d"}, False
    )
    for job_id, error in ((canceled, {"code": "canceled", "message": "The job was canceled."}), (
        failed, {"code": "invalid-image", "message": "d"})):  # fmt: skip
        assert api.client.get(f"/v1/videos/{job_id}").json().items() >= {"status": "failed", "error": error}.items()


def test_the_list_has_every_job_of_the_owner_page_by_page(api: Api) -> None:
    ids = [create(api).json()["id"], api.submit({"method": "flow"})["id"], create(api).json()["id"]][::-1]
    first = api.client.get("/v1/videos", params={"limit": 2}).json()
    assert (first["object"], [video["id"] for video in first["data"]], first["has_more"]) == ("list", ids[:2], True)
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])
    rest = api.client.get("/v1/videos", params={"limit": 2, "after": first["last_id"]}).json()
    assert ([video["id"] for video in rest["data"]], rest["has_more"]) == (ids[2:], False)
    problem(api.client.get("/v1/videos", params={"order": "asc"}), 422, "invalid-request")


def test_deleting(api: Api) -> None:
    made = create(api).json()
    answer = api.client.delete(f"/v1/videos/{made['id']}")
    assert answer.json() == {"id": made["id"], "object": "video.deleted", "deleted": True}
    assert problem(api.client.get(f"/v1/videos/{made['id']}"), 404, "job-not-found")["error"]["code"] == "job-not-found"
    assert api.jobs.get(made["id"]) is None


def test_keys_scopes_and_repeats_are_those_of_every_route(make_api: Make) -> None:
    api = make_api(auth="keys")
    assert problem(create(api), 401, "unauthorized")["error"]["code"] == "unauthorized"
    _, reader = api.services.keys.create("ann", [Scope.read])
    api.client.headers["Authorization"] = f"Bearer {reader}"
    problem(create(api), 403, "forbidden")
    _, writer = api.services.keys.create("ann", [Scope.read, Scope.submit])
    api.client.headers.update({"Authorization": f"Bearer {writer}", "Idempotency-Key": "once"})
    assert create(api).json()["id"] == create(api).json()["id"]
