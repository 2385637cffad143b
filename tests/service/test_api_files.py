"""Files of a job: links or the file itself, ranges, HEAD, validators, on the local store and on S3."""

from __future__ import annotations

import gc
import threading

import httpx
import psutil
import pytest

from service.api.file_response import parse_range
from service.problems import Problem
from tests.service.conftest import Api, Make, problem

VIDEO = bytes(range(256)) * 8


def finished(api: Api) -> str:
    return api.succeed(api.submit({"method": "flow"})["id"]).id


def test_a_video_is_a_redirect_to_a_signed_link(api: Api) -> None:
    path = f"/inbetween/{finished(api)}/video"
    answer = api.client.get(path)
    assert answer.status_code == 307
    assert answer.headers["cache-control"] == "no-store"
    file = api.client.get(answer.headers["location"])
    assert file.content == VIDEO
    assert file.headers["content-type"] == "video/mp4"
    assert "content-disposition" not in file.headers
    assert file.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in file.headers["content-security-policy"]
    saved = api.client.get(path, params={"download": "true"}, follow_redirects=True)
    assert saved.headers["content-disposition"].endswith('-take-1.mp4"')
    gif = api.client.get(path, params={"format": "gif"}, follow_redirects=True)
    assert gif.headers["content-type"] == "image/gif"


