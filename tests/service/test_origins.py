"""Names and origins: what a Host, an Origin or a forwarded header can make of an answer, and whom it lets in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import httpx
import pytest

from service.auth import OpenDoor
from tests.service.conftest import Api, Make, problem
from tests.service.test_api_jobs import Person

EVIL = "evil.example.com"
FORWARDED = {
    "X-Forwarded-Host": EVIL,
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-URL": "/livez",
    "X-Rewrite-URL": "/livez",
    "Forwarded": f"host={EVIL};proto=https",
}


def everything_told(api: Api, job_id: str, headers: dict[str, str]) -> str:
    """All answers with links in them."""
    answers = [
        api.post({"method": "flow"}, headers=headers),
        api.client.get(f"/inbetween/{job_id}", headers=headers),
        api.client.get("/inbetween?limit=1", headers=headers),
        api.client.get(f"/inbetween/{job_id}/video", headers=headers),
        api.client.post("/uploads", json={"content_type": "image/png", "size": 3}, headers=headers),
        api.client.get("/", headers=headers),
        api.client.get("/nothing", headers=headers),
    ]
    return "\n".join(answer.text + str(answer.headers) for answer in answers)


def test_nothing_forwarded_is_believed(make_api: Make) -> None:
    """Behind a proxy, links come from PUBLIC_URL; who asks is told by the key and never by an address."""
    api = make_api(auth="keys", rate_limit=0)
    ann = Person(api)
    job = api.succeed(api.submit({"method": "flow"}, headers=ann.headers)["id"]).id
    told = everything_told(api, job, {**ann.headers, **FORWARDED})
    assert EVIL not in told
    assert "/evil" not in told
    assert "https://127.0.0.1" not in told
    assert f"{api.url}/inbetween/{job}" in told


def test_with_a_public_url_no_header_makes_a_link(make_api: Make) -> None:
    api = make_api(auth="keys", rate_limit=0, public_url="https://video.example.com")
    ann = Person(api)
    job = api.succeed(api.submit({"method": "flow"}, headers=ann.headers)["id"]).id
    told = everything_told(api, job, {**ann.headers, **FORWARDED, "Host": EVIL})
    assert EVIL not in told
    assert api.url not in told
    assert f"https://video.example.com/inbetween/{job}" in told


def test_a_host_that_the_caller_invents_reaches_the_caller_alone(make_api: Make) -> None:
    """Without PUBLIC_URL links are made from the Host header, in the answer to that request and nowhere else."""
    api = make_api(auth="keys", rate_limit=0)
    ann = Person(api)
    mine = {**ann.headers, "Host": EVIL}
    options = {"method": "flow", "webhook": {"url": "https://ann.example.com/hook"}}
    made = api.submit(options, headers=mine)
    assert EVIL in made["links"]["self"], "the caller's own"
    job = api.succeed(made["id"])
    api.services.webhooks.announce(job)
    assert EVIL not in api.client.get(f"/inbetween/{job.id}", headers=ann.headers).text
    redis = api.services.redis
    kept = [redis.dump(key) for key in redis.keys("*")]
    assert kept
    assert not any(EVIL.encode() in value for value in kept if isinstance(value, bytes)), "no webhook, no record"


@pytest.mark.parametrize(
    "host", ["a b", "a/b", "a@b", "evil.example.com/x?y=", '"><script>', "a:b:c", "[::1", ":80", ""]
)
def test_a_host_that_is_none_makes_no_link(make_api: Make, host: str) -> None:
    api = make_api(auth="keys")
    asked = {"content_type": "image/png", "size": 3}
    answer = api.client.post("/uploads", json=asked, headers={**Person(api).headers, "Host": host})
    assert answer.status_code == 201
    assert answer.json()["url"].startswith(f"{api.url}/objects/")


LOCAL = ["localhost", "localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8000", "LOCALHOST"]


@pytest.mark.parametrize("host", LOCAL)
def test_without_keys_the_machines_own_names_are_answered(api: Api, host: str) -> None:
    assert api.client.get("/inbetween", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", [EVIL, "127.0.0.1.example.com", "localhost.example.com", "192.168.0.1", "0.0.0.0", "x@"]
)
def test_without_keys_a_page_under_its_own_name_reads_nothing(api: Api, host: str) -> None:
    """DNS rebinding: the page's name leads to 127.0.0.1, so for the browser it is of the same origin."""
    for method, path in (("GET", "/inbetween"), ("POST", "/inbetween"), ("GET", "/openapi.json"), ("GET", "/livez")):
        answer = api.client.request(method, path, headers={"Host": host, "Origin": f"http://{host}"})
        problem(answer, 421, "wrong-host")


