"""`metadata.json`, posted back as it is, makes the same video; keyframes are named by the job that has them."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.auth import Scope
from service.jobs import replay
from service.jobs.options import InbetweenRequest
from service.jobs.record import Job, State
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo
from worker import tasks
from worker.task.lease import Lease


def cutout(x: int) -> bytes:
    y, at_x = np.mgrid[0:48, 0:64]
    disc = np.clip(16 - np.hypot(at_x - x, y - 24), 0, 1) * 255
    colour = np.dstack([at_x * 3, y * 4, 255 - at_x * 3, disc]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(colour).save(file, "PNG")
    return file.getvalue()


def work(api: Api, job_id: str) -> Job:
    """What a work-horse does with the job."""
    job = api.start(job_id)
    with Lease(api.jobs, job.id, job.attempt) as lease:
        tasks.settle(job, api.jobs, lease)
    done = api.jobs.get(job_id)
    assert done is not None
    return done


def files_of(api: Api, job: Job) -> dict[str, str]:
    """Hashes by name, but for what says when the video was made."""
    assert job.result is not None, job.error
    return {file["name"]: file["sha256"] for file in job.result["files"] if file["name"] != "metadata.json"}


def get(api: Api, job: Job, name: str) -> bytes:
    answer = api.client.get(f"/inbetween/{job.id}/files/{name}", follow_redirects=True)
    assert answer.status_code == 200
    return answer.content


TIMELINE = {"method": "flow", "loop": True, "loop_frame": 9, "seeds": [3, 4], "fps": 12, "background": "#204060"}


@pytest.mark.parametrize(
    ("options", "at"),
    [
        (
            {"method": "flow", "frames": 4, "formats": ["png16", "apng", "prores4444", "mp4"], "exact_keyframes": True},
            None,
        ),
        ({**TIMELINE, "formats": ["gif"], "reference": "shot-7"}, ["0", "3"]),
    ],
)
def test_metadata_posted_back_makes_the_same_video(api: Api, options: dict[str, Any], at: list[str] | None) -> None:
    files = [("keyframes", (f"{n}.png", cutout(20 + 12 * n), "image/png")) for n in range(2)]
    fields = {"options": json.dumps(options), **({"at": at} if at else {})}
    made = api.client.post("/inbetween", files=files, data=fields)
    assert made.status_code == 202, made.text
    first = work(api, made.json()["id"])
    assert first.state is State.succeeded, first.error
    metadata = get(api, first, "metadata.json")
    InbetweenRequest.model_validate_json(metadata)
    headers = {"content-type": "application/json"}
    repeated = api.client.post("/inbetween", content=metadata, headers=headers)
    assert repeated.status_code == 202, repeated.text
    second = work(api, repeated.json()["id"])
    assert second.id != first.id
    assert second.options == first.options
    assert files_of(api, second) == files_of(api, first)
    facts = json.loads(metadata)["result"]
    assert facts["alpha"] == ("png16" in options["formats"])
    assert facts["frames"] == (9 if at else 4)
    assert facts["settings"]["method"] == "flow"
    assert facts["background"] == ("#204060" if at else "#ffffff"), "chosen for contrast with what is dark"
    lost = "gif" if at else "mp4"
    assert facts["warnings"][-1].startswith(f"{lost} holds no transparency, which the keyframes have; formats")
    assert first.result is not None
    assert {name: first.result[name] for name in facts} == facts


def reference(job_id: str, number: int = 0, **more: Any) -> dict[str, Any]:
    return {"image": f"job:{job_id}/{number}", **more}


def post(api: Api, *keyframes: dict[str, Any]) -> httpx.Response:
    return api.client.post("/inbetween", json={"keyframes": list(keyframes), "options": {"method": "flow"}})


def test_a_keyframe_of_an_earlier_job(api: Api) -> None:
    made = api.submit({"method": "flow"})
    digest = hashlib.sha256(photo()).hexdigest()
    answer = post(api, reference(made["id"], 1), reference(made["id"], 0, sha256=digest))
    job = api.jobs.get(answer.json()["id"])
    assert job is not None
    assert api.storage.get(job.keyframes[1]["key"]) == photo()
    other = post(api, reference(made["id"], 0, sha256="0" * 64), reference(made["id"], 1))
    assert problem(other, 422, "keyframe-mismatch")["field"] == "keyframes[0].image"
    for image in (f"job:{made['id']}/2", "job:job_x/0", f"job:{made['id']}/x", "job:", f"job:{made['id']}"):
        refused = post(api, {"image": image}, reference(made["id"]))
        assert problem(refused, 422, "keyframe-not-found")["field"] == "keyframes[0].image"
    assert problem(post(api, reference(made["id"], sha256="x"), reference(made["id"])), 422, "invalid-request")
    api.client.delete(made["links"]["self"])
    problem(post(api, reference(made["id"]), reference(made["id"])), 422, "keyframe-not-found")


@pytest.mark.parametrize("bad", [photo(colour="lime"), photo()[:60], None])
def test_a_keyframe_that_storage_lost_is_not_the_callers_fault(api: Api, bad: bytes | None) -> None:
    made = api.submit({"method": "flow"})
    job = api.jobs.get(made["id"])
    assert job is not None
    api.storage.delete(job.keyframes[0]["key"])
    if bad is not None:
        api.storage.put(job.keyframes[0]["key"], bad, "image/png")
    answer = post(api, reference(made["id"]), reference(made["id"], 1))
    assert problem(answer, 500, "keyframe-lost")["field"] == "keyframes[0].image"
    assert job.keyframes[0]["key"] not in answer.text


def test_nobody_has_anothers_keyframes(make_api: Make) -> None:
    api = make_api(auth="keys")
    for owner in ("ann", "bob"):
        _, secret = api.services.keys.create(owner, [Scope.read, Scope.submit])
        api.client.headers["Authorization"] = f"Bearer {secret}"
        if owner == "ann":
            made = api.submit({"method": "flow"})
    problem(post(api, reference(made["id"]), reference(made["id"])), 422, "keyframe-not-found")


def test_the_request_of_a_record() -> None:
    keyframes = [{"sha256": "a" * 64}, {"sha256": "b" * 64}]
    options = {"method": "flow", "positions": [0, 4, 9], "loop": True, "seeds": [0], "formats": ["mp4"]}
    job_id = "job_" + "0" * 26
    request = replay.request_of(job_id, options, keyframes)
    assert request["keyframes"][1] == {"image": f"job:{job_id}/1", "sha256": "b" * 64, "frame": 4}
    assert request["options"] == {"method": "flow", "loop": True, "seeds": [0], "formats": ["mp4"], "loop_frame": 9}
    assert replay.parse(request["keyframes"][1]["image"]) == (job_id, 1)
