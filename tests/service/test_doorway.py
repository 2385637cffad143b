"""What comes in as bytes: decoding that keeps nobody waiting, uploads held to what was signed, keys made of ids."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from service.api.intake import keyframe_check
from tests.service.conftest import Api, Make, problem
from trials.pictures import photo

AT_ONCE = 50
"""Requests with pictures to decode: more than there are threads of any kind."""


@pytest.mark.parametrize("path", ["/inbetween", "/inbetween/estimate"])
def test_decoding_never_blocks_the_event_loop(api: Api, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While fifty requests wait for the decoder, health, lists and jobs are answered: nothing else waits with them."""
    decode, entered, go_on = keyframe_check._decode, threading.Event(), threading.Event()
    threads = set()

    def stuck(*arguments: Any) -> keyframe_check.ImageInfo:
        threads.add(threading.current_thread().name)
        entered.set()
        assert go_on.wait(120)
        return decode(*arguments)

    monkeypatch.setattr(keyframe_check, "_decode", stuck)
    with ThreadPoolExecutor(AT_ONCE) as crowd:
        files = {"start": photo(), "end": photo(colour="teal")}
        waiting = [
            crowd.submit(httpx.post, api.url + path, files=files, data={"options": '{"method": "flow"}'}, timeout=120)
            for _ in range(AT_ONCE)
        ]
        try:
            assert entered.wait(60)
            for other in ("/livez", "/readyz", "/inbetween", "/methods", "/metrics", "/"):
                assert api.client.get(other).status_code == 200
            assert api.client.post("/uploads", json={"content_type": "image/png", "size": 9}).status_code == 201
            assert not any(each.done() for each in waiting)
        finally:
            go_on.set()
        assert {each.result().status_code for each in waiting} <= {200, 202}
    assert threads
    assert "server" not in threads, "the thread of the event loop"


