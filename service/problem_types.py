"""The table of problems: each stable `type` with its title, what it means and what to do about it (RFC 9457).

`python -m service.problem_types` writes it as `docs/problems.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemType:
    """A type of problem: its usual HTTP status, a title, and two sentences for people."""

    status: int
    title: str
    meaning: str
    remedy: str
    #: What in the request is at fault whenever this happens; None where only the place that raises it can tell.
    field: str | None = None


PROBLEMS: dict[str, ProblemType] = {
    # The request as a message
    "invalid-request": ProblemType(
        422,
        "The request has a field that cannot be used",
        "A field of the body, or a parameter of the query, is missing, unknown, of the wrong type, or outside its "
        "bounds. `errors` lists every such field.",
        "Change the fields named in `errors` as each `remedy` says. `GET /methods` lists all options and bounds.",
    ),
    "malformed-body": ProblemType(
        400,
        "The body cannot be read",
        "The body is not the JSON, or not the multipart form, that its Content-Type announces.",
        "Send valid UTF-8 JSON, or let your HTTP client build the multipart form.",
        "body",
    ),
    "unsupported-media-type": ProblemType(
        415,
        "The content type is not taken here",
        "This route does not read bodies of that Content-Type.",
        "Send `application/json` or `multipart/form-data`.",
        "Content-Type",
    ),
    "body-too-large": ProblemType(
        413,
        "The request is too large",
        "The body, or one part of it, is larger than the server accepts. Reading stopped there.",
        "Send smaller keyframes, or send them through `POST /uploads` first.",
        "body",
    ),
    "bad-request": ProblemType(
        400,
        "The request cannot be understood",
        "The request breaks the protocol before any route could look at it.",
        "Compare the request with the reference under `/docs`.",
        "body",
    ),
    "headers-too-large": ProblemType(
        431,
        "The headers are too large",
        "The request line and the headers together are larger than the server accepts.",
        "Send fewer or shorter headers; a shorter query where it is the path that is long.",
        "headers",
    ),
    "too-slow": ProblemType(
        408,
        "The request came too slowly",
        "The client stopped sending, or sent more slowly than the server waits for. The connection is closed.",
        "Send the request again over a faster connection, or send the images through `POST /uploads` one at a time.",
        "body",
    ),
    "wrong-host": ProblemType(
        421,
        "This server does not answer to that name",
        "Without API keys the server answers under the names of its own machine and of PUBLIC_URL alone, so that no "
        "web page can reach it under a name of its own.",
        "Use `localhost`, or have the operator set PUBLIC_URL or AUTH=keys.",
        "Host",
    ),
    "wrong-origin": ProblemType(
        403,
        "This web page may not use the server",
        "Without API keys every browser on the machine could be made to send requests, so those of other origins are "
        "refused.",
        "Have the operator name the page's origin in CORS_ORIGINS.",
        "Origin",
    ),
    "not-found": ProblemType(
        404,
        "There is nothing at this path",
        "No route of this API has that path.",
        "Compare the path with `/openapi.json`.",
        "path",
    ),
    "method-not-allowed": ProblemType(
        405,
        "This path has no such method",
        "The path exists, but not for this HTTP method. The `Allow` header lists those it has.",
        "Use one of the methods in `Allow`.",
        "method",
    ),
    # Who asks
    "unauthorized": ProblemType(
        401,
        "An API key is needed",
        "The request carries no API key, or one that does not exist, was revoked or is misspelled.",
        "Send `Authorization: Bearer ibk_…`. `inbetween-server keys create` makes a key.",
        "Authorization",
    ),
    "forbidden": ProblemType(
        403,
        "The key may not do this",
        "The API key is valid but lacks the scope that this route needs.",
        "Use a key with the scope named in `scope`.",
        "Authorization",
    ),
    # How much
    "rate-limited": ProblemType(
        429,
        "Too many requests",
        "The API key has sent as many requests as it may in a minute.",
        "Wait `Retry-After` seconds. `RateLimit` and `RateLimit-Policy` on every answer tell what is left and allowed.",
        "Authorization",
    ),
    "too-many-jobs": ProblemType(
        429,
        "Too many jobs under way",
        "The key's owner has as many jobs queued and running, as `active`, as it may, `limit`.",
        "Wait until a job is over, or cancel one: `GET /inbetween?state=queued` lists them.",
        "Authorization",
    ),
    "gpu-seconds-spent": ProblemType(
        429,
        "The day's GPU-seconds are spent",
        "What the owner's jobs took today (`used`), what those under way are estimated to take (`promised`) and the "
        "estimate of this job (`estimate`) are together more than the key's `limit`.",
        "Wait for the next day in UTC, `Retry-After` seconds away; `flow` needs no GPU.",
        "Authorization",
    ),
    "beyond-allowance": ProblemType(
        422,
        "The job alone takes more GPU-seconds than the key has in a day",
        "The job's estimate, `estimate`, is more than the key's `limit`, so no waiting will help.",
        "Ask for fewer steps, frames, pixels or seeds; `POST /inbetween/estimate` says what a request would take.",
        "options",
    ),
    "too-many-uploads": ProblemType(
        429,
        "Too many uploads are waiting to be used",
        "The key's owner has as many uploads that no job has used, `unused` of `bytes` bytes, as it may: `limit` and "
        "`limit_bytes`.",
        "Use them in a request, or wait: the first of them goes in `Retry-After` seconds.",
        "Authorization",
    ),
    "too-many-streams": ProblemType(
        429,
        "Too many event streams are open",
        "The key's owner reads as many streams of events from this server as it may, `limit`.",
        "Close one, or follow up to 50 jobs in one stream: `GET /events?ids=…`.",
        "Authorization",
    ),
    "queue-full": ProblemType(
        503,
        "The queue is full",
        "As many jobs wait as the server holds. `wait_seconds` says when the next one leaves the queue, as far as "
        "the engines' measured speed can tell; it is null where nothing was measured.",
        "Repeat the request after `Retry-After` seconds, with the same `Idempotency-Key`.",
    ),
    # Keyframes
    "invalid-image": ProblemType(
        422,
        "A keyframe is not a usable image",
        "The file is empty, truncated, animated, of a format that is not taken, or not an image at all.",
        "Send a still JPEG, PNG, WebP, AVIF or HEIC image.",
    ),
    "image-too-large": ProblemType(
        413,
        "A keyframe is too large",
        "The keyframe has more bytes or more pixels than the server accepts.",
        "Scale the image down; nothing beyond the output's size is used.",
    ),
    "invalid-url": ProblemType(
        422,
        "A URL cannot be used",
        "A keyframe's or webhook's URL is malformed, not https, or leads to an address that the server does not visit.",
        "Use a public https URL, or ask the operator to add the host to FETCH_ALLOW_HOSTS.",
    ),
    "fetch-failed": ProblemType(
        422,
        "A keyframe could not be fetched",
        "The server behind a keyframe's URL did not answer in time, answered with an error or a redirect, or sent "
        "too much.",
        "Check that the URL answers with the image itself, or send the image in the request.",
    ),
    "upload-not-found": ProblemType(
        422,
        "There is no such upload",
        "A keyframe names an upload that does not exist, has expired, or was never sent.",
        "Ask `POST /uploads` for a link, PUT the file there, then name `upload:ID`.",
    ),
    "upload-mismatch": ProblemType(
        422,
        "The upload is not what was announced",
        "The uploaded file's size differs from the one that was signed.",
        "Announce the exact size in `POST /uploads` and send the file again.",
        "body",
    ),
    "keyframe-not-found": ProblemType(
        422,
        "There is no such keyframe",
        "A keyframe names that of another job, `job:ID/0`, and this key has no such job any more.",
        "Send the image itself, its URL, or `upload:ID`.",
    ),
    "keyframe-mismatch": ProblemType(
        422,
        "The keyframe is another file",
        "The image does not have the SHA-256 that the request says it has.",
        "Send the file that has it, or leave `sha256` out.",
    ),
    # What the machines at work can do
    "method-unavailable": ProblemType(
        422,
        "No machine at work has this method",
        "The engines that are live have models that cannot run the method asked for.",
        "Choose one of the methods in `available`, or ask `GET /methods`.",
    ),
    "beyond-capacity": ProblemType(
        422,
        "The video is larger than the machines at work can make",
        "Width × height, or the frames of a segment, exceed what every live engine can hold in memory.",
        "Ask for a smaller size or fewer frames, within the limits that `GET /methods` shows.",
    ),
    # Jobs and their files
    "job-not-found": ProblemType(
        404,
        "There is no such job",
        "No job of this key has that id.",
        "Compare the id with `GET /inbetween`.",
        "job_id",
    ),
    "job-expired": ProblemType(
        410,
        "The job's result has expired",
        "The job is over and its files are gone: erased when its `result_ttl` ran out, or not there any more when the "
        "server's data were restored.",
        "Post the request again; the same seed gives the same video. `result_ttl` keeps results longer.",
        "job_id",
    ),
    "job-not-finished": ProblemType(
        409,
        "The job has no result yet",
        "The file asked for exists only once the job has succeeded.",
        "Wait until the job's `state` is `succeeded`; `Retry-After` says when to look again.",
        "job_id",
    ),
    "job-without-result": ProblemType(
        409,
        "The job ended without a result",
        "The job failed or was canceled, so it has no files.",
        "See the job's `error`, then post the request again.",
        "job_id",
    ),
    "job-conflict": ProblemType(
        409,
        "The job's state does not allow this",
        "The job is not in a state from which this can be done.",
        "Read the job again and decide by its `state`.",
        "job_id",
    ),
    "file-not-found": ProblemType(
        404,
        "The job has no such file",
        "The job's result has no file of that name, format, take or frame number.",
        "Use the names in the job's `files`.",
        "path",
    ),
    "delivery-not-found": ProblemType(
        404,
        "There is no such webhook delivery",
        "No webhook delivery of this key has that id.",
        "Compare the id with `GET /webhooks/deliveries`.",
        "delivery_id",
    ),
    "problem-not-found": ProblemType(
        404,
        "There is no such type of problem",
        "The table of problems has no entry of that name.",
        "See `docs/problems.md`.",
        "slug",
    ),
    # Signed links
    "link-invalid": ProblemType(
        403,
        "The link is not valid",
        "The signed link was altered, or is used with a method or a file size it was not made for.",
        "Ask the API for a fresh link and use it unchanged.",
        "token",
    ),
    "link-expired": ProblemType(
        410,
        "The link has expired",
        "The signed link's time is over.",
        "Ask the API for a fresh link.",
        "token",
    ),
    "range-not-satisfiable": ProblemType(
        416,
        "The range lies outside the file",
        "The `Range` header asks for bytes that the file does not have.",
        "Ask for a range within the size in `Content-Range`.",
        "Range",
    ),
    # Idempotency
    "idempotency-key-reused": ProblemType(
        422,
        "The idempotency key belongs to another request",
        "A request with this `Idempotency-Key` came before and asked for something else.",
        "Use a new key for a new request; repeat a request exactly to get its first answer.",
        "Idempotency-Key",
    ),
    "idempotency-in-flight": ProblemType(
        409,
        "A request with this idempotency key is being answered",
        "The first request with this `Idempotency-Key` has not been answered yet.",
        "Wait `Retry-After` seconds and repeat the request.",
        "Idempotency-Key",
    ),
    # Us
    "busy": ProblemType(
        503,
        "The server has its hands full",
        "More connections, or more bytes of requests, are being worked on than the server holds at once.",
        "Repeat the request after `Retry-After` seconds, with the same `Idempotency-Key`.",
    ),
    "unavailable": ProblemType(
        503,
        "A part of the service does not answer",
        "Redis or the storage cannot be reached, or the server's machine has run out of something. Nothing was lost; "
        "jobs already accepted go on afterwards.",
        "Repeat the request after `Retry-After` seconds, with the same `Idempotency-Key`.",
    ),
    "database-unknown": ProblemType(
        503,
        "Redis is not the database that was there before",
        "Redis came up empty, older than it was, or is another one. Nothing is taken, erased or answered from it until "
        "an operator has brought the known database back, or has adopted this one.",
        "Repeat the request after `Retry-After` seconds, with the same `Idempotency-Key`; tell the operator.",
    ),
    "internal": ProblemType(
        500,
        "Something went wrong in the service",
        "An error that nobody foresaw. It was logged with the request's id.",
        "Repeat the request; if it fails again, report the `request_id`.",
    ),
    # How a job can fail, in its `error`
    "generation-failed": ProblemType(
        500,
        "The video could not be made",
        "The job met an error while the video was generated, encoded or stored, as often as it may be tried.",
        "Post the request again; if it fails again, report the job's id.",
    ),
    "storage-full": ProblemType(
        507,
        "There was no room for the result",
        "The video was made, and the storage is full. Nothing of it is kept.",
        "Post the request again once the operator has made room, or erase results that are no longer needed.",
    ),
    "keyframe-lost": ProblemType(
        500,
        "The storage lost a keyframe",
        "What the storage gives in place of a keyframe is not the file that was accepted, whose SHA-256 is known, or "
        "it gives nothing. No video was made of it.",
        "Post the request again with the image itself. The operator can put the file back and set the job going again.",
    ),
    "machines-exhausted": ProblemType(
        500,
        "No machine had enough for the job",
        "Every machine that ran the job ran out of memory, of room on its disk or the like, and was well without it.",
        "Ask for a smaller or shorter video, for fewer seeds or formats, or have the operator add larger machines.",
    ),
    "quarantined": ProblemType(
        500,
        "The job ended its worker too often",
        "Every worker that took the job died with it, so the job was set aside.",
        "An operator can look at it in `GET /dead-letters` and set it going again from there.",
    ),
}


def reference() -> str:
    """Write the table of problems as Markdown."""
    lines = [
        "# Problems",
        "",
        "Every error is `application/problem+json` (RFC 9457). `type` is stable: decide by it, never by `title` or",
        "`detail`. Every refusal (4xx) names in `field` what is at fault (a member of the body, a header, a parameter,",
        "`path`, `method` or `body`) and says in `remedy` what to send instead; where several fields are at fault,",
        "`errors` lists them all. A failed job carries the same object in its `error`.",
    ]
    for slug, kind in PROBLEMS.items():
        lines += ["", f"## {slug}", "", f"**{kind.status} · {kind.title}.** {kind.meaning}", "", kind.remedy]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
