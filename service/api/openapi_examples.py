"""Request bodies and answers as the reference shows them, made of the very models that the routes use."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from mpd.methods import LIMITS
from service.api.schemas import FileView, JobView, KeyframeView, ProgressView, ResultView
from service.api.views import job_links
from service.jobs.options import InbetweenRequest, Keyframe, Options
from service.jobs.strict import Strict, Webhook

_OPTIONS = Options(method="mpd-vibid", frames=25, seed=7, formats=["mp4"])
_TWO_IMAGES = InbetweenRequest(start="https://example.com/a.jpg", end="https://example.com/b.jpg", options=_OPTIONS)
_TIMELINE = InbetweenRequest(
    keyframes=[
        Keyframe(image="https://example.com/a.jpg", frame=0),
        Keyframe(image="upload:8f14e45fceea167a5a36dedd4bea2543", frame=12),
        Keyframe(image="https://example.com/c.jpg", frame=36),
    ],
    options=Options(
        seeds=[1, 2], fps=12, webhook=Webhook(url="https://example.com/hooks/inbetween"), reference="shot-012"
    ),
)
_ID = "job_06b3k7w1v8x9n2m4q5r6s7t8v9"
_URL = f"https://api.example.com/inbetween/{_ID}"
_FILES = "https://files.example.com"


def _sent(body: Strict) -> dict[str, Any]:
    """Write a body as a client sends it: what it says, without the defaults of what it does not."""
    return body.model_dump(mode="json", exclude_unset=True)


FORM_SCHEMA: dict[str, Any] = {
    "title": "InbetweenForm",
    "type": "object",
    "description": "Two images as `start` and `end`, or more as `keyframes`. In place of a file, text with an https "
    "URL, a data URI, `upload:ID` or `job:ID/0` is taken too.",
    "additionalProperties": False,
    "properties": {
        "start": {"type": "string", "format": "binary", "description": "First keyframe."},
        "end": {"type": "string", "format": "binary", "description": "Last keyframe."},
        "keyframes": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": int(LIMITS["keyframes"].high),
            "description": "All keyframes in order, instead of `start` and `end`.",
        },
        "at": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 10000},
            "description": "Where each of `keyframes` stands on the timeline: one frame number each, from 0.",
        },
        "options": {"$ref": f"#/components/schemas/{Options.__name__}"},
    },
}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "Images and options, as a form or as JSON.",
    "content": {
        "multipart/form-data": {
            "schema": {"$ref": "#/components/schemas/InbetweenForm"},
            "encoding": {
                "options": {"contentType": "application/json"},
                "start": {"contentType": "image/*"},
                "end": {"contentType": "image/*"},
                "keyframes": {"contentType": "image/*"},
            },
            "examples": {
                "two images": {
                    "summary": "curl -F start=@a.jpg -F end=@b.jpg -F 'options={…}'",
                    "value": {
                        "start": "(contents of a.jpg)",
                        "end": "(contents of b.jpg)",
                        "options": _sent(_OPTIONS),
                    },
                }
            },
        },
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{InbetweenRequest.__name__}"},
            "examples": {
                "two images by URL": {"value": _sent(_TWO_IMAGES)},
                "a timeline": {
                    "summary": "Three keyframes at given frames, two takes, a webhook",
                    "value": _sent(_TIMELINE),
                },
            },
        },
    },
}

_AT = datetime(2026, 1, 5, 10, 0, 0, tzinfo=UTC)
_QUEUED = JobView(
    id=_ID,
    state="queued",
    priority="default",
    position=0,
    attempt=1,
    created_at=_AT,
    queued_at=_AT,
    options=_OPTIONS.normalised(),
    keyframes=[
        KeyframeView(
            url=f"{_FILES}/keyframes/{number}?signature=…",
            content_type="image/jpeg",
            width=1024,
            height=576,
            size=180_000 + number,
            sha256=hashlib.sha256(name).hexdigest(),
        )
        for number, name in enumerate((b"a.jpg", b"b.jpg"))
    ],
    cancel_requested=False,
    links=job_links(_URL, finished=False),
)
_RUNNING = _QUEUED.model_copy(
    update={
        "state": "running",
        "position": None,
        "started_at": _AT + timedelta(seconds=2),
        "progress": ProgressView(stage="sampling", fraction=0.4, step=10, steps=25, take=1, takes=1, eta=21.5),
        "eta": 21.5,
    }
)
_SUCCEEDED = _QUEUED.model_copy(
    update={
        "state": "succeeded",
        "position": None,
        "started_at": _AT + timedelta(seconds=2),
        "finished_at": _AT + timedelta(seconds=40),
        "expires_at": _AT + timedelta(days=7, seconds=40),
        "result": ResultView(
            frames=25,
            fps=7,
            width=1024,
            height=576,
            duration=round(25 / 7, 3),
            seeds=[7],
            settings=_OPTIONS.normalised(),
            files=[
                FileView(
                    name="take-1.mp4",
                    take=1,
                    format="mp4",
                    content_type="video/mp4",
                    size=812_345,
                    sha256=hashlib.sha256(b"take-1.mp4").hexdigest(),
                    url=f"{_FILES}/take-1.mp4?signature=…",
                )
            ],
        ),
        "links": job_links(_URL, finished=True),
    }
)
QUEUED, RUNNING, SUCCEEDED = (view.model_dump(mode="json") for view in (_QUEUED, _RUNNING, _SUCCEEDED))

_FOLLOW = {
    "getInbetween": {
        "operationId": "getInbetween",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Look at the job.",
    },
    "streamInbetween": {
        "operationId": "streamInbetween",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Follow it as it happens.",
    },
    "cancelInbetween": {
        "operationId": "cancelInbetween",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Stop it.",
    },
    "getVideo": {
        "operationId": "getVideo",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Download the video once it has succeeded.",
    },
}

ACCEPTED: dict[str, Any] = {
    "description": "The job is in the queue.",
    "headers": {
        "Location": {"description": "The job's URL.", "schema": {"type": "string", "format": "uri"}},
        "Retry-After": {"description": "Seconds until a look may show something new.", "schema": {"type": "integer"}},
        "Idempotent-Replayed": {
            "description": "`true` when this answer was given before, to the same `Idempotency-Key`.",
            "schema": {"type": "string"},
        },
    },
    "content": {"application/json": {"examples": {"queued": {"value": QUEUED}}}},
    "links": _FOLLOW,
}
JOB: dict[str, Any] = {
    "description": "The job as it is now.",
    "content": {
        "application/json": {
            "examples": {
                "queued": {"value": QUEUED},
                "running": {"value": RUNNING},
                "succeeded": {"value": SUCCEEDED},
            }
        }
    },
    "links": {name: link for name, link in _FOLLOW.items() if name != "getInbetween"},
}
