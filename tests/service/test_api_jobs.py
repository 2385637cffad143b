"""A job seen from outside: its view through its life, the list, cancel, erase, expiry, and whose it is."""

from __future__ import annotations

import time
from typing import Any

import httpx

from service.auth import Key, Scope
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo


def test_a_job_from_queue_to_result(api: Api) -> None:
    made = api.submit({"method": "flow", "frames": 3})
    url = made["links"]["self"]
    assert api.client.get(url).json()["position"] == 0
    job = api.start(made["id"])
    api.jobs.progress(job.id, job.attempt, {"stage": "sampling", "step": 2, "steps": 25, "fraction": 0.08, "eta": 4.5})
    running = api.client.get(url)
    assert running.headers["retry-after"] == "1"
    view = running.json()
    assert (view["state"], view["position"], view["eta"]) == ("running", None, 4.5)
    assert view["progress"]["step"] == 2
    assert view["started_at"].endswith("Z")
    api.jobs.fail(job.id, job.attempt, {}, True)
    api.succeed(made["id"])
    done = api.client.get(url)
    assert "retry-after" not in done.headers
    view = done.json()
    assert (view["state"], view["attempt"], view["progress"]) == ("succeeded", 2, None)
    assert view["result"]["settings"] == {"method": "flow"}
    told = [view["result"][name] for name in ("motion", "warnings", "background", "interpolator")]
    assert told == [None, [], None, None], "a version of before says nothing of these"
    assert [file["name"] for file in view["result"]["files"]][:2] == ["take-1.mp4", "take-1.gif"]
    assert view["links"]["video"] == f"{url}/video"
    assert view["expires_at"] > view["finished_at"]
    assert api.client.get(view["links"]["video"], follow_redirects=True).status_code == 200
    assert api.client.get(view["result"]["files"][0]["url"]).status_code == 200


def test_files_lie_with_the_attempt_that_made_them(api: Api) -> None:
    """An attempt that stored everything and died before it could say so: the next one commits what is there."""
    made = api.submit({"method": "flow"})
    first = api.start(made["id"])
    result = api.store(first)
    api.jobs.died(first.id, first.attempt, "test")
    second = api.start(made["id"])
    api.jobs.succeed(second.id, second.attempt, result)
    view = api.client.get(made["links"]["self"]).json()
    assert view["attempt"] == 2
    for url in (view["links"]["video"], view["links"]["poster"], view["result"]["files"][0]["url"]):
        assert api.client.get(url, follow_redirects=True).status_code == 200


def test_every_link_of_a_finished_job_answers(api: Api) -> None:
    made = api.submit({"method": "flow"})
    api.succeed(made["id"])
    view = api.client.get(made["links"]["self"]).json()
    links = {name: link for name, link in view["links"].items() if name not in ("cancel",)}
    assert all(link and link.startswith(api.url) for link in links.values())
    for link in links.values():
        assert api.client.get(link.replace("{n}", "2"), follow_redirects=True).status_code == 200, link
    for file in (*view["result"]["files"], *view["keyframes"]):
        answer = api.client.get(file["url"])
        assert answer.status_code == 200
        assert len(answer.content) == file["size"]
        assert answer.headers["content-type"] == file["content_type"]


def test_links_use_the_public_url(make_api: Make) -> None:
    api = make_api(public_url="https://video.example.com/api/")
    made = api.submit({"method": "flow"})
    assert made["links"]["self"] == f"https://video.example.com/api/inbetween/{made['id']}"
    assert made["keyframes"][0]["url"].startswith("https://video.example.com/api/objects/")


def test_a_failed_job_carries_its_problem(api: Api) -> None:
    job = api.start(api.submit({"method": "flow"})["id"])
    error = {"type": "/problems/generation-failed", "title": "t", "status": 500, "detail": "no memory", "field": "x"}
    api.jobs.fail(job.id, job.attempt, error, False)
    view = api.client.get(f"/inbetween/{job.id}").json()
    assert view["state"] == "failed"
    assert {name: view["error"][name] for name in error} == error


def test_priorities_and_positions(api: Api) -> None:
    ids = [api.submit({"method": "flow", "priority": priority})["id"] for priority in ("low", "default", "high", "low")]
    positions = [api.client.get(f"/inbetween/{job_id}").json()["position"] for job_id in ids]
    assert positions == [2, 1, 0, 3]
    other_lane = api.submit({"method": "vibid"})
    assert other_lane["position"] == 0
    assert api.client.get(f"/inbetween/{ids[3]}").headers["retry-after"] == "4"


def test_cancel_in_every_state(api: Api) -> None:
    queued = api.submit({"method": "flow"})
    answer = api.client.post(queued["links"]["cancel"])
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    assert api.client.post(queued["links"]["cancel"]).json()["state"] == "canceled"
    running = api.start(api.submit({"method": "flow"})["id"])
    view = api.client.post(f"/inbetween/{running.id}/cancel").json()
    assert (view["state"], view["cancel_requested"]) == ("running", True)
    api.jobs.stopped(running.id, running.attempt)
    assert api.client.get(f"/inbetween/{running.id}").json()["state"] == "canceled"
    done = api.succeed(api.submit({"method": "flow"})["id"])
    assert api.client.post(f"/inbetween/{done.id}/cancel").json()["state"] == "succeeded"