def test_a_crowd_that_asks_for_readiness_takes_one_thread(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers may ask. While storage hangs, what needs no storage is answered, and all of them get one answer."""
    check, go_on, asked = api.storage.check, threading.Event(), []

    def hangs() -> None:
        asked.append(threading.current_thread().name)
        assert go_on.wait(120)
        check()

    monkeypatch.setattr(api.storage, "check", hangs)
    with ThreadPoolExecutor(AT_ONCE) as crowd:
        waiting = [crowd.submit(httpx.get, f"{api.url}/readyz", timeout=120) for _ in range(AT_ONCE)]
        try:
            while api.requests < AT_ONCE:
                threading.Event().wait(0.02)
            for other in ("/livez", "/inbetween", "/methods"):
                assert api.client.get(other).status_code == 200
            assert len(asked) == 1
        finally:
            go_on.set()
        assert {each.result().status_code for each in waiting} == {200}
    assert len(asked) == 1


KEY = re.compile(r"jobs/job_[0-9a-z]{26}/keyframes/[0-9]\.png|uploads/[0-9a-f]{32}")  # the ending is the content's own
NASTY = (
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "/abs/olute",
    "a\x00b",
    "%2e%2e%2f",
    "jobs/job_x/1/manifest.json",
    "é" * 90,
)


@contextmanager
def homes(make_api: Make, s3_settings: dict[str, str]) -> Iterator[list[Api]]:
    yield [make_api(), make_api(**s3_settings)]


def test_storage_keys_are_made_of_ids_alone(make_api: Make, s3_settings: dict[str, str]) -> None:
    """On both stores, whatever names, types and references a caller sends."""
    with homes(make_api, s3_settings) as both:
        for api in both:
            for name in NASTY:
                files = {"start": (name, photo(), name), "end": (name, photo(), "text/html")}
                options = {"options": json.dumps({"method": "flow", "reference": name})}
                headers = {"Idempotency-Key": ascii(f"{api.settings.storage_url} {name}")[:200]}
                answer = api.client.post("/inbetween", files=files, data=options, headers=headers)
                assert answer.status_code == 202, answer.text
            sent(api, photo())
            keys = [key for key in api.storage.list("") if key != "databases/inbetween.json"]
            assert len(keys) == 2 * len(NASTY) + 1
            assert [key for key in keys if not KEY.fullmatch(key)] == []


def sent(api: Api, data: bytes, announced: int | None = None) -> str:
    """The image reference of an upload that was sent."""
    size = len(data) if announced is None else announced
    upload = api.client.post("/uploads", json={"content_type": "image/png", "size": size}).json()
    answer = httpx.put(upload["url"], headers=upload["headers"], content=data)
    assert answer.status_code == 200, answer.text
    return str(upload["image"])


def asked(api: Api, image: str) -> httpx.Response:
    return api.client.post("/inbetween", json={"start": image, "end": image, "options": {"method": "flow"}})


def test_an_upload_is_held_to_what_was_signed_on_both_stores(make_api: Make, s3_settings: dict[str, str]) -> None:
    with homes(make_api, s3_settings) as both:
        for api in both:
            upload = api.client.post("/uploads", json={"content_type": "image/png", "size": 4}).json()
            for content, headers in (
                (b"abc", upload["headers"]),
                (b"abcde", upload["headers"]),
                (b"", upload["headers"]),
                (b"abcd", {"Content-Type": "text/html"}),
                (b"abcd", {}),
            ):
                answer = httpx.put(upload["url"], headers=headers, content=content)
                assert 400 <= answer.status_code < 500, (content, headers)
            assert list(api.storage.list("uploads")) == []
            for url in (
                upload["url"] + "x",
                upload["url"].replace("/uploads/", "/jobs/"),
                upload["url"].split("?")[0][:-1],
            ):
                if url != upload["url"]:
                    assert httpx.put(url, headers=upload["headers"], content=b"abcd").status_code in (
                        400,
                        403,
                        404,
                        405,
                    )
            assert httpx.get(upload["url"]).status_code in (400, 403)
            assert httpx.delete(upload["url"]).status_code in (400, 403, 405)
            assert list(api.storage.list("uploads")) == []


def test_an_upload_is_checked_again_when_it_is_used(make_api: Make, s3_settings: dict[str, str]) -> None:
    """Its content, and its size: somebody may have put another file there behind our back."""
    with homes(make_api, s3_settings) as both:
        for api in both:
            page = b"<html><script>alert(1)</script></html>"
            body = problem(asked(api, sent(api, page)), 422, "invalid-image")
            assert body["field"] == "start"
            assert "HTML" in body["detail"]
            image = sent(api, photo())
            api.storage.put(f"uploads/{image.removeprefix('upload:')}", photo() + b"x", "image/png")
            assert problem(asked(api, image), 422, "upload-mismatch")["field"] == "start"
            api.storage.put(f"uploads/{image.removeprefix('upload:')}", photo(), "image/png")
            assert asked(api, image).status_code == 202


def test_an_upload_is_over_when_its_time_is(make_api: Make, s3_settings: dict[str, str]) -> None:
    with homes(make_api, s3_settings) as both:
        for api in both:
            image = sent(api, photo())
            record = f"{api.settings.namespace}:upload:{image.removeprefix('upload:')}"
            assert 0 < api.services.redis.ttl(record) <= api.settings.signed_url_ttl
            assert asked(api, image).status_code == 202
            assert api.services.redis.pexpire(record, 1)
            while api.services.redis.exists(record):
                threading.Event().wait(0.01)
            assert problem(asked(api, image), 422, "upload-not-found")["field"] == "start"


def test_the_local_store_lists_nothing_and_knows_no_other_path(api: Api) -> None:
    """One token, one object: no path beside it leads anywhere, and the token is all of the path."""
    link = api.submit({"method": "flow"})["keyframes"][0]["url"]
    assert httpx.get(link).status_code == 200
    for path in (
        "/objects",
        "/objects/",
        "/objects/jobs",
        "/objects/../jobs",
        "/objects/..%2f..%2fetc%2fpasswd",
        "/objects/%2e%2e/%2e%2e/etc/passwd",
        link.removeprefix(api.url) + "/..",
        link.removeprefix(api.url) + "%00",
        link.removeprefix(api.url) + "/../../../etc/passwd",
    ):
        answer = api.client.get(path)
        assert answer.status_code in (403, 404), path
        assert answer.headers["content-type"] == "application/problem+json"