@pytest.mark.parametrize("origin", [f"http://{EVIL}", "null", "http://localhost:3000", "file://", ""])
def test_without_keys_a_page_of_another_origin_makes_no_job(api: Api, origin: str) -> None:
    """What a form, or a script without a preflight, can make a browser send."""
    assert problem(api.post({"method": "flow"}, headers={"Origin": origin}), 403, "wrong-origin")["field"] == "Origin"
    upload = {"Origin": origin, "Content-Type": "text/plain"}
    problem(api.client.post("/uploads", content=b'{"content_type": "image/png"}', headers=upload), 403, "wrong-origin")
    assert api.client.get("/inbetween").json()["jobs"] == []


def test_without_keys_ones_own_and_named_pages_make_jobs(make_api: Make) -> None:
    api = make_api(cors_origins="https://studio.example.com", public_url="https://video.example.com")
    for headers in (
        {"Origin": api.url},
        {"Origin": "https://studio.example.com"},
        {"Origin": "https://video.example.com", "Host": "video.example.com"},
        {},
    ):
        assert api.post({"method": "flow"}, headers=headers).status_code == 202, headers


def test_with_keys_no_origin_matters(make_api: Make) -> None:
    """A browser has no key that another page could make it send."""
    api = make_api(auth="keys")
    headers = {**Person(api).headers, "Origin": f"http://{EVIL}", "Host": EVIL}
    answer = api.post({"method": "flow"}, headers=headers)
    assert answer.status_code == 202
    assert "access-control-allow-origin" not in answer.headers


def test_cross_origin_answers_carry_no_credentials(make_api: Make) -> None:
    """CORS lets named pages use the API with a key that they have, never with what the browser keeps for itself."""
    api = make_api(auth="keys", cors_origins="https://studio.example.com")
    asked = {"Origin": "https://studio.example.com", "Access-Control-Request-Method": "GET"}
    for answer in (
        api.client.options("/inbetween", headers={**asked, "Access-Control-Request-Headers": "authorization"}),
        api.client.get("/inbetween", headers={**asked, **Person(api).headers}),
        api.client.get("/inbetween", headers=asked),
    ):
        assert answer.headers["access-control-allow-origin"] == "https://studio.example.com"
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]
        assert "set-cookie" not in answer.headers


def test_any_origin_and_no_keys_do_not_start(make_api: Make) -> None:
    with pytest.raises(OpenDoor, match="CORS_ORIGINS"):
        make_api(cors_origins="*")


def test_every_answer_tells_browsers_to_be_careful(make_api: Make) -> None:
    api = make_api(auth="keys")
    ann = Person(api)
    job = api.succeed(api.submit({"method": "flow"}, headers=ann.headers)["id"]).id
    for path in ("/", "/docs", "/livez", "/nothing", "/inbetween", f"/inbetween/{job}", "/problems", "/openapi.json"):
        answer = api.client.get(path, headers=ann.headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        # The page is the same for everybody.
        assert answer.headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
        assert "server" not in answer.headers
        policy = policies(answer)
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
    stored = httpx.get(json.loads(api.client.get(f"/inbetween/{job}", headers=ann.headers).text)["keyframes"][0]["url"])
    assert "sandbox" in policies(stored)
    assert stored.headers["x-content-type-options"] == "nosniff"
    assert stored.headers["cache-control"].startswith("private")


def policies(answer: httpx.Response) -> dict[str, Any]:
    parts = answer.headers["content-security-policy"].split(";")
    return {name: " ".join(values) for name, *values in (part.split() for part in parts)}


def test_the_references_policy_allows_its_own_style_alone(api: Api) -> None:
    answer = api.client.get("/docs")
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policies(answer)["style-src"] == f"'sha256-{digest}'"
    assert policies(answer)["base-uri"] == policies(answer)["form-action"] == "'none'"
    assert not re.search(r"\sstyle=|\son\w+=|<script", answer.text)