def test_delete_erases_the_job_and_its_files(api: Api) -> None:
    kept = api.succeed(api.submit({"method": "flow"})["id"])
    job = api.succeed(api.submit({"method": "flow"})["id"])
    answer = api.client.delete(f"/inbetween/{job.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for call in (api.client.get, api.client.delete):
        problem(call(f"/inbetween/{job.id}"), 404, "job-not-found")
    left = list(api.storage.list("jobs"))
    assert left
    assert all(key.startswith(f"jobs/{kept.id}/") for key in left)
    assert [view["id"] for view in api.client.get("/inbetween").json()["jobs"]] == [kept.id]


def test_delete_while_running_leaves_nothing_to_commit(api: Api) -> None:
    job = api.start(api.submit({"method": "flow"})["id"])
    assert api.client.delete(f"/inbetween/{job.id}").status_code == 204
    assert api.jobs.get(job.id) is None
    assert list(api.storage.list("jobs")) == []


def test_an_expired_job_is_gone_everywhere(make_api: Make) -> None:
    api = make_api()
    job = api.succeed(api.submit({"method": "flow"})["id"])
    api.services.redis.hset(api.jobs.keys.job(job.id), "expires_at", str(time.time() - 1))
    api.jobs.expire(job.id)
    for path in ("", "/video", "/poster", "/frames/0", "/events", "/files/metadata.json", "/keyframes/0"):
        problem(api.client.get(f"/inbetween/{job.id}{path}"), 410, "job-expired")
    problem(api.client.post(f"/inbetween/{job.id}/cancel"), 410, "job-expired")
    assert api.client.get("/inbetween").json()["jobs"] == []


def test_the_list_is_paged_and_filtered(api: Api) -> None:
    ids = [api.submit({"method": "flow", "seed": seed})["id"] for seed in range(5)]
    api.client.post(f"/inbetween/{ids[0]}/cancel")
    seen: list[str] = []
    url: str | None = "/inbetween?limit=2"
    pages = 0
    while url:
        page: dict[str, Any] = api.client.get(url).json()
        seen += [job["id"] for job in page["jobs"]]
        url = page["next"]
        assert (url is None) == (page["next_cursor"] is None)
        pages += 1
    assert (seen, pages) == (ids[::-1], 3)
    canceled = api.client.get("/inbetween", params={"state": "canceled"}).json()
    assert [job["id"] for job in canceled["jobs"]] == [ids[0]]
    following = api.client.get("/inbetween", params={"state": "queued", "limit": 1}).json()["next"]
    assert "state=queued" in following
    for query, field in (("limit=0", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"), ("state=dead", "state")):
        assert problem(api.client.get(f"/inbetween?{query}"), 422, "invalid-request")["field"] == field


def test_ids_that_are_none(api: Api) -> None:
    for job_id in ("job_" + "0" * 26, "x", "job_*", "%00", "job_" + "é" * 26, "x" * 3000):
        problem(api.client.get(f"/inbetween/{job_id}"), 404, "job-not-found")


class Person:
    """A client that sends a key."""

    def __init__(self, api: Api, *scopes: Scope, owner: str | None = None) -> None:
        self.key: Key
        self.key, self.secret = api.services.keys.create("test", scopes or (Scope.submit, Scope.read), owner)
        self.headers = {"Authorization": f"Bearer {self.secret}"}


def test_a_key_that_is_none(make_api: Make) -> None:
    api = make_api(auth="keys")
    for sent in ("Bearer ibk_wrong", "Basic x", "Bearer", "ibk_wrong", "Bearer \x80"):
        answer = api.client.get("/inbetween", headers={b"Authorization": sent.encode("latin-1")})
        problem(answer, 401, "unauthorized")


def test_scopes(make_api: Make) -> None:
    api = make_api(auth="keys")
    reader, submitter = Person(api, Scope.read), Person(api, Scope.submit)
    refused = problem(api.post(headers=reader.headers), 403, "forbidden")
    assert refused["scope"] == "submit"
    assert api.post({"method": "flow"}, headers=submitter.headers).status_code == 202
    problem(api.client.get("/inbetween", headers=submitter.headers), 403, "forbidden")
    problem(api.client.get("/dead-letters", headers=reader.headers), 403, "forbidden")
    api.services.keys.revoke(reader.key.id)
    problem(api.client.get("/inbetween", headers=reader.headers), 401, "unauthorized")


def test_the_idempotency_key_of_another_owner_is_another_key(make_api: Make) -> None:
    api = make_api(auth="keys")
    ann, bob = Person(api), Person(api)
    first = api.submit({"method": "flow"}, headers={**ann.headers, "Idempotency-Key": "same"})
    other = api.submit({"method": "flow"}, headers={**bob.headers, "Idempotency-Key": "same"})
    assert first["id"] != other["id"]


def test_the_upload_of_another_owner_is_none(make_api: Make) -> None:
    api = make_api(auth="keys")
    ann, bob = Person(api), Person(api)
    asked = {"content_type": "image/png", "size": len(photo())}
    upload = api.client.post("/uploads", json=asked, headers=ann.headers).json()
    assert api.client.put(upload["url"], headers=upload["headers"], content=photo()).status_code == 200
    body = {"start": upload["image"], "end": upload["image"], "options": {"method": "flow"}}
    problem(api.client.post("/inbetween", json=body, headers=bob.headers), 422, "upload-not-found")
    assert api.client.post("/inbetween", json=body, headers=ann.headers).status_code == 202


def test_signed_links_need_no_key_and_secrets_reach_no_record(make_api: Make) -> None:
    api = make_api(auth="keys")
    ann = Person(api)
    made = api.submit({"method": "flow"}, headers=ann.headers)
    assert httpx.get(made["keyframes"][0]["url"]).status_code == 200
    redis = api.services.redis
    values = [redis.dump(key) for key in redis.keys("*")]
    assert values
    assert not any(ann.secret.encode() in value for value in values if isinstance(value, bytes))