@pytest.mark.parametrize("proxy", [False, True])
def test_ranges_heads_and_validators(make_api: Make, proxy: bool) -> None:
    api = make_api(storage_proxy=proxy)
    path = f"/inbetween/{finished(api)}/video"
    whole = api.client.get(path, follow_redirects=True)
    assert len(whole.history) == (0 if proxy else 1)
    url = str(whole.url)
    assert (whole.status_code, whole.content) == (200, VIDEO)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-length"] == "2048"
    for header, part in (("bytes=0-9", VIDEO[:10]), ("bytes=2000-", VIDEO[2000:]), ("bytes=-5", VIDEO[-5:])):
        answer = api.client.get(url, headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"].startswith("bytes ")
        assert answer.headers["content-range"].endswith("/2048")
    answer = api.client.get(url, headers={"Range": "bytes=4000-"})
    problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["content-range"] == "bytes */2048"
    head = api.client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "2048")
    assert head.headers["etag"] == whole.headers["etag"]
    answer = api.client.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (answer.status_code, answer.content) == (304, b"")
    stale = api.client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, VIDEO)
    fresh = api.client.get(url, headers={"Range": "bytes=0-9", "If-Range": whole.headers["etag"]})
    assert (fresh.status_code, fresh.content) == (206, VIDEO[:10])
    assert api.client.head(path).headers["content-length"] == "2048"


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=8-99", (8, 10)),
        ("Bytes = 1-2", (1, 3)),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=٣-٤", None),
    ],
)
def test_what_a_range_header_asks_for(header: str, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_that_is_not_there(header: str, size: int) -> None:
    with pytest.raises(Problem) as refused:
        parse_range(header, size)
    assert refused.value.status == 416


def test_links_in_the_view_lead_through_the_api_where_it_is_a_proxy(make_api: Make) -> None:
    api = make_api(storage_proxy=True)
    job_id = finished(api)
    view = api.client.get(f"/inbetween/{job_id}").json()
    for file in (*view["result"]["files"], *view["keyframes"]):
        assert file["url"].startswith(f"{api.url}/inbetween/{job_id}/")
        assert len(api.client.get(file["url"]).content) == file["size"]


def test_a_file_of_another_size_is_not_handed_over(make_api: Make) -> None:
    """As of a page that answers in the storage's place: it is no video, and that is the storage's fault."""
    api = make_api(storage_proxy=True)
    job_id = finished(api)
    job = api.jobs.get(job_id)
    assert job is not None
    api.storage.put(f"jobs/{job_id}/{job.attempt}/take-1.mp4", b"<html>Log in first</html>", "text/html")
    api.storage.put(job.keyframes[0]["key"], b"<html>Log in first</html>", "text/html")
    for path in ("video", "keyframes/0"):
        problem(api.client.get(f"/inbetween/{job_id}/{path}"), 503, "unavailable")


def test_what_a_job_does_not_have(api: Api) -> None:
    job_id = finished(api)
    for path in (
        "/video?format=webm",
        "/video?take=2",
        "/files/take-9.mp4",
        "/files/..%2F..%2Fmanifest.json",
        "/files/manifest.json",
        "/frames/3",
        "/frames/0?take=2",
        "/keyframes/2",
    ):
        body = problem(api.client.get(f"/inbetween/{job_id}{path}"), 404, _slug(path))
        assert body["remedy"]
    for path in ("/video?format=avi", "/video?take=0", "/frames/-1", "/frames/x"):
        problem(api.client.get(f"/inbetween/{job_id}{path}"), 422, "invalid-request")


def _slug(path: str) -> str:
    # A slash in a name, even an escaped one, is another path.
    return "not-found" if "%2F" in path else "file-not-found"


def test_files_of_a_job_without_a_result(api: Api) -> None:
    made = api.submit({"method": "flow"})
    answer = api.client.get(f"/inbetween/{made['id']}/video")
    problem(answer, 409, "job-not-finished")
    assert answer.headers["retry-after"]
    api.client.post(made["links"]["cancel"])
    for path in ("video", "poster", "frames/0", "files/metadata.json"):
        problem(api.client.get(f"/inbetween/{made['id']}/{path}"), 409, "job-without-result")


def test_links_that_were_altered_outlived_or_misused(make_api: Make) -> None:
    api = make_api(signed_url_ttl=10)
    link = api.client.get(f"/inbetween/{finished(api)}/video").headers["location"]
    problem(api.client.get(link[:-1] + ("a" if link[-1] != "a" else "b")), 403, "link-invalid")
    problem(api.client.put(link, content=b"x"), 403, "link-invalid")
    problem(api.client.get(f"{api.url}/objects/x"), 403, "link-invalid")
    path = api.storage.sign_get("jobs/none/1/x", expires=60)
    problem(api.client.get(path), 404, "not-found")
    over = api.storage.sign_get("jobs/none/1/x", expires=-1)
    problem(api.client.get(over), 410, "link-expired")


def test_files_on_s3(make_api: Make, s3_settings: dict[str, str]) -> None:
    api = make_api(**s3_settings)
    job_id = finished(api)
    answer = api.client.get(f"/inbetween/{job_id}/video")
    assert answer.status_code == 307
    link = answer.headers["location"]
    assert link.startswith(s3_settings["storage_endpoint"])
    part = httpx.get(link, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, VIDEO[:10])
    assert part.headers["content-type"] == "video/mp4"
    assert api.client.head(f"/inbetween/{job_id}/video").headers["content-length"] == "2048"
    problem(api.client.get("/objects/x"), 404, "not-found")
    upload = api.client.post("/uploads", json={"content_type": "image/png", "size": 3}).json()
    assert upload["url"].startswith(s3_settings["storage_endpoint"])
    assert httpx.put(upload["url"], headers=upload["headers"], content=b"abc").status_code == 200
    proxy = make_api(**s3_settings, storage_proxy=True)
    part = proxy.client.get(f"/inbetween/{job_id}/video", headers={"Range": "bytes=-5"})
    assert (part.status_code, part.content) == (206, VIDEO[-5:])


def test_who_leaves_in_the_middle_leaves_no_connection_to_the_storage(
    make_api: Make, s3_settings: dict[str, str]
) -> None:
    api = make_api(**s3_settings, storage_proxy=True)
    job = api.start(api.submit({"method": "flow"})["id"])
    result = api.store(job)
    api.storage.put(f"jobs/{job.id}/{job.attempt}/take-1.mp4", bytes(20_000_000), "video/mp4")
    result["files"][0]["size"] = 20_000_000
    api.jobs.succeed(job.id, job.attempt, result)
    port = httpx.URL(s3_settings["storage_endpoint"]).port

    def connections() -> int:
        return sum(1 for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port)

    gc.collect()
    gc.disable()
    try:
        before = connections()
        for _ in range(3):
            with httpx.Client() as client, client.stream("GET", f"{api.url}/inbetween/{job.id}/video") as answer:
                next(answer.iter_raw())
        for _ in range(600):
            if not api.requests and connections() <= before:
                break
            threading.Event().wait(0.05)
        assert connections() <= before
    finally:
        gc.enable()
